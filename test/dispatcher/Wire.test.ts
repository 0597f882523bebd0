import * as CloseReason from "@effect-nat/dispatcher/CloseReason"
import type * as Facet from "@effect-nat/dispatcher/Facet"
import * as ProxyProtocol from "@effect-nat/dispatcher/ProxyProtocol"
import * as SessionId from "@effect-nat/core/SessionId"
import * as Wire from "@effect-nat/dispatcher/Wire"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import * as Schema from "effect/Schema"
import * as Fs from "node:fs"
import * as Zlib from "node:zlib"
import { bytesOf, fromHex, hex, nameOf, proofOf } from "./support.ts"

/** What the examples of docs/wire-protocol.md have in common. */
const shared = {
  sessionId: "000102030405060708090a0b0c0d0e0f",
  capability: "ffeeddccbbaa99887766554433221100",
  clientNonce: "101112131415161718191a1b1c1d1e1f",
  routerNonce: "202122232425262728292a2b2c2d2e2f",
  join: "303132333435363738393a3b3c3d3e3f",
  send: "404142434445464748494a4b4c4d4e4f",
  leave: "505152535455565758595a5b5c5d5e5f",
  heartbeat: "606162636465666768696a6b6c6d6e6f",
  reply: "707172737475767778797a7b7c7d7e7f",
  life: "a0a1a2a3a4a5a6a7"
}

const none = "00000000000000000000000000000000"

/** The examples of docs/wire-protocol.md, by their names there. */
const vectors = {
  "capability name": "34c30816221f12ca",
  "router's proof": "719e45981d4eda0a45a70ed3897a0182",
  "client's proof": "798e8038e328106c9d63c369603dd88f",
  hello: `8e4e4154 01 00 0000 ${shared.sessionId} 34c30816221f12ca ${shared.clientNonce}`,
  "hello with an extension": `8e4e4154 01 00 0007 ${shared.sessionId} 34c30816221f12ca ${shared.clientNonce}
    0102 0003 aabbcc`,
  challenge: `8e4e4154 01 00 0000 ${shared.routerNonce} 719e45981d4eda0a45a70ed3897a0182`,
  refusal: "8e4e4154 01 03 0000",
  "PROXY header": "0d0a0d0a 000d0a51 5549540a 21 11 000c cb007109 c0000201 d431 2ee0",
  welcome: `00000090 a2e310c7 01 00000000000007 00000000000f4240 00100000 ${shared.life}
    ${shared.join} ${shared.send} ${none} ${none} ${none} ${shared.leave} ${none}`,
  join: `00000014 00000000 ${shared.join}`,
  resume: `00000024 23bb5812 ${shared.join} 0000000000000005 ${shared.life}`,
  joined: "00000015 d202ef8d 02 00000000000007 00000000000f4240 00",
  resumed: "00000015 a505df1b 02 00000000000007 00000000000f4240 01",
  send: `00000016 d8932aac ${shared.send} 6869`,
  message: "00000016 d8932aac 03 00000000000008 00000000000f433a 6869",
  heartbeat: `00000018 3b9e0b61 ${shared.heartbeat} 00000014`,
  tick: "00000014 00000000 04 00000000000008 000000000016e360",
  serve: `00000028 77516fcf 05 00000000000008 000000000016e360 ${shared.reply} 00000000`,
  "snapshot part": `00000029 f1c5351f ${shared.reply} 0000000000000008 00000005 00000000 7374617465`,
  snapshot: "00000029 f1c5351f 06 00000000000008 000000000016e3c4 0000000000000008 00000005 00000000 7374617465",
  "no snapshot": "00000015 d202ef8d 07 00000000000008 000000000016e3c4 00",
  time: "00000016 b6cc4292 08 00000000000008 0000000000186a00 0102",
  close: "00000015 dcd967bf 09 00000000000008 00000000001e8480 08"
} as const

const vector = (name: keyof typeof vectors): Uint8Array => fromHex(vectors[name])

const is = (bytes: Uint8Array, name: keyof typeof vectors) => assert.strictEqual(hex(bytes), hex(vector(name)), name)

const sessionId = SessionId.SessionId.make(shared.sessionId)
const facet = (name: "join" | "send" | "leave" | "heartbeat" | "reply") => fromHex(shared[name])
const life = fromHex(shared.life)
const at = (sequence: number, stamp: number) => ({ sequence, stamp })
const state = { sequence: 8, size: 5, offset: 0, data: bytesOf("state") }

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

const decodeAll = (chunks: ReadonlyArray<Uint8Array>, maxDataBytes: number) => {
  const decoder = new Wire.FrameDecoder(maxDataBytes)
  const frames: Array<string> = []
  let failure: CloseReason.CloseReason | undefined
  let mostHeld = 0
  for (const chunk of chunks) {
    failure = decoder.push(chunk, (bytes, start, end) => frames.push(hex(bytes.subarray(start, end))))
    mostHeld = Math.max(mostHeld, decoder.heldBytes)
  }
  return { frames, failure, mostHeld }
}

const malformed = { _tag: "Invalid", reason: "Malformed" } as const

describe("the documented examples", () => {
  it("have the checksums and proofs that others compute", () => {
    is(nameOf(shared.capability), "capability name")
    const [client, router] = [fromHex(shared.clientNonce), fromHex(shared.routerNonce)]
    is(proofOf(shared.capability, "router", shared.sessionId, client, router), "router's proof")
    is(proofOf(shared.capability, "client", shared.sessionId, client, router), "client's proof")
    let checked = 0
    for (const [name, text] of Object.entries(vectors)) {
      const bytes = fromHex(text)
      if (bytes[0] !== 0) continue
      const view = new DataView(bytes.buffer)
      assert.strictEqual(view.getUint32(0), bytes.length - 4, name)
      assert.strictEqual(view.getUint32(4), Zlib.crc32(bytes.subarray(24)), name)
      checked++
    }
    assert.strictEqual(checked, 15)
  })

  it("are those of the page", () => {
    // What follows is shown, and compared, by the beacon's and the control's own tests.
    const [page = ""] = Fs.readFileSync(new URL("../../docs/wire-protocol.md", import.meta.url), "utf8").split(
      /^## (?:The beacon|Control)$/m
    )
    // An example begins at the margin, and goes on below where the line is too long.
    const examples = [...page.matchAll(/^```\n([^`]*)^```$/gm)]
      .flatMap(([, block = ""]) => block.replaceAll(/\n +/g, " ").trim().split("\n"))
      .map((example) => example.replaceAll(" ", ""))
    const { "capability name": _name, "router's proof": _proof, ...whole } = vectors
    const expected = Object.values(whole).map((text) => text.replaceAll(/\s/g, ""))
    assert.deepStrictEqual(examples.toSorted(), expected.toSorted())
  })
})

describe("a forwarder's header", () => {
  it("has the documented bytes", () => {
    const [source, destination] = ["203.0.113.9:54321", "192.0.2.1:12000"].map((text) =>
      NetAddress.inetAddressFromStringUnsafe(text)
    )
    is(ProxyProtocol.encode({ source, destination }), "PROXY header")
  })
})

describe("hello", () => {
  const of = (extensions: ReadonlyArray<Wire.Extension>) =>
    new Wire.Hello({
      sessionId,
      capabilityName: vector("capability name"),
      nonce: fromHex(shared.clientNonce),
      extensions
    })

  it("has the documented bytes", () => {
    is(Wire.encodeHello(of([])), "hello")
    is(
      Wire.encodeHello(of([new Wire.Extension({ type: 0x0102, value: fromHex("aabbcc") })])),
      "hello with an extension"
    )
  })

  it("is read from the documented bytes, and what follows is left alone", () => {
    const decoded = Wire.decodeHello(Buffer.concat([vector("hello with an extension"), bytesOf("more")]))
    assert(decoded._tag === "Complete")
    assert.strictEqual(decoded.length, 55)
    assert.strictEqual(decoded.value.sessionId, sessionId)
    is(decoded.value.capabilityName, "capability name")
    assert.strictEqual(hex(decoded.value.nonce), shared.clientNonce)
    assert.deepStrictEqual(
      decoded.value.extensions.map((one) => [one.type, hex(one.value)]),
      [[0x0102, "aabbcc"]]
    )
  })

  it("is incomplete at every length before its own", () => {
    const extended = vector("hello with an extension")
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
    const flagged = vector("hello")
    flagged[5] = 0xff
    assert.strictEqual(Wire.decodeHello(flagged)._tag, "Complete")
  })

  it("refuses extensions that are too long or do not fill their place, as soon as that can be seen", () => {
    assert.deepStrictEqual(Wire.decodeHello(fromHex("8e4e4154 01 00 0401")), malformed)
    const rest = hex(vector("hello").subarray(8))
    assert.deepStrictEqual(Wire.decodeHello(fromHex(`8e4e4154 01 00 0003 ${rest} 000000`)), malformed)
    assert.deepStrictEqual(Wire.decodeHello(fromHex(`8e4e4154 01 00 0005 ${rest} 0001 0002 aa`)), malformed)
    const longest = `8e4e4154 01 00 0400 ${rest} 0001 03fc ${"00".repeat(1020)}`
    assert.strictEqual(Wire.decodeHello(fromHex(longest))._tag, "Complete")
  })

  it("knows which extensions must not be skipped", () => {
    const value = new Uint8Array(0)
    assert.isFalse(Wire.isRequired(new Wire.Extension({ type: 0x7fff, value })))
    assert.isTrue(Wire.isRequired(new Wire.Extension({ type: 0x8000, value })))
  })
})

describe("the reply", () => {
  const challenge = new Wire.Challenge({
    nonce: fromHex(shared.routerNonce),
    proof: vector("router's proof"),
    extensions: []
  })

  it("has the documented bytes", () => {
    is(Wire.encodeChallenge(challenge), "challenge")
    is(Wire.encodeRefused("UnknownSession"), "refusal")
  })

  it("is read from the documented bytes", () => {
    const bytes = vector("challenge")
    const decoded = Wire.decodeReply(Buffer.concat([bytes, bytesOf("more")]))
    assert(decoded._tag === "Complete" && decoded.value._tag === "Challenge")
    assert.strictEqual(hex(decoded.value.nonce), shared.routerNonce)
    is(decoded.value.proof, "router's proof")
    assert.strictEqual(decoded.length, 40)
    for (let length = 0; length < bytes.length; length++) {
      assert.strictEqual(Wire.decodeReply(bytes.subarray(0, length))._tag, "Incomplete", `${length}`)
    }
  })

  it("is understood when a later version refuses, whatever follows", () => {
    const decoded = Wire.decodeReply(fromHex("8e4e4154 09 01 ffff 00"))
    assert(decoded._tag === "Complete" && decoded.value._tag === "Refused")
    assert.strictEqual(decoded.value.reason, "UnsupportedVersion")
    assert.strictEqual(decoded.value.version, 9)
    assert.strictEqual(decoded.length, 8)
  })

  it("may hold extensions that are not known, unless they are required", () => {
    const rest = hex(vector("challenge").subarray(8))
    assert.strictEqual(Wire.decodeReply(fromHex(`8e4e4154 01 00 0005 ${rest} 0099 0001 aa`))._tag, "Complete")
    const required = Wire.decodeReply(fromHex(`8e4e4154 01 00 0005 ${rest} 8099 0001 aa`))
    assert.deepStrictEqual(required, { _tag: "Invalid", reason: "UnsupportedExtension" })
    assert.deepStrictEqual(Wire.decodeReply(fromHex("8e4e4154 01 00 0401")), malformed)
  })

  it("of other protocols and later versions is told apart", () => {
    assert.strictEqual(Wire.decodeReply(bytesOf("HTTP/1.1 400 Bad Request"))._tag, "Foreign")
    assert.deepStrictEqual(Wire.decodeReply(fromHex("8e4e4154 02 00 0000")), {
      _tag: "Invalid",
      reason: "UnsupportedVersion"
    })
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
      "UnsupportedExtension",
      "NotGranted",
      "UnknownFacet",
      "BadChecksum",
      "TooManyConnections",
      "Revoked"
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

describe("requests", () => {
  it("have the documented bytes", () => {
    is(Wire.encodeRequest(facet("join")), "join")
    is(Wire.encodeRequest(facet("join"), Wire.encodeResume(5, life)), "resume")
    is(Wire.encodeRequest(facet("send"), bytesOf("hi")), "send")
    is(Wire.encodeRequest(facet("heartbeat"), fromHex("00000014")), "heartbeat")
    is(Wire.encodeRequest(facet("reply"), Wire.encodeSnapshotPart(state)), "snapshot part")
  })

  it("hold what a member that comes back has, and nothing else is taken for it", () => {
    const data = vector("resume").subarray(24)
    const resume = Wire.decodeResume(data)
    assert(resume !== undefined)
    assert.strictEqual(resume.sequence, 5)
    assert.strictEqual(hex(resume.life), shared.life)
    for (const wrong of [data.subarray(1), Buffer.concat([data, data]), new Uint8Array(0), new Uint8Array(17)]) {
      assert.strictEqual(Wire.decodeResume(wrong), undefined)
    }
    assert.strictEqual(Wire.decodeResume(Wire.encodeResume(2 ** 52 + 1, life))?.sequence, 2 ** 52 + 1)
  })

  it("hold parts of snapshots that lie within the size that they tell", () => {
    assert.deepStrictEqual(Wire.decodeSnapshotPart(vector("snapshot part").slice(24)), state)
    const part = (size: string, offset: string, data: string) =>
      Wire.decodeSnapshotPart(fromHex(`0000000000000001 ${size} ${offset} ${data}`))
    assert.strictEqual(part("00000000", "00000000", "")?.size, 0)
    assert.strictEqual(part("00000004", "00000002", "aabb")?.offset, 2)
    assert.strictEqual(part("00000003", "00000002", "aabb"), undefined)
    assert.strictEqual(part("00000002", "00000002", "aa"), undefined)
    assert.strictEqual(part("00000004", "00000000", ""), undefined)
    assert.strictEqual(part("00000000", "00000001", ""), undefined)
    assert.strictEqual(part("ffffffff", "ffffffff", "aa"), undefined)
    for (let length = 0; length < 16; length++) {
      assert.strictEqual(Wire.decodeSnapshotPart(new Uint8Array(length)), undefined)
    }
  })
})

describe("frames", () => {
  const granted = { join: facet("join"), send: facet("send"), leave: facet("leave") }

  it("have the documented bytes", () => {
    is(Wire.encodeWelcome(at(7, 1_000_000), granted, life, 1_048_576), "welcome")
    is(Wire.encodeFrame(Wire.frameTypes.Joined, at(7, 1_000_000), Uint8Array.of(0)), "joined")
    is(Wire.encodeFrame(Wire.frameTypes.Joined, at(7, 1_000_000), Uint8Array.of(1)), "resumed")
    is(Wire.encodeFrame(Wire.frameTypes.Tick, at(8, 1_500_000)), "tick")
    is(Wire.encodeServe(at(8, 1_500_000), facet("reply"), 0), "serve")
    const part = Wire.encodeSnapshotPart(state)
    is(Wire.encodeFrame(Wire.frameTypes.Snapshot, at(8, 1_500_100), part), "snapshot")
    is(Wire.encodeNoSnapshot(at(8, 1_500_100), "NoServer"), "no snapshot")
    is(Wire.encodeFrame(Wire.frameTypes.Time, at(8, 1_600_000), Uint8Array.of(1, 2)), "time")
    is(Wire.encodeClose(at(8, 2_000_000), "TooSlow"), "close")
  })

  it("of messages and snapshots are the requests with a header written over, wherever they stand", () => {
    const sent = Buffer.concat([bytesOf("..."), vector("send")])
    Wire.stampFrame(sent, 3, Wire.frameTypes.Message, 8, 1_000_250)
    is(sent.subarray(3), "message")
    const part = vector("snapshot part")
    Wire.stampFrame(part, 0, Wire.frameTypes.Snapshot, 8, 1_500_100)
    is(part, "snapshot")
  })

  it("are read from the documented bytes", () => {
    const read = (name: keyof typeof vectors) => Wire.decodeFrame(vector(name))
    assert.deepStrictEqual(read("welcome"), {
      ...at(7, 1_000_000),
      _tag: "Welcome",
      facets: granted,
      life,
      maxDataBytes: 1_048_576
    })
    assert.deepStrictEqual(read("joined"), { ...at(7, 1_000_000), _tag: "Joined", isResumed: false })
    assert.deepStrictEqual(read("resumed"), { ...at(7, 1_000_000), _tag: "Joined", isResumed: true })
    assert.deepStrictEqual(read("message"), { ...at(8, 1_000_250), _tag: "Message", data: bytesOf("hi") })
    assert.deepStrictEqual(read("tick"), { ...at(8, 1_500_000), _tag: "Tick" })
    assert.deepStrictEqual(read("serve"), { ...at(8, 1_500_000), _tag: "Serve", replyFacet: facet("reply"), offset: 0 })
    assert.deepStrictEqual(read("snapshot"), { ...at(8, 1_500_100), _tag: "Snapshot", part: state })
    assert.deepStrictEqual(read("no snapshot"), { ...at(8, 1_500_100), _tag: "NoSnapshot", reason: "NoServer" })
    assert.deepStrictEqual(read("time"), { ...at(8, 1_600_000), _tag: "Time", echo: fromHex("0102") })
    assert.deepStrictEqual(read("close"), { ...at(8, 2_000_000), _tag: "Close", reason: "TooSlow" })
  })

  it("count and tell the time beyond 32 bits", () => {
    const far = at(2 ** 52 + 3, 2 ** 52 + 5)
    const bytes = Wire.encodeFrame(Wire.frameTypes.Tick, far)
    assert.strictEqual(hex(bytes.subarray(8)), "04100000000000030010000000000005")
    assert.deepStrictEqual(Wire.decodeFrame(bytes), { ...far, _tag: "Tick" })
  })

  it("may grow at their end, and be of types that are not known", () => {
    const longer = (type: number, data: string) => Wire.decodeFrame(Wire.encodeFrame(type, at(1, 2), fromHex(data)))
    assert.deepInclude(longer(Wire.frameTypes.Close, "08ff"), { _tag: "Close", reason: "TooSlow" })
    assert.deepInclude(longer(Wire.frameTypes.Close, "ee"), { _tag: "Close", reason: "Unknown" })
    assert.deepInclude(longer(Wire.frameTypes.Close, ""), { _tag: "Close", reason: "Unknown" })
    assert.deepInclude(longer(Wire.frameTypes.Joined, "01ff"), { _tag: "Joined", isResumed: true })
    assert.deepInclude(longer(Wire.frameTypes.Tick, "ff"), { _tag: "Tick" })
    assert.deepInclude(longer(Wire.frameTypes.Serve, `${shared.reply}00000007ff`), { _tag: "Serve", offset: 7 })
    assert.deepInclude(longer(Wire.frameTypes.NoSnapshot, "01ff"), { _tag: "NoSnapshot", reason: "NoAnswer" })
    assert.deepInclude(longer(Wire.frameTypes.NoSnapshot, "ee"), { _tag: "NoSnapshot", reason: "NoAnswer" })
    const welcome = `${hex(vector("welcome").subarray(24))}ffff`
    assert.deepInclude(longer(Wire.frameTypes.Welcome, welcome), { _tag: "Welcome", maxDataBytes: 1_048_576 })
    assert.deepInclude(longer(0x10, "ff"), { _tag: "Other", isIgnorable: false })
    assert.deepInclude(longer(0x90, "ff"), { _tag: "Other", isIgnorable: true })
  })

  it("that lack a part are malformed", () => {
    const frame = (type: number, data: Uint8Array) => Wire.decodeFrame(Wire.encodeFrame(type, at(1, 2), data))
    const short: ReadonlyArray<readonly [number, number]> = [
      [Wire.frameTypes.Welcome, 123],
      [Wire.frameTypes.Joined, 0],
      [Wire.frameTypes.Serve, 19],
      [Wire.frameTypes.Snapshot, 15]
    ]
    for (const [type, length] of short) {
      assert.deepInclude(frame(type, new Uint8Array(length)), malformed)
    }
    assert.deepInclude(frame(Wire.frameTypes.Snapshot, Wire.encodeSnapshotPart({ ...state, size: 4 })), malformed)
  })

  it("that are damaged are not read, whichever bit of data or checksum it is", () => {
    const damaged = (bit: number) => {
      const bytes = vector("message")
      bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      return bytes
    }
    // The header is not covered: the router writes it, and TCP has a checksum too.
    const isHeader = (bit: number) => bit >= 64 && bit < 192
    for (let bit = 32; bit < vector("message").length * 8; bit++) {
      const frame = Wire.decodeFrame(damaged(bit))
      const isBad = frame._tag === "Invalid" && frame.reason === "BadChecksum"
      assert.strictEqual(isBad, !isHeader(bit), `${bit}`)
    }
  })
})

describe("the decoder", () => {
  const message = vector("message")

  it("refuses what is shorter than a header", () => {
    for (const length of ["00000000", "00000001", "00000013"]) {
      assert.strictEqual(decodeAll([fromHex(`${length} ${"00".repeat(40)}`)], 100).failure, "Malformed")
    }
    assert.strictEqual(decodeAll([Wire.encodeRequest(facet("join"))], 0).frames.length, 1)
  })

  it("refuses what is over the limit as soon as its length is there, and holds nothing of it", () => {
    for (const length of ["0000001f", "80000000", "ffffffff"]) {
      for (const sizes of [[], [1], [2, 1], [26, 1, 1, 1]]) {
        const { failure, frames, mostHeld } = decodeAll(cut(fromHex(`${hex(message)}${length}01`), sizes), 10)
        assert.strictEqual(failure, "FrameTooLarge")
        assert.deepStrictEqual(frames, [hex(message)])
        assert.isAtMost(mostHeld, message.length)
      }
    }
  })

  it("takes what is at the limit", () => {
    const { failure, frames } = decodeAll([Wire.encodeRequest(facet("send"), new Uint8Array(10))], 10)
    assert.strictEqual(failure, undefined)
    assert.strictEqual(frames.length, 1)
  })

  it("reads nothing after a failure", () => {
    const decoder = new Wire.FrameDecoder(10)
    let frames = 0
    assert.strictEqual(
      decoder.push(fromHex("00000000"), () => frames++),
      "Malformed"
    )
    assert.strictEqual(
      decoder.push(message, () => frames++),
      "Malformed"
    )
    assert.strictEqual(frames, 0)
    assert.strictEqual(decoder.heldBytes, 0)
  })

  it("hands out what lies within a chunk without a copy, and what it put together for good", () => {
    const chunk = new Uint8Array(Buffer.concat([message, message]))
    const seen: Array<readonly [Uint8Array, number, number]> = []
    const decoder = new Wire.FrameDecoder(10)
    decoder.push(chunk, (bytes, start, end) => seen.push([bytes, start, end]))
    assert.deepStrictEqual(
      seen.map(([bytes, start, end]) => [bytes === chunk, start, end]),
      [
        [true, 0, 26],
        [true, 26, 52]
      ]
    )
    decoder.push(chunk.subarray(0, 9), () => assert.fail("too early"))
    decoder.push(new Uint8Array(Buffer.concat([message.subarray(9), bytesOf("..")])), (bytes, start, end) =>
      seen.push([bytes, start, end])
    )
    decoder.push(fromHex("00000000 00000000 00000000 00000000"), () => {})
    const [bytes, start, end] = seen[2] ?? []
    assert.strictEqual(hex((bytes ?? chunk).subarray(start, end)), hex(message))
  })

  it.effect.prop(
    "yields the same frames for every chunking",
    [Schema.Array(Schema.Uint8Array), Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 40 })))],
    ([payloads, sizes]) =>
      Effect.sync(() => {
        const frames = payloads.map((payload) => Wire.encodeRequest(facet("send"), payload))
        const { failure, frames: decoded, mostHeld } = decodeAll(cut(Buffer.concat(frames), sizes), 1_048_576)
        assert.deepStrictEqual(decoded, frames.map(hex))
        assert.strictEqual(failure, undefined)
        assert.isAtMost(mostHeld, Math.max(0, ...frames.map((frame) => frame.length)))
      }),
    { arbitrary: { runs: 500 } }
  )

  it.effect.prop(
    "never throws and never holds more than its limit, whatever comes",
    [
      Schema.Array(Schema.Uint8Array),
      Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 64 })),
      Schema.Int.check(Schema.isBetween({ minimum: 18, maximum: 90 }))
    ],
    ([chunks, limit, announced]) =>
      Effect.sync(() => {
        // Noise alone hardly ever begins with a length that is taken.
        const noise = [Uint8Array.of(0, 0, 0, announced), ...chunks]
        const { frames, mostHeld } = decodeAll(noise, limit)
        assert.isAtMost(mostHeld, limit + Wire.headerLength)
        for (const frame of frames) {
          assert.isAtMost(frame.length / 2, limit + Wire.headerLength)
        }
      }),
    { arbitrary: { runs: 500 } }
  )

  it.effect.prop(
    "of hello and reply reads any bytes without throwing, and the same at each length",
    [Schema.Uint8Array, Schema.Boolean],
    ([noise, plausible]) =>
      Effect.sync(() => {
        const bytes = plausible ? Buffer.concat([Uint8Array.from([...Wire.magic, 1, 0, 0, 0]), noise]) : noise
        for (const decode of [Wire.decodeHello, Wire.decodeReply]) {
          const outcome = decode(bytes)
          if (outcome._tag !== "Complete") continue
          assert.deepStrictEqual(decode(bytes.subarray(0, outcome.length)), outcome)
          assert.strictEqual(decode(bytes.subarray(0, outcome.length - 1))._tag, "Incomplete")
        }
      }),
    { arbitrary: { runs: 500 } }
  )

  it.effect.prop(
    "of whole frames reads any data of any type without throwing",
    [Schema.Uint8Array, Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 12 }))],
    ([noise, type]) =>
      Effect.sync(() => {
        const { _tag, sequence, stamp } = Wire.decodeFrame(Wire.encodeFrame(type, at(3, 4), noise))
        assert.deepStrictEqual([sequence, stamp], [3, 4])
        if (type === 0 || type > 9) assert.strictEqual(_tag, "Other")
        assert.isString(Wire.decodeFrame(noise)._tag)
        Wire.decodeResume(noise)
        Wire.decodeSnapshotPart(noise)
      }),
    { arbitrary: { runs: 500 } }
  )

  it.effect.prop(
    "of a welcome yields the facets that were granted, in their places",
    [Schema.Array(Schema.Literals(["join", "send", "sync", "heartbeat", "beServer", "leave", "timeStamp"]))],
    ([names]) =>
      Effect.sync(() => {
        const facets: { [F in Facet.Facet]?: Uint8Array } = {}
        names.forEach((name, index) => {
          facets[name] = new Uint8Array(16).fill(index + 1)
        })
        const read = Wire.decodeFrame(Wire.encodeWelcome(at(0, 0), facets, life, 1000))
        assert(read._tag === "Welcome")
        assert.deepStrictEqual(read.facets, facets)
      })
  )

  it("copies in proportion to the bytes, even when they come one by one", () => {
    const frame = Wire.encodeRequest(facet("send"), new Uint8Array(200_000))
    const decoder = new Wire.FrameDecoder(1_048_576)
    let frames = 0
    for (let i = 0; i < frame.length; i++) {
      decoder.push(frame.subarray(i, i + 1), () => frames++)
    }
    assert.strictEqual(frames, 1)
  })
})
