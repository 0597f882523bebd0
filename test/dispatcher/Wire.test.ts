import * as CloseReason from "@effect-nat/dispatcher/CloseReason"
import * as SessionId from "@effect-nat/dispatcher/SessionId"
import * as Wire from "@effect-nat/dispatcher/Wire"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { bytesOf, fromHex, hex } from "./support.ts"

const sessionId = SessionId.SessionId.make("000102030405060708090a0b0c0d0e0f")

/** Cuts bytes at the given places, taken modulo what is left. */
const cut = (bytes: Uint8Array, sizes: ReadonlyArray<number>): ReadonlyArray<Uint8Array> => {
  const chunks: Array<Uint8Array> = []
  let offset = 0
  for (const size of sizes) {
    const end = Math.min(bytes.length, offset + size)
    if (end > offset) chunks.push(bytes.slice(offset, end))
    offset = end
  }
  if (offset < bytes.length) chunks.push(bytes.slice(offset))
  return chunks
}

const decodeAll = (chunks: ReadonlyArray<Uint8Array>, maxFrameBytes: number) => {
  const decoder = new Wire.FrameDecoder(maxFrameBytes)
  const frames: Array<string> = []
  let failure: CloseReason.CloseReason | undefined
  let mostHeld = 0
  for (const chunk of chunks) {
    failure = decoder.push(chunk, (frame) => frames.push(hex(frame)))
    mostHeld = Math.max(mostHeld, decoder.heldBytes)
  }
  return { frames, failure, mostHeld }
}

// The vectors of docs/wire-protocol.md, written from its diagrams.
describe("hello", () => {
  const bare = fromHex("8e4e4154 01 00 0000 000102030405060708090a0b0c0d0e0f")
  const extended = fromHex("8e4e4154 01 00 0007 000102030405060708090a0b0c0d0e0f 0102 0003 aabbcc")

  it("has the documented bytes", () => {
    assert.strictEqual(hex(Wire.encodeHello(new Wire.Hello({ sessionId, extensions: [] }))), hex(bare))
    const extension = new Wire.Extension({ type: 0x0102, value: fromHex("aabbcc") })
    assert.strictEqual(hex(Wire.encodeHello(new Wire.Hello({ sessionId, extensions: [extension] }))), hex(extended))
  })

  it("is read from the documented bytes, and what follows is left alone", () => {
    const decoded = Wire.decodeHello(Buffer.concat([extended, bytesOf("more")]))
    assert(decoded._tag === "Complete")
    assert.strictEqual(decoded.length, 31)
    assert.strictEqual(decoded.value.sessionId, sessionId)
    assert.deepStrictEqual(
      decoded.value.extensions.map((one) => [one.type, hex(one.value)]),
      [[0x0102, "aabbcc"]]
    )
  })

  it("is incomplete at every length before its own", () => {
    for (let length = 0; length < extended.length; length++) {
      assert.strictEqual(Wire.decodeHello(extended.subarray(0, length))._tag, "Incomplete", `${length}`)
    }
  })

  it("tells other protocols by their first bytes", () => {
    for (const other of [
      bytesOf("GET / HTTP/1.1\r\n"),
      fromHex("16030100"),
      fromHex("0d0a0d0a"),
      fromHex("8e4e4155")
    ]) {
      assert.strictEqual(Wire.decodeHello(other)._tag, "Foreign")
    }
  })

  it("does not look beyond the version of a later hello", () => {
    assert.deepStrictEqual(Wire.decodeHello(fromHex("8e4e4154 02")), { _tag: "Invalid", reason: "UnsupportedVersion" })
  })

  it("ignores flags that it does not know", () => {
    const flagged = Uint8Array.from(bare)
    flagged[5] = 0xff
    assert.strictEqual(Wire.decodeHello(flagged)._tag, "Complete")
  })

  it("refuses extensions that are too long or do not fill their place", () => {
    const header = "8e4e4154 01 00"
    const id = "000102030405060708090a0b0c0d0e0f"
    const malformed = { _tag: "Invalid", reason: "Malformed" } as const
    assert.deepStrictEqual(Wire.decodeHello(fromHex(`${header} 0401 ${id}`)), malformed)
    assert.deepStrictEqual(Wire.decodeHello(fromHex(`${header} 0003 ${id} 000000`)), malformed)
    assert.deepStrictEqual(Wire.decodeHello(fromHex(`${header} 0005 ${id} 0001 0002 aa`)), malformed)
  })
})

describe("reply", () => {
  const accepted = fromHex("8e4e4154 01 00 0008 0001 0004 00100000")

  it("has the documented bytes", () => {
    assert.strictEqual(hex(Wire.encodeAccepted(new Wire.Accepted({ maxFrameBytes: 1_048_576 }))), hex(accepted))
    assert.strictEqual(hex(Wire.encodeRefused("UnknownSession")), hex(fromHex("8e4e4154 01 03 0000")))
  })

  it("is read from the documented bytes", () => {
    const decoded = Wire.decodeReply(accepted)
    assert(decoded._tag === "Complete" && decoded.value._tag === "Accepted")
    assert.strictEqual(decoded.value.maxFrameBytes, 1_048_576)
    assert.strictEqual(decoded.length, 16)
    for (let length = 0; length < accepted.length; length++) {
      assert.strictEqual(Wire.decodeReply(accepted.subarray(0, length))._tag, "Incomplete")
    }
  })

  it("is understood when a later version refuses, whatever follows", () => {
    const decoded = Wire.decodeReply(fromHex("8e4e4154 09 01 ffff 00"))
    assert(decoded._tag === "Complete" && decoded.value._tag === "Refused")
    assert.strictEqual(decoded.value.reason, "UnsupportedVersion")
    assert.strictEqual(decoded.value.version, 9)
  })

  it("may hold extensions that are not known, unless they are required", () => {
    assert.strictEqual(Wire.decodeReply(fromHex("8e4e4154 01 00 0005 0099 0001 aa"))._tag, "Complete")
    const required = Wire.decodeReply(fromHex("8e4e4154 01 00 0005 8099 0001 aa"))
    assert.deepStrictEqual(required, { _tag: "Invalid", reason: "UnsupportedExtension" })
  })

  it("of other protocols is told apart", () => {
    assert.strictEqual(Wire.decodeReply(bytesOf("HTTP/1.1 400 Bad Request"))._tag, "Foreign")
  })
})

describe("reasons", () => {
  // A code is for ever.
  it("have the documented codes", () => {
    const documented = [
      "Done",
      "UnsupportedVersion",
      "Malformed",
      "UnknownSession",
      "HandshakeTimeout",
      "TooManyHandshakes",
      "SessionFull",
      "FrameTooLarge",
      "TooSlow",
      "UnknownFrameType",
      "SessionClosed",
      "ShuttingDown",
      "UnsupportedExtension"
    ] as const
    documented.forEach((reason, code) => {
      assert.strictEqual(CloseReason.toCode(reason), code)
      assert.strictEqual(CloseReason.fromCode(code), reason)
    })
    for (let code = documented.length; code <= 255; code++) {
      assert.strictEqual(CloseReason.fromCode(code), "Unknown")
    }
  })
})

describe("frames", () => {
  const message = fromHex("00000003 01 6869")
  const close = fromHex("00000002 02 08")

  it("have the documented bytes", () => {
    assert.strictEqual(hex(Wire.encodeMessage(bytesOf("hi"))), hex(message))
    assert.strictEqual(hex(Wire.encodeMessage(new Uint8Array(0))), "0000000101")
    assert.strictEqual(hex(Wire.encodeClose("TooSlow")), hex(close))
  })

  it("are read from the documented bytes", () => {
    const decoded = Wire.decodeFrame(message)
    assert(decoded._tag === "Message")
    assert.strictEqual(hex(decoded.payload), "6869")
    assert.deepStrictEqual(Wire.decodeFrame(close), { _tag: "Close", reason: "TooSlow" })
    assert.deepStrictEqual(Wire.decodeFrame(fromHex("00000003 02 08 ff")), { _tag: "Close", reason: "TooSlow" })
    assert.deepStrictEqual(Wire.decodeFrame(fromHex("00000001 02")), { _tag: "Close", reason: "Unknown" })
    assert.deepStrictEqual(Wire.decodeFrame(fromHex("00000001 03")), { _tag: "Other", type: 3, ignorable: false })
    assert.deepStrictEqual(Wire.decodeFrame(fromHex("00000001 83")), { _tag: "Other", type: 0x83, ignorable: true })
  })

  it("without a type are malformed", () => {
    assert.strictEqual(decodeAll([fromHex("00000000")], 10).failure, "Malformed")
  })

  it("over the limit are refused as soon as their length is there, and nothing is held", () => {
    for (const length of ["0000000b", "80000000", "ffffffff"]) {
      for (const sizes of [[], [1], [2, 1]]) {
        const { failure, frames, mostHeld } = decodeAll(cut(fromHex(`${hex(message)}${length}01`), sizes), 10)
        assert.strictEqual(failure, "FrameTooLarge")
        assert.deepStrictEqual(frames, [hex(message)])
        assert.isBelow(mostHeld, 8)
      }
    }
  })

  it("at the limit are taken", () => {
    const { failure, frames } = decodeAll([Wire.encodeMessage(new Uint8Array(9))], 10)
    assert.strictEqual(failure, undefined)
    assert.strictEqual(frames.length, 1)
  })

  it("after a failure are not read any more", () => {
    const { failure, frames } = decodeAll([fromHex("00000000"), message], 10)
    assert.strictEqual(failure, "Malformed")
    assert.deepStrictEqual(frames, [])
  })
})

const Payloads = Schema.Array(Schema.Uint8Array)
const Sizes = Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 40 })))

describe("the decoder", () => {
  it.effect.prop(
    "yields the same frames for every chunking",
    [Payloads, Sizes],
    ([payloads, sizes]) =>
      Effect.sync(() => {
        const frames = payloads.map((payload) => Wire.encodeMessage(payload))
        const { failure, frames: decoded, mostHeld } = decodeAll(cut(Buffer.concat(frames), sizes), 1_048_576)
        assert.deepStrictEqual(decoded, frames.map(hex))
        assert.strictEqual(failure, undefined)
        assert.isAtMost(mostHeld, Math.max(0, ...frames.map((frame) => frame.length)))
      }),
    { arbitrary: { runs: 500 } }
  )

  it.effect.prop(
    "never throws and never holds more than its limit, whatever comes",
    [Schema.Array(Schema.Uint8Array), Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 64 }))],
    ([chunks, limit]) =>
      Effect.sync(() => {
        const { frames, mostHeld } = decodeAll(chunks, limit)
        assert.isAtMost(mostHeld, limit + 4)
        for (const frame of frames) {
          assert.isAtMost(frame.length / 2, limit + 4)
        }
      }),
    { arbitrary: { runs: 500 } }
  )

  it.effect.prop(
    "of hello and reply reads any bytes without throwing, and the same at each length",
    [Schema.Uint8Array, Schema.Boolean],
    ([noise, plausible]) =>
      Effect.sync(() => {
        const bytes = plausible ? Buffer.concat([Uint8Array.from([...Wire.magic, 1]), noise]) : noise
        for (const decode of [Wire.decodeHello, Wire.decodeReply]) {
          const outcome = decode(bytes)
          if (outcome._tag !== "Complete") continue
          assert.deepStrictEqual(decode(bytes.subarray(0, outcome.length)), outcome)
          assert.strictEqual(decode(bytes.subarray(0, outcome.length - 1))._tag, "Incomplete")
        }
      }),
    { arbitrary: { runs: 500 } }
  )

  it("copies in proportion to the bytes, even when they come one by one", () => {
    const frame = Wire.encodeMessage(new Uint8Array(200_000))
    const decoder = new Wire.FrameDecoder(1_048_576)
    let frames = 0
    for (let i = 0; i < frame.length; i++) {
      decoder.push(frame.subarray(i, i + 1), () => frames++)
    }
    assert.strictEqual(frames, 1)
  })
})
