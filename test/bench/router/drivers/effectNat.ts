/** The wire of this library's message router: over TCP as it is, over WebSocket with each request a message. */
import * as CapabilityProof from "@effect-nat/dispatcher/CapabilityProof"
import * as Checksum from "@effect-nat/core/Checksum"
import * as Invitation from "@effect-nat/dispatcher/Invitation"
import * as SessionId from "@effect-nat/core/SessionId"
import * as Wire from "@effect-nat/dispatcher/Wire"
import * as Result from "effect/Result"
import * as Crypto from "node:crypto"
import * as Zlib from "node:zlib"
import * as Inlet from "../inlet.ts"
import type * as Member from "../member.ts"
import * as Payload from "../payload.ts"
import * as Batch from "./batch.ts"
import type * as Driver from "./driver.ts"
import * as WebSocket from "./webSocket.ts"

const random = (length: number): Uint8Array => new Uint8Array(Crypto.randomBytes(length))

/** Node's own is faster for what is long, and costs more to call. */
const checksum = (bytes: Uint8Array, from: number, to: number): number =>
  to - from < 512 ? Checksum.crc32(bytes, from, to) : Zlib.crc32(bytes.subarray(from, to))

const twoTo32 = 0x1_0000_0000

/** From the first byte to where messages come. */
class Handshake {
  readonly invitation: Invitation.Invitation
  readonly nonce = random(CapabilityProof.proofLength)
  send: Uint8Array = new Uint8Array(0)

  constructor(word: string) {
    this.invitation = Result.getOrThrow(Invitation.fromString(word))
  }

  hello(): Uint8Array {
    const { capability, sessionId } = this.invitation
    const capabilityName = CapabilityProof.name(capability)
    return Wire.encodeHello(new Wire.Hello({ sessionId, capabilityName, nonce: this.nonce, extensions: [] }))
  }

  proof(challenge: Wire.Challenge): Uint8Array {
    const { capability, sessionId } = this.invitation
    const nonces = { clientNonce: this.nonce, routerNonce: challenge.nonce }
    return CapabilityProof.prove(capability, { side: "client", sessionId: SessionId.toBytes(sessionId), ...nonces })
  }

  /** The answer to the welcome. */
  join(facets: Wire.Facets): Uint8Array {
    this.send = facets.send ?? this.send
    return Wire.encodeRequest(facets.join ?? this.send)
  }
}

const makeReader = (member: Member.Member, handshake: Handshake, write: (bytes: Uint8Array) => void) => {
  const whole = Wire.headerLength + member.run.template.length
  const length = whole - Wire.lengthFieldLength
  const type = Wire.frameTypes.Message << 24
  let isChallenged = false

  const readChallenge = (from: number, to: number): number => {
    const reply = Wire.decodeReply(Inlet.bytes.slice(from, to))
    if (reply._tag === "Incomplete") return from
    if (reply._tag !== "Complete" || reply.value._tag !== "Challenge") {
      member.fail(`no challenge: ${JSON.stringify(reply)}`)
      return to
    }
    isChallenged = true
    write(handshake.proof(reply.value))
    return from + reply.length
  }

  const readOther = (at: number, to: number): number => {
    if (to - at < Wire.lengthFieldLength) return at
    const end = Wire.endOf(Inlet.bytes, at)
    if (end > to) return at
    const frame = Wire.decodeFrame(Inlet.bytes.slice(at, end))
    if (frame._tag === "Welcome") write(handshake.join(frame.facets))
    else if (frame._tag === "Joined") {
      member.next = frame.sequence + 1
      member.onReady()
    } else member.fail(`unexpected: ${JSON.stringify(frame)}`)
    return end
  }

  const readFrames = (from: number, to: number): number => {
    const { view } = Inlet
    let at = from
    while (to - at >= whole && view.getUint32(at) === length && (view.getUint32(at + 8) & 0xff00_0000) === type) {
      const sequence = (view.getUint32(at + 8) & 0xff_ffff) * twoTo32 + view.getUint32(at + 12)
      const data = at + Wire.headerLength
      if (member.isDecoded && Zlib.crc32(Inlet.bytes.subarray(data, at + whole)) !== view.getUint32(at + 4)) {
        member.fail(`message ${sequence} has a wrong checksum`)
      }
      member.take(sequence, data)
      at += whole
    }
    return at
  }

  return (from: number, to: number): number => {
    let at = isChallenged ? from : readChallenge(from, to)
    if (!isChallenged) return at
    for (;;) {
      at = readFrames(at, to)
      const next = readOther(at, to)
      if (next === at) return at
      at = next
      // A message is read above; what is left of the handshake comes one at a time.
    }
  }
}

/** The bytes of requests, each behind so many bytes of its own: none over TCP. */
const makeEncoder = (
  member: Member.Member,
  handshake: Handshake,
  prefix: Uint8Array,
  mask: typeof WebSocket.maskBytes
) => {
  let batch: Batch.Batch | undefined
  const start = prefix.length
  const end = start + Wire.headerLength + member.run.template.length
  return (first: number, count: number, sentAt: number): Uint8Array => {
    batch ??= new Batch.Batch(Buffer.concat([prefix, Wire.encodeRequest(handshake.send, member.run.template)]))
    return batch.make(count, (bytes, view, at, index) => {
      const data = at + start + Wire.headerLength
      Payload.write(view, data, first + index, sentAt)
      view.setUint32(at + start + 4, checksum(bytes, data, at + end))
      mask(bytes, at + start, at + end)
    })
  }
}

const nothing = new Uint8Array(0)
const noMask = () => {}

export const overTcp = (member: Member.Member): Driver.Driver => {
  const handshake = new Handshake(member.session)
  return {
    open: () => member.write(handshake.hello()),
    read: makeReader(member, handshake, (bytes) => member.write(bytes)),
    encode: makeEncoder(member, handshake, nothing, noMask)
  }
}

export const overWebSocket = (member: Member.Member): Driver.Driver => {
  const handshake = new Handshake(member.session)
  const { bytes, headerLength } = WebSocket.frame(Wire.headerLength + member.run.template.length)
  const write = (data: Uint8Array) => {
    const { bytes, headerLength } = WebSocket.frame(data.length)
    bytes.set(data, headerLength)
    WebSocket.maskBytes(bytes, headerLength, bytes.length)
    member.write(bytes)
  }
  const readFrames = makeReader(member, handshake, write)
  let isOpen = false
  /** What is to come of the message that has begun. */
  let due = 0
  /** What came before and is no whole frame yet: a message may end within one. */
  let left: Uint8Array = nothing

  const readMessages = (from: number, to: number): number => {
    let at = from
    while (at < to) {
      if (due === 0) {
        const header = WebSocket.headerLengthAt(at, to)
        if (header === 0) return at
        if (!WebSocket.isBinary(at)) member.fail("a message that is not binary")
        due = WebSocket.dataLengthAt(at)
        at += header
      }
      const end = Math.min(to, at + due)
      due -= end - at
      // What stands there has been read.
      const start = at - left.length
      Inlet.bytes.set(left, start)
      const rest = readFrames(start, end)
      left = rest === end ? nothing : Inlet.bytes.slice(rest, end)
      at = end
    }
    return at
  }

  return {
    open: () => member.write(WebSocket.request("/")),
    read: (from, to) => {
      if (isOpen) return readMessages(from, to)
      const end = WebSocket.responseEnd(from, to, (detail) => member.fail(detail))
      if (end === undefined) return from
      isOpen = true
      write(handshake.hello())
      return readMessages(end, to)
    },
    encode: makeEncoder(member, handshake, bytes.subarray(0, headerLength), WebSocket.maskBytes)
  }
}
