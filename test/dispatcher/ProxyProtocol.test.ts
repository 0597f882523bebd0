/** Headers written by hand from the field tables of haproxy's proxy-protocol.txt, section 2.2. */
import * as ProxyProtocol from "@effect-nat/dispatcher/ProxyProtocol"
import { assert, describe, it } from "@effect/vitest"
import * as NetAddress from "effect/net/NetAddress"
import { fromHex, hex } from "./support.ts"

const signature = "0d0a0d0a 000d0a51 5549540a"

const over4 = `${signature} 21 11 000c  cb007109 c0000201  d431 2ee0`
const over6 = `${signature} 21 21 0024
  20010db8 00000000 00000000 00000009  20010db8 00010000 00000000 00000001  d431 2ee0`

const decode = (bytes: string) => ProxyProtocol.decode(fromHex(bytes))

/** What a decoder makes of them, in words. */
const read = (bytes: string): string => {
  const decoded = decode(bytes)
  if (decoded._tag !== "Complete") return decoded._tag
  const { length, value } = decoded
  const { destination, source } = value
  if (source === undefined || destination === undefined) return `unknown in ${length}`
  return `${NetAddress.formatInet(source)} to ${NetAddress.formatInet(destination)} in ${length}`
}

describe("a header of the PROXY protocol", () => {
  it("tells who has connected to which address, over IPv4 and IPv6", () => {
    assert.strictEqual(read(over4), "203.0.113.9:54321 to 192.0.2.1:12000 in 28")
    assert.strictEqual(read(over6), "[2001:db8::9]:54321 to [2001:db8:1::1]:12000 in 52")
  })

  it("knows an IPv4 peer of a socket that serves both families by its IPv4 address", () => {
    const mapped = `${signature} 21 21 0024
      00000000 00000000 0000ffff cb007109  00000000 00000000 0000ffff c0000201  d431 2ee0`
    assert.strictEqual(read(mapped), "203.0.113.9:54321 to 192.0.2.1:12000 in 52")
  })

  it("ends before what comes after it, and skips what a forwarder adds to the addresses", () => {
    assert.strictEqual(read(`${over4} 8e4e4154`), "203.0.113.9:54321 to 192.0.2.1:12000 in 28")
    // ALPN "h2" (type 1) and an unknown type of three bytes.
    const added = `${signature} 21 11 0017  cb007109 c0000201  d431 2ee0  01 0002 6832  e7 0003 aabbcc`
    assert.strictEqual(read(added), "203.0.113.9:54321 to 192.0.2.1:12000 in 39")
  })

  it("leaves unknown what it does not say, or what is not TCP over IP", () => {
    assert.strictEqual(read(`${signature} 20 00 0000`), "unknown in 16")
    assert.strictEqual(read(`${signature} 21 00 0000`), "unknown in 16")
    // A connection of the forwarder's own: family and addresses are of no account, only skipped.
    assert.strictEqual(read(`${signature} 20 11 000c  cb007109 c0000201  d431 2ee0`), "unknown in 28")
    assert.strictEqual(read(`${signature} 20 ff 0002  aabb`), "unknown in 18")
    assert.strictEqual(read(`${signature} 21 12 000c  cb007109 c0000201  d431 2ee0`), "unknown in 28")
    assert.strictEqual(read(`${signature} 21 22 0024 ${"00".repeat(36)}`), "unknown in 52")
    assert.strictEqual(read(`${signature} 21 31 00d8 ${"2f".repeat(216)}`), "unknown in 232")
    assert.strictEqual(read(`${signature} 21 32 00d8 ${"2f".repeat(216)}`), "unknown in 232")
  })

  it("is waited for as long as it may still become one", () => {
    for (const whole of [fromHex(over4), fromHex(over6)]) {
      for (let length = 0; length < whole.length; length++) {
        assert.strictEqual(ProxyProtocol.decode(whole.subarray(0, length))._tag, "Incomplete", `${length} bytes`)
      }
    }
  })

  it("is refused as soon as it cannot become one", () => {
    const refused = {
      "another signature": "0d0a0d0a 000d0a51 5549540b",
      "its text form": hex(new TextEncoder().encode("PROXY TCP4 203.0.113.9 192.0.2.1 54321 12000\r\n")),
      "no signature at all": "16",
      "version 1": `${signature} 11`,
      "command 2": `${signature} 22`,
      "family 4": `${signature} 21 41`,
      "transport 3": `${signature} 21 13`,
      "a family without a transport": `${signature} 21 10`,
      "addresses that do not fit": `${signature} 21 11 000b`,
      "IPv6 addresses that do not fit": `${signature} 21 21 0023`,
      "more than is taken": `${signature} 21 11 0ff1`
    }
    for (const [what, bytes] of Object.entries(refused)) assert.strictEqual(decode(bytes)._tag, "Invalid", what)
    assert.strictEqual(decode(`${signature} 21 11 0ff0`)._tag, "Incomplete")
    assert.strictEqual(read(`${signature} 20 00 0ff0 ${"00".repeat(0xff0)}`), "unknown in 4096")
  })

  it("is written as it is read", () => {
    const inet = NetAddress.inetAddressFromStringUnsafe
    const written = (source: string, destination: string) =>
      hex(ProxyProtocol.encode({ source: inet(source), destination: inet(destination) }))
    const bare = (text: string) => text.replaceAll(/\s/g, "")
    assert.strictEqual(written("203.0.113.9:54321", "192.0.2.1:12000"), bare(over4))
    assert.strictEqual(written("[2001:db8::9]:54321", "[2001:db8:1::1]:12000"), bare(over6))
    assert.strictEqual(
      written("203.0.113.9:54321", "[2001:db8:1::1]:12000"),
      bare(`${signature} 21 21 0024
        00000000 00000000 0000ffff cb007109  20010db8 00010000 00000000 00000001  d431 2ee0`)
    )
    assert.strictEqual(
      hex(ProxyProtocol.encode({ source: undefined, destination: undefined })),
      bare(`${signature} 21 00 0000`)
    )
  })
})
