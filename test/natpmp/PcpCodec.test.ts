import * as Codec from "@effect-nat/natpmp/PcpCodec"
import * as ResultCode from "@effect-nat/natpmp/PcpResultCode"
import { assert, describe, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"

/** "02 01 0000 | 00001c20": groups as the RFC's diagrams have them. */
const bytes = (text: string): Uint8Array =>
  Uint8Array.from(text.match(/[0-9a-f]{2}/g) ?? [], (two) => parseInt(two, 16))

const hex = (packet: Uint8Array): string => Array.from(packet, (byte) => byte.toString(16).padStart(2, "0")).join("")

const ip = NetAddress.ipFromStringUnsafe
const nonce = Codec.nonceFromBytes(bytes("0102030405060708090a0b0c"))

const client = "0000000000000000 0000ffff c0a84d02"
const noAddress = "0000000000000000 0000ffff 00000000"
const external = "0000000000000000 0000ffff 0b162101"
const zeros = "000000000000000000000000"
const nonceField = "0102030405060708 090a0b0c"

const clientAddress = ip("192.168.77.2")
const mapping = { nonce, protocol: 6, internalPort: 12000, externalPort: 12001, externalAddress: ip("0.0.0.0") }

/** Written by hand from the diagrams of RFC 6887 §7.1, §7.3, §11.1, §12.1, §13 and §14.1. */
const requests: ReadonlyArray<readonly [name: string, packet: string, value: Codec.Request]> = [
  [
    "ANNOUNCE from 192.168.77.2",
    `02 00 0000 | 00000000 | ${client}`,
    { _tag: "AnnounceRequest", clientAddress, options: [] }
  ],
  [
    "ANNOUNCE over IPv6",
    "02 00 0000 | 00000000 | 20010db8000000000000000000000002",
    { _tag: "AnnounceRequest", clientAddress: ip("2001:db8::2"), options: [] }
  ],
  [
    "MAP TCP 12000 to 12001 for 2 hours",
    `02 01 0000 | 00001c20 | ${client} | ${nonceField} | 06 000000 | 2ee0 2ee1 | ${noAddress}`,
    { _tag: "MapRequest", clientAddress, lifetime: 7200, ...mapping, options: [] }
  ],
  [
    "MAP, delete",
    `02 01 0000 | 00000000 | ${client} | ${nonceField} | 11 000000 | 2ee0 0000 | ${noAddress}`,
    {
      _tag: "MapRequest",
      clientAddress,
      lifetime: 0,
      ...mapping,
      protocol: 17,
      externalPort: 0,
      options: []
    }
  ],
  [
    "MAP with PREFER_FAILURE and THIRD_PARTY",
    `02 01 0000 | 00001c20 | ${client} | ${nonceField} | 06 000000 | 2ee0 2ee1 | ${noAddress}
     | 02 00 0000 | 01 00 0010 | 0000000000000000 0000ffff c0a84d09`,
    {
      _tag: "MapRequest",
      clientAddress,
      lifetime: 7200,
      ...mapping,
      options: [{ _tag: "PreferFailure" }, { _tag: "ThirdParty", internalAddress: ip("192.168.77.9") }]
    }
  ],
  [
    "MAP with FILTER for 198.51.100.0/24 port 443",
    `02 01 0000 | ffffffff | ${client} | ${nonceField} | 06 000000 | 2ee0 2ee1 | ${noAddress}
     | 03 00 0014 | 00 78 01bb | 0000000000000000 0000ffff c6336400`,
    {
      _tag: "MapRequest",
      clientAddress,
      lifetime: 4294967295,
      ...mapping,
      options: [{ _tag: "Filter", prefixLength: 120, remotePeerPort: 443, remotePeerAddress: ip("198.51.100.0") }]
    }
  ],
  [
    "ANNOUNCE with an optional option of 5 bytes, padded to 8",
    `02 00 0000 | 00000000 | ${client} | 80 00 0005 | 0102030405 000000`,
    {
      _tag: "AnnounceRequest",
      clientAddress,
      options: [{ _tag: "UnknownOption", code: 128, data: bytes("0102030405") }]
    }
  ],
  [
    "PEER UDP 12000 to 198.51.100.7:3478",
    `02 02 0000 | 00000384 | ${client} | ${nonceField} | 11 000000 | 2ee0 0000 | ${noAddress}
     | 0d96 0000 | 0000000000000000 0000ffff c6336407`,
    {
      _tag: "PeerRequest",
      clientAddress,
      lifetime: 900,
      ...mapping,
      protocol: 17,
      externalPort: 0,
      remotePeerPort: 3478,
      remotePeerAddress: ip("198.51.100.7"),
      options: []
    }
  ]
]

/** Written by hand from the diagrams of RFC 6887 §7.2, §11.1, §12.1 and §14.1. */
const responses: ReadonlyArray<readonly [name: string, packet: string, value: Codec.Response]> = [
  [
    "ANNOUNCE, an hour after the start",
    `02 80 00 00 | 00000000 | 00000e10 | ${zeros}`,
    { _tag: "AnnounceResponse", epoch: 3600, options: [] }
  ],
  [
    "MAP granted",
    `02 81 00 00 | 00000e10 | 80000000 | ${zeros} | ${nonceField} | 06 000000 | 2ee0 9c40 | ${external}`,
    {
      _tag: "MapResponse",
      epoch: 2147483648,
      lifetime: 3600,
      ...mapping,
      externalPort: 40000,
      externalAddress: ip("11.22.33.1"),
      options: []
    }
  ],
  [
    "a pinhole granted, with the option processed",
    `02 81 00 00 | 00000e10 | 00000001 | ${zeros} | ${nonceField} | 06 000000 | 2ee0 2ee0
     | 20010db8000000000000000000000002 | 02 00 0000`,
    {
      _tag: "MapResponse",
      epoch: 1,
      lifetime: 3600,
      ...mapping,
      externalPort: 12000,
      externalAddress: ip("2001:db8::2"),
      options: [{ _tag: "PreferFailure" }]
    }
  ],
  [
    "PEER granted",
    `02 82 00 00 | 00000384 | 00000001 | ${zeros} | ${nonceField} | 11 000000 | 2ee0 9c40 | ${external}
     | 0d96 0000 | 0000000000000000 0000ffff c6336407`,
    {
      _tag: "PeerResponse",
      epoch: 1,
      lifetime: 900,
      ...mapping,
      protocol: 17,
      externalPort: 40000,
      externalAddress: ip("11.22.33.1"),
      remotePeerPort: 3478,
      remotePeerAddress: ip("198.51.100.7"),
      options: []
    }
  ],
  [
    "MAP refused: not authorized",
    `02 81 00 02 | 00000708 | 00000001 | ${zeros} | ${nonceField} | 06 000000 | 2ee0 2ee1 | ${noAddress}`,
    {
      _tag: "ErrorResponse",
      version: 2,
      opcode: 1,
      resultCode: 2,
      lifetime: 1800,
      epoch: 1,
      reserved: bytes(zeros),
      payload: bytes(`${nonceField} | 06 000000 | 2ee0 2ee1 | ${noAddress}`)
    }
  ],
  [
    "an opcode that nobody knows, refused as malformed",
    "02 ff 00 03 | 00000708 | 00000001 | 0000ffff c0a84d02 00000000",
    {
      _tag: "ErrorResponse",
      version: 2,
      opcode: 127,
      resultCode: 3,
      lifetime: 1800,
      epoch: 1,
      reserved: bytes("0000ffff c0a84d02 00000000"),
      payload: bytes("")
    }
  ]
]

const map = `02 01 0000 | 00001c20 | ${client} | ${nonceField} | 06 000000 | 2ee0 2ee1 | ${noAddress}`

describe("PcpCodec", () => {
  it.each(requests)("request: %s [RFC 6887 5-a, 7-b, 7.1-abd, 7.3-b, 11.1-ab, 12.1-d]", (_name, packet, value) => {
    assert.strictEqual(hex(Codec.encodeRequest(value)), hex(bytes(packet)))
    assert.deepStrictEqual(Result.getOrThrow(Codec.decodeRequest(bytes(packet))), value)
  })

  it.each(responses)("answer: %s [RFC 6887 5-a, 7-b]", (_name, packet, value) => {
    assert.strictEqual(hex(Codec.encodeResponse(value)), hex(bytes(packet)))
    assert.deepStrictEqual(Result.getOrThrow(Codec.decodeResponse(bytes(packet))), value)
  })

  it.each([
    ["", "TooShort"],
    ["02", "TooShort"],
    ["02 81", "NotARequest"],
    ["00 80", "NotARequest"],
    ["00 00", "UnsupportedVersion"],
    ["01 01 0000", "UnsupportedVersion"],
    ["02 03", "UnsupportedOpcode"],
    ["02 01", "BadLength"],
    ["02 01 0000", "TooShort"],
    [map.slice(0, -2), "BadLength"],
    [map.slice(0, -8), "TooShort"],
    [`${map} | 02 00 0001 | 00000000`, "MalformedOption"],
    [`${map} | 01 00 000c | ${zeros}`, "MalformedOption"],
    [`${map} | 03 00 0014 | 00 81 01bb | ${client}`, "MalformedOption"],
    [`${map} | 03 00 0014 | 00 18 01bb | ${client}`, "MalformedOption"],
    [`${map} | 04 00 0009 | 0000000000000000`, "MalformedOption"],
    [`${map} | 04 00 ffff | 0000000000000000`, "MalformedOption"],
    [`${map} | ${"80000000".repeat(261)}`, "BadLength"]
  ] as const)("no request: %s (%s)", (packet, kind) => {
    const failure = Result.getOrThrow(Result.flip(Codec.decodeRequest(bytes(packet))))
    assert.strictEqual(failure.kind, kind)
  })

  it.each([
    ["", "TooShort"],
    ["02 81 00", "TooShort"],
    ["02 81 0000", "TooShort"],
    ["02 01 0000", "NotAResponse"],
    ["00 81 0002 | 00000000", "UnsupportedVersion"],
    [`02 83 0000 | 00000000 00000000 ${zeros}`, "UnsupportedOpcode"],
    [`02 81 0000 | 00000000 00000000 ${zeros}`, "TooShort"],
    [`02 80 0000 | 00000000 00000000 ${zeros} 00`, "BadLength"],
    [`02 80 0000 | 00000000 00000000 ${zeros} | 02 00 0004 | 00000000`, "MalformedOption"]
  ] as const)("no answer: %s (%s) [RFC 6887 8.3-bce]", (packet, kind) => {
    const failure = Result.getOrThrow(Result.flip(Codec.decodeResponse(bytes(packet))))
    assert.strictEqual(failure.kind, kind)
  })

  it.each([
    ["NAT-PMP's unsupported version", "00 81 0001 | 00000e10", 0],
    ["version 1's, whatever follows", "01 81 0001 | ff", 1],
    ["a later version's", `03 81 0001 | 00000e10 | 00000001 | ${zeros}`, 3]
  ] as const)("reads no more than the version of %s [RFC 6887 8.3-d]", (_name, packet, version) => {
    assert.deepStrictEqual(Result.getOrThrow(Codec.decodeResponse(bytes(packet))), {
      _tag: "ErrorResponse",
      version,
      opcode: 1,
      resultCode: 1,
      lifetime: undefined,
      epoch: undefined,
      reserved: bytes(zeros),
      payload: bytes("")
    })
  })

  it("ignores reserved fields and padding", () => {
    const noise = `02 01 beef | 00001c20 | ${client} | ${nonceField} | 06 beefed | 2ee0 2ee1 | ${noAddress}
      | 80 ff 0001 | aa beefed`
    assert.deepStrictEqual(Result.getOrThrow(Codec.decodeRequest(bytes(noise))), {
      _tag: "MapRequest",
      clientAddress,
      lifetime: 7200,
      ...mapping,
      options: [{ _tag: "UnknownOption", code: 128, data: bytes("aa") }]
    })
  })

  it("reads packets that lie in the middle of a buffer", () => {
    const buffer = bytes(`ffffff | ${map} | ffffff`)
    assert.deepStrictEqual(
      Result.getOrThrow(Codec.decodeRequest(buffer.subarray(3, 63))),
      Result.getOrThrow(Codec.decodeRequest(bytes(map)))
    )
  })

  it("tells which options must be known", () => {
    assert.isTrue(Codec.isMandatory({ _tag: "PreferFailure" }))
    assert.isTrue(Codec.isMandatory({ _tag: "UnknownOption", code: 127, data: bytes("") }))
    assert.isFalse(Codec.isMandatory({ _tag: "UnknownOption", code: 128, data: bytes("") }))
  })

  it("sends a refused request back, cut off and padded, and names its mapping", () => {
    const refusal = { resultCode: 6, lifetime: 1800, epoch: 9, isParsed: false }
    const malformed = bytes(`${map} | 02 00 0001`)
    const answer = Codec.encodeResponse(Codec.refusalOf(malformed, refusal))
    assert.strictEqual(
      hex(answer),
      hex(
        bytes(
          `02 81 00 06 | 00000708 | 00000009 | 00000000 0000ffff c0a84d02 | ${nonceField} | 06 000000 | 2ee0 2ee1 | ${noAddress} | 02 00 0001`
        )
      )
    )
    const decoded = Result.getOrThrow(Codec.decodeResponse(answer))
    assert(decoded._tag === "ErrorResponse")
    assert.deepStrictEqual(Codec.mappingOf(decoded), { nonce, protocol: 6, internalPort: 12000 })
    assert.strictEqual(Codec.encodeResponse(Codec.refusalOf(new Uint8Array(5000), refusal)).length, 1100)
    assert.strictEqual(hex(Codec.encodeResponse(Codec.refusalOf(bytes("02 01 00"), refusal))).length, 48)
    assert.isUndefined(Codec.mappingOf(Codec.refusalOf(bytes(map).subarray(0, 59 - 20), refusal)))
    assert.isUndefined(Codec.mappingOf(Codec.refusalOf(bytes(`02 00 0000 00000000 ${client} ${client}`), refusal)))
  })

  const uint8 = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 255 }))
  const packet = Arbitrary.map(Arbitrary.array(Arbitrary.schema(uint8), { maxLength: 128 }), (list) =>
    Uint8Array.from(list)
  )
  /** Random bytes seldom begin like a packet, so these do. */
  const nearly = Arbitrary.map(
    Arbitrary.all({
      version: Arbitrary.schema(Schema.Literals([2, 2, 2, 2, 0, 1, 3])),
      opcode: Arbitrary.schema(Schema.Literals([0, 1, 2, 3, 127, 128, 129, 130, 131, 255])),
      resultCode: Arbitrary.schema(Schema.Literals([0, 0, 1, 2, 6, 13, 14, 255])),
      rest: packet,
      isWhole: Arbitrary.schema(Schema.Boolean)
    }),
    ({ isWhole, opcode, resultCode, rest, version }) => {
      const whole = Uint8Array.of(version, opcode, 0, resultCode, ...rest)
      return isWhole ? whole.subarray(0, whole.length - (whole.length % 4)) : whole
    }
  )
  const runs = { arbitrary: { runs: 2000 } }

  it.prop(
    "never throws, whatever the bytes",
    [packet],
    ([any]) => {
      assert.isTrue(Result.isResult(Codec.decodeRequest(any)))
      assert.isTrue(Result.isResult(Codec.decodeResponse(any)))
    },
    runs
  )

  it.prop(
    "yields only values of its schemas, and encodes them to what it decodes to them",
    [nearly],
    ([any]) => {
      const request = Codec.decodeRequest(any)
      if (Result.isSuccess(request)) {
        assert.isTrue(Schema.is(Codec.Request)(request.success))
        assert.deepStrictEqual(Codec.decodeRequest(Codec.encodeRequest(request.success)), request)
      }
      const response = Codec.decodeResponse(any)
      if (Result.isSuccess(response)) {
        assert.isTrue(Schema.is(Codec.Response)(response.success))
        assert.deepStrictEqual(Codec.decodeResponse(Codec.encodeResponse(response.success)), response)
      }
    },
    runs
  )
})

describe("PcpResultCode", () => {
  it.each([
    [1, "Unsupported"],
    [2, "NotAuthorized"],
    [3, "Unsupported"],
    [4, "Unsupported"],
    [5, "Unsupported"],
    [6, "Unsupported"],
    [7, "NoExternalAddress"],
    [8, "OutOfResources"],
    [9, "Unsupported"],
    [10, "OutOfResources"],
    [11, "Conflict"],
    [12, "Unsupported"],
    [13, "OutOfResources"],
    [14, "MalformedAnswer"],
    [255, "MalformedAnswer"]
  ] as const)("%i is %s", (resultCode, reason) => {
    const error = ResultCode.toNatError({ resultCode, version: 2, externalPort: 12001 })
    assert.strictEqual(error.reason._tag, reason)
    assert.include(error.message, String(resultCode))
  })

  it("says the port of a conflict, and the version that the gateway speaks", () => {
    const conflict = ResultCode.toNatError({ resultCode: 11, version: 2, externalPort: 12001 })
    assert(conflict.reason._tag === "Conflict")
    assert.strictEqual(conflict.reason.externalPort, 12001)
    assert.include(ResultCode.toNatError({ resultCode: 1, version: 0, externalPort: 0 }).message, "NAT-PMP")
    assert.include(ResultCode.toNatError({ resultCode: 1, version: 1, externalPort: 0 }).message, "version 1")
  })

  it("has a lifetime for each", () => {
    assert.deepStrictEqual(
      [2, 7, 8, 99].map((code) => ResultCode.lifetimeSeconds(code)),
      [1800, 30, 30, 1800]
    )
  })
})
