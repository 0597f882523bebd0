import * as Codec from "@effect-nat/natpmp/NatPmpCodec"
import { assert, describe, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"

/** "00 80 | 00 00": groups as the RFC's diagrams have them. */
const bytes = (text: string): Uint8Array =>
  Uint8Array.from(text.match(/[0-9a-f]{2}/g) ?? [], (two) => parseInt(two, 16))

const hex = (packet: Uint8Array): string => Array.from(packet, (byte) => byte.toString(16).padStart(2, "0")).join("")

const address = (text: string) => Result.getOrThrow(NetAddress.ipv4FromString(text))

/** Written by hand from the diagrams of RFC 6886 §3.2 to §3.4. */
const requests: ReadonlyArray<readonly [name: string, packet: string, value: Codec.Request]> = [
  ["external address", "00 00", { _tag: "ExternalAddressRequest" }],
  [
    "map UDP 12000 to 12001 for 2 hours",
    "00 01 0000 | 2ee0 2ee1 | 00001c20",
    { _tag: "MapRequest", protocol: "udp", internalPort: 12000, externalPort: 12001, lifetime: 7200 }
  ],
  [
    "map TCP 22 to any port for a minute",
    "00 02 0000 | 0016 0000 | 0000003c",
    { _tag: "MapRequest", protocol: "tcp", internalPort: 22, externalPort: 0, lifetime: 60 }
  ],
  [
    "delete TCP 12000",
    "00 02 0000 | 2ee0 0000 | 00000000",
    { _tag: "MapRequest", protocol: "tcp", internalPort: 12000, externalPort: 0, lifetime: 0 }
  ],
  [
    "the longest lifetime",
    "00 01 0000 | ffff ffff | ffffffff",
    { _tag: "MapRequest", protocol: "udp", internalPort: 65535, externalPort: 65535, lifetime: 4294967295 }
  ]
]

/** Written by hand from the diagrams of RFC 6886 §3.2 to §3.5. */
const responses: ReadonlyArray<readonly [name: string, packet: string, value: Codec.Response]> = [
  [
    "external address 11.22.33.1, an hour after the start",
    "00 80 0000 | 00000e10 | 0b162101",
    { _tag: "ExternalAddressResponse", epoch: 3600, externalAddress: address("11.22.33.1") }
  ],
  [
    "no external address",
    "00 80 0000 | 00000001 | 00000000",
    { _tag: "ExternalAddressResponse", epoch: 1, externalAddress: address("0.0.0.0") }
  ],
  [
    "UDP 12000 mapped to 40000",
    "00 81 0000 | 80000000 | 2ee0 9c40 | 00000e10",
    {
      _tag: "MapResponse",
      protocol: "udp",
      epoch: 2147483648,
      internalPort: 12000,
      externalPort: 40000,
      lifetime: 3600
    }
  ],
  [
    "TCP 12000 deleted",
    "00 82 0000 | 000004d2 | 2ee0 0000 | 00000000",
    { _tag: "MapResponse", protocol: "tcp", epoch: 1234, internalPort: 12000, externalPort: 0, lifetime: 0 }
  ],
  [
    "map TCP 12000: not authorized",
    "00 82 0002 | 000004d2 | 2ee0 0000 | 00000000",
    { _tag: "ErrorResponse", version: 0, opcode: 2, resultCode: 2, epoch: 1234, internalPort: 12000 }
  ],
  [
    "external address: network failure",
    "00 80 0003 | 000004d2 | 00000000",
    { _tag: "ErrorResponse", version: 0, opcode: 0, resultCode: 3, epoch: 1234, internalPort: undefined }
  ]
]

describe("NatPmpCodec", () => {
  it.each(requests)("request: %s [RFC 6886 3-ab, 3.3-ab]", (_name, packet, value) => {
    assert.strictEqual(hex(Codec.encodeRequest(value)), hex(bytes(packet)))
    assert.deepStrictEqual(Result.getOrThrow(Codec.decodeRequest(bytes(packet))), value)
  })

  it.each(responses)("answer: %s [RFC 6886 3-b]", (_name, packet, value) => {
    assert.strictEqual(hex(Codec.encodeResponse(value)), hex(bytes(packet)))
    assert.deepStrictEqual(Result.getOrThrow(Codec.decodeResponse(bytes(packet))), value)
  })

  it.each([
    ["cut off after the epoch", "00 82 0004 | 000004d2", 0, 2, 4, 1234],
    // The request sent back with the response bit and the result code, where the ports take the epoch's place.
    ["an unsupported opcode, the request sent back", "00 82 0005 | 2ee0 2ee1 | 00001c20", 0, 2, 5, undefined],
    ["an unsupported version", "00 80 0001 | 000004d2", 0, 0, 1, undefined],
    [
      "a PCP gateway's unsupported version",
      "02 81 0001 | 00000e10 000004d2 | 000000000000000000000000",
      2,
      1,
      1,
      undefined
    ],
    ["a code that nobody knows", "00 80 ffff | 000004d2", 0, 0, 65535, 1234]
  ] as const)("an error: %s [RFC 6886 3.5-de]", (_name, packet, version, opcode, resultCode, epoch) => {
    assert.deepStrictEqual(Result.getOrThrow(Codec.decodeResponse(bytes(packet))), {
      _tag: "ErrorResponse",
      version,
      opcode,
      resultCode,
      epoch,
      internalPort: undefined
    })
  })

  it.each([
    ["", "TooShort"],
    ["00", "TooShort"],
    ["00 80 00", "TooShort"],
    ["00 80 0000", "TooShort"],
    ["00 80 0000 | 00000e10 | 0b1621", "TooShort"],
    ["00 81 0000 | 00000e10 | 2ee0 9c40 | 000e10", "TooShort"],
    ["00 82 0002 | 0004d2", "TooShort"],
    ["00 00 0000 | 00000e10 | 0b162101", "NotAResponse"],
    ["00 02 0000 | 2ee0 2ee1 | 00001c20", "NotAResponse"],
    ["01 80 0000 | 00000e10 | 0b162101", "UnsupportedVersion"],
    ["02 81 0000 | 00000e10 000004d2 | 000000000000000000000000", "UnsupportedVersion"],
    ["00 83 0000 | 00000e10 | 2ee0 9c40 | 00000e10", "UnsupportedOpcode"]
  ] as const)("no answer: %s (%s) [RFC 6886 3-c]", (packet, kind) => {
    const failure = Codec.decodeResponse(bytes(packet))
    assert.isTrue(Result.isFailure(failure))
    if (Result.isFailure(failure)) assert.strictEqual(failure.failure.kind, kind)
  })

  it.each([
    ["00", "TooShort"],
    ["00 01 0000 | 2ee0 2ee1 | 00001c", "TooShort"],
    ["00 80", "NotARequest"],
    ["02 80", "NotARequest"],
    ["02 01 0000 | 2ee0 2ee1 | 00001c20", "UnsupportedVersion"],
    ["00 03 0000 | 2ee0 2ee1 | 00001c20", "UnsupportedOpcode"]
  ] as const)("no request: %s (%s)", (packet, kind) => {
    const failure = Codec.decodeRequest(bytes(packet))
    assert.isTrue(Result.isFailure(failure))
    if (Result.isFailure(failure)) assert.strictEqual(failure.failure.kind, kind)
  })

  it("keeps what a gateway needs to answer a packet that it does not understand", () => {
    const failure = Result.getOrThrow(Result.flip(Codec.decodeRequest(bytes("02 07 0000"))))
    assert.deepInclude({ ...failure }, { version: 2, opcode: 7, length: 4 })
    assert.strictEqual(failure.message, "UnsupportedVersion: 4 bytes, version 2, opcode 7")
  })

  it("ignores the reserved field and what follows the packet", () => {
    assert.deepStrictEqual(Result.getOrThrow(Codec.decodeRequest(bytes("00 01 beef | 2ee0 2ee1 | 00001c20 | ff"))), {
      _tag: "MapRequest",
      protocol: "udp",
      internalPort: 12000,
      externalPort: 12001,
      lifetime: 7200
    })
    assert.deepStrictEqual(Result.getOrThrow(Codec.decodeResponse(bytes("00 80 0000 | 00000001 | 0b162101 | ffff"))), {
      _tag: "ExternalAddressResponse",
      epoch: 1,
      externalAddress: address("11.22.33.1")
    })
  })

  it("reads packets that lie in the middle of a buffer", () => {
    const buffer = bytes("ffff | 00 80 0000 | 00000e10 | 0b162101 | ffff")
    assert.deepStrictEqual(
      Result.getOrThrow(Codec.decodeResponse(buffer.subarray(2, 14))),
      Result.getOrThrow(Codec.decodeResponse(bytes("00 80 0000 | 00000e10 | 0b162101")))
    )
    assert.isTrue(Result.isFailure(Codec.decodeResponse(buffer.subarray(2, 13))))
  })

  const uint8 = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 255 }))
  const packet = Arbitrary.map(Arbitrary.array(Arbitrary.schema(uint8), { maxLength: 64 }), (list) =>
    Uint8Array.from(list)
  )
  /** Random bytes seldom begin like a packet, so most of these do. */
  const nearly = Arbitrary.map(
    Arbitrary.all({
      version: Arbitrary.schema(Schema.Literals([0, 0, 0, 1, 2])),
      opcode: Arbitrary.schema(Schema.Literals([0, 1, 2, 3, 127, 128, 129, 130, 131, 255])),
      resultCode: Arbitrary.schema(Schema.Literals([0, 1, 2, 3, 4, 5, 6, 255])),
      rest: packet
    }),
    ({ opcode, resultCode, rest, version }) => Uint8Array.of(version, opcode, 0, resultCode, ...rest)
  )
  const options = { arbitrary: { runs: 2000 } }

  it.prop(
    "never throws, whatever the bytes",
    [packet],
    ([any]) => {
      assert.isTrue(Result.isResult(Codec.decodeRequest(any)))
      assert.isTrue(Result.isResult(Codec.decodeResponse(any)))
    },
    options
  )

  it.prop(
    "never throws, and yields only values of its schemas, when the bytes nearly are a packet",
    [nearly],
    ([any]) => {
      const request = Codec.decodeRequest(any)
      if (Result.isSuccess(request)) assert.isTrue(Schema.is(Codec.Request)(request.success))
      const response = Codec.decodeResponse(any)
      if (Result.isSuccess(response)) assert.isTrue(Schema.is(Codec.Response)(response.success))
    },
    options
  )

  it.prop("decodes every request that it encodes", [Codec.Request], ([request]) => {
    assert.deepStrictEqual(Result.getOrThrow(Codec.decodeRequest(Codec.encodeRequest(request))), request)
  })

  it.prop(
    "decodes every success that it encodes",
    [Schema.Struct({ epoch: Codec.MapResponse.fields.epoch, address: Schema.Tuple([uint8, uint8, uint8, uint8]) })],
    ([{ address, epoch }]) => {
      const response: Codec.Response = {
        _tag: "ExternalAddressResponse",
        epoch,
        externalAddress: Result.getOrThrow(NetAddress.ipv4FromOctets(address))
      }
      assert.deepStrictEqual(Result.getOrThrow(Codec.decodeResponse(Codec.encodeResponse(response))), response)
    }
  )

  it.prop("decodes every mapping that it encodes", [Codec.MapResponse], ([response]) => {
    assert.deepStrictEqual(Result.getOrThrow(Codec.decodeResponse(Codec.encodeResponse(response))), response)
  })

  it.prop(
    "encodes an error to what it was decoded from, as far as the error goes",
    [nearly],
    ([any]) => {
      const error = Codec.decodeResponse(any)
      if (Result.isFailure(error) || error.success._tag !== "ErrorResponse") return
      const again = Result.getOrThrow(Codec.decodeResponse(Codec.encodeResponse(error.success)))
      const isMap = error.success.opcode === 1 || error.success.opcode === 2
      const isNamed = isMap && error.success.epoch !== undefined
      assert.deepStrictEqual(
        again,
        isNamed ? { ...error.success, internalPort: error.success.internalPort ?? 0 } : error.success
      )
    },
    options
  )
})
