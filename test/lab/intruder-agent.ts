/**
 * Somebody on the wan who has no capability, and a recording of somebody else's handshake: `ADDRESS INVITATION`. Prints
 * what came of each thing that was tried, as one line of JSON.
 *
 * The invitation is used once, by the member whose handshake is recorded.
 */
import * as Capability from "@effect-nat/core/Capability"
import * as SessionId from "@effect-nat/core/SessionId"
import * as CapabilityProof from "@effect-nat/dispatcher/CapabilityProof"
import * as Invitation from "@effect-nat/dispatcher/Invitation"
import * as Wire from "@effect-nat/dispatcher/Wire"
import { NetAddress } from "effect/net"
import { randomBytes } from "node:crypto"
import * as Net from "node:net"

const [address = "", word = ""] = process.argv.slice(2)

const target = NetAddress.inetAddressFromStringUnsafe(address)
const host = NetAddress.formatIp(target.address)

const [sessionText = "", capabilityText = ""] = word.split(".")
const good = new Invitation.Invitation({
  sessionId: SessionId.SessionId.make(sessionText),
  capability: Capability.Capability.make(capabilityText)
})

/** Says the first thing, then what follows from the answer, and gives everything that came until the other side ended. */
const talk = (first: Uint8Array, next: (challenge: Uint8Array) => Uint8Array | undefined) =>
  new Promise<Buffer>((resolve) => {
    let received = Buffer.alloc(0)
    let hasGoneOn = false
    const socket = Net.connect({ host, port: target.port }, () => {
      socket.write(first)
      if (first.length < Wire.helloLength) socket.end()
    })
    socket.on("error", () => {})
    socket.on("data", (chunk) => {
      received = Buffer.concat([received, chunk])
      if (hasGoneOn || received.length < Wire.challengeLength) return
      hasGoneOn = true
      const more = next(received)
      if (more === undefined) socket.end()
      else socket.write(more)
      // A member that has come in says nothing more.
      setTimeout(() => socket.end(), 300)
    })
    socket.on("end", () => socket.end())
    socket.on("close", () => resolve(received))
  })

/** In words: refused and why, welcome, or nothing. */
const outcomeOf = (bytes: Buffer): string => {
  const reply = Wire.decodeReply(new Uint8Array(bytes))
  if (reply._tag !== "Complete") return "nothing"
  if (reply.value._tag === "Refused") return reply.value.reason
  const rest = new Uint8Array(bytes).subarray(reply.length)
  if (rest.length < Wire.headerLength) return "challenged"
  const frame = Wire.decodeFrame(rest.subarray(0, Wire.endOf(rest, 0)))
  return frame._tag === "Close" ? frame.reason : frame._tag
}

const helloOf = ({ capability, sessionId }: Invitation.Invitation, nonce: Uint8Array) =>
  Wire.encodeHello(
    new Wire.Hello({ sessionId, capabilityName: CapabilityProof.name(capability), nonce, extensions: [] })
  )

const nonce = new Uint8Array(randomBytes(CapabilityProof.proofLength))

const proofOf = (capability: Capability.Capability, sessionId: SessionId.SessionId) => (challenge: Uint8Array) =>
  CapabilityProof.prove(capability, {
    side: "client",
    sessionId: SessionId.toBytes(sessionId),
    clientNonce: nonce,
    routerNonce: challenge.slice(8, 24)
  })

const attempt = async (invitation: Invitation.Invitation) =>
  outcomeOf(await talk(helloOf(invitation, nonce), proofOf(invitation.capability, invitation.sessionId)))

const guessed = Capability.Capability.make(randomBytes(16).toString("hex"))
const other = (sessionId: string, capability = guessed) =>
  new Invitation.Invitation({ sessionId: SessionId.SessionId.make(sessionId), capability })

// What a member says, as somebody on its way hears it.
let recordedProof = new Uint8Array(0)
const hello = helloOf(good, nonce)
const member = await talk(hello, (challenge) => {
  recordedProof = new Uint8Array(proofOf(good.capability, good.sessionId)(challenge))
  return recordedProof
})
const recording = new Uint8Array([...hello, ...recordedProof])

const truncated = new Set<string>()
for (let length = 0; length < recording.length; length += 3) {
  const part = recording.subarray(0, length)
  truncated.add(
    outcomeOf(
      await talk(part.subarray(0, hello.length), () =>
        part.length > hello.length ? part.subarray(hello.length) : undefined
      )
    )
  )
}

console.log(
  JSON.stringify({
    member: outcomeOf(member),
    created: await attempt(other("a".repeat(32))),
    joined: await attempt(other(good.sessionId)),
    controlled: await attempt(other("0".repeat(32))),
    controlledByMember: await attempt(other("0".repeat(32), good.capability)),
    replayed: outcomeOf(await talk(hello, () => recordedProof)),
    replayedAtOnce: outcomeOf(await talk(recording, () => new Uint8Array(1))),
    truncated: Array.from(truncated).toSorted()
  })
)
