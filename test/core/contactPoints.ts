/** Contact points for tests: one with everything in it, and arbitrary ones. */
import * as Capability from "@effect-nat/core/Capability"
import * as ContactPoint from "@effect-nat/core/ContactPoint"
import * as SessionId from "@effect-nat/core/SessionId"
import * as NetAddress from "effect/net/NetAddress"
import * as Schema from "effect/Schema"

const inet = NetAddress.inetAddressFromStringUnsafe

export const full = new ContactPoint.ContactPoint({
  version: 1,
  name: "island",
  internal: [inet("192.168.77.2:12000"), inet("[fd00::2]:12000")],
  external: [
    new ContactPoint.ExternalAddress({ address: inet("11.22.33.1:12001"), verification: "confirmed" }),
    new ContactPoint.ExternalAddress({ address: inet("[2001:db8::2]:12000"), verification: "configured" })
  ],
  sessions: [
    new ContactPoint.Session({
      id: SessionId.SessionId.make("000102030405060708090a0b0c0d0e0f"),
      role: "scene",
      capabilities: [Capability.Capability.make("ffeeddccbbaa99887766554433221100")]
    }),
    new ContactPoint.Session({
      id: SessionId.SessionId.make("101112131415161718191a1b1c1d1e1f"),
      role: "content",
      capabilities: []
    })
  ],
  viewpoint: "the plaza",
  instance: ContactPoint.InstanceId.make("202122232425262728292a2b2c2d2e2f"),
  lifetime: 3600,
  fingerprint: ContactPoint.Fingerprint.make("ab".repeat(32)),
  control: Capability.Capability.make("0123456789abcdef0123456789abcdef")
})

const Word = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 0xffff }))

/** Addresses have no arbitrary of their own: eight words make an IPv6 address, the first two an IPv4 address. */
const Endpoint = Schema.Struct({
  words: Schema.Tuple([Word, Word, Word, Word, Word, Word, Word, Word]),
  isIpv6: Schema.Boolean,
  port: Word,
  verification: ContactPoint.Verification
})

const Session = Schema.Struct({
  id: SessionId.SessionId,
  role: ContactPoint.Role,
  capabilities: Schema.Array(Capability.Capability).check(Schema.isMaxLength(8))
})

/** What `make` makes a contact point of. */
export const Parts = Schema.Struct({
  name: ContactPoint.Name,
  internal: Schema.Array(Endpoint).check(Schema.isMaxLength(32)),
  external: Schema.Array(Endpoint).check(Schema.isMaxLength(16)),
  sessions: Schema.Array(Session).check(Schema.isMaxLength(64)),
  viewpoint: Schema.optional(ContactPoint.Name),
  instance: Schema.optional(ContactPoint.InstanceId),
  lifetime: Schema.optional(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 0xffff_ffff }))),
  fingerprint: Schema.optional(ContactPoint.Fingerprint),
  control: Schema.optional(Capability.Capability)
})

const addressOf = ({ isIpv6, port, words }: typeof Endpoint.Type) => {
  const bytes = Uint8Array.from(words.flatMap((word) => [word >> 8, word & 0xff]))
  return NetAddress.inetAddressUnsafe(
    isIpv6 ? NetAddress.ipv6FromBytesUnsafe(bytes) : NetAddress.ipv4FromBytesUnsafe(bytes.subarray(0, 4)),
    port
  )
}

export const make = (parts: typeof Parts.Type): ContactPoint.ContactPoint =>
  ContactPoint.make({
    ...parts,
    internal: parts.internal.map(addressOf),
    external: parts.external.map(
      (one) => new ContactPoint.ExternalAddress({ address: addressOf(one), verification: one.verification })
    ),
    sessions: parts.sessions.map((one) => new ContactPoint.Session(one))
  })
