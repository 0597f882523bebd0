/** The decoders of NAT-PMP and PCP, and both ends of their port. */
import type * as MappingRequest from "@effect-nat/core/MappingRequest"
import * as PortMapper from "@effect-nat/core/PortMapper"
import type * as PortMapping from "@effect-nat/core/PortMapping"
import * as NatPmpCodec from "@effect-nat/natpmp/NatPmpCodec"
import * as Pcp from "@effect-nat/natpmp/Pcp"
import * as PcpClient from "@effect-nat/natpmp/PcpClient"
import * as PcpCodec from "@effect-nat/natpmp/PcpCodec"
import * as PcpResponder from "@effect-nat/testing/PcpResponder"
import * as RouterModel from "@effect-nat/testing/RouterModel"
import * as SimulatedNetwork from "@effect-nat/testing/SimulatedNetwork"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Metric from "effect/Metric"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import * as Decoder from "./decoder.ts"
import * as Inputs from "./inputs.ts"
import type { Random } from "./inputs.ts"
import { hex, hexFrame, valueOf } from "./parts.ts"
import * as Values from "./values.ts"

const natPmpTokens = hex("00", "80", "0081 0000", "0001 0000", "0002 0000 2ee0 2ee1 00001c20", "ffff", "00000e10", "02")

const natPmpRequest = Decoder.make<NatPmpCodec.Request>({
  name: "nat-pmp request",
  maximumBytes: Number.POSITIVE_INFINITY,
  read: (bytes) => valueOf(NatPmpCodec.decodeRequest(bytes), (error) => error instanceof NatPmpCodec.DecodeError),
  write: NatPmpCodec.encodeRequest,
  value: (random) =>
    random.chance(0.2)
      ? { _tag: "ExternalAddressRequest" }
      : {
          _tag: "MapRequest",
          protocol: random.pick(["tcp", "udp"]),
          internalPort: Values.uint16(random),
          externalPort: Values.uint16(random),
          lifetime: Values.uint32(random)
        },
  comesBack: "at once",
  tokens: natPmpTokens,
  frames: [hexFrame("0002"), hexFrame("")]
})

const natPmpError = (random: Random): NatPmpCodec.Response => {
  const resultCode = random.pick([1, 2, 3, 4, 5, 6, 255, 65535])
  const isFraming = resultCode === 1 || resultCode === 5
  const opcode = random.pick([0, 1, 2, 3, 127])
  return {
    _tag: "ErrorResponse",
    version: resultCode === 1 ? Values.uint8(random) : 0,
    opcode,
    resultCode,
    epoch: isFraming ? undefined : Values.uint32(random),
    internalPort: isFraming || (opcode !== 1 && opcode !== 2) ? undefined : Values.uint16(random)
  }
}

const natPmpResponse = Decoder.make<NatPmpCodec.Response>({
  name: "nat-pmp answer",
  maximumBytes: Number.POSITIVE_INFINITY,
  read: (bytes) => valueOf(NatPmpCodec.decodeResponse(bytes), (error) => error instanceof NatPmpCodec.DecodeError),
  write: NatPmpCodec.encodeResponse,
  value: (random): NatPmpCodec.Response => {
    const epoch = Values.uint32(random)
    switch (random.between(0, 2)) {
      case 0:
        return natPmpError(random)
      case 1:
        return { _tag: "ExternalAddressResponse", epoch, externalAddress: Values.ipv4(random) }
      default:
        return {
          _tag: "MapResponse",
          protocol: random.pick(["tcp", "udp"]),
          epoch,
          internalPort: Values.uint16(random),
          externalPort: Values.uint16(random),
          lifetime: Values.uint32(random)
        }
    }
  },
  // An error that was cut off before its port goes out whole.
  comesBack: "the second time",
  tokens: natPmpTokens,
  frames: [hexFrame("0081 0000 00000e10"), hexFrame("0080"), hexFrame("")]
})

const pcpTokens = hex(
  "02",
  "00000000",
  "0201 0000",
  "0281 0000",
  "0280 0000 00000000 00000e10 000000000000000000000000",
  "0000000000000000 0000ffff c0a84d02",
  "02000000",
  "80000000",
  "80000001 01000000",
  "8000 0008 0102030405060708",
  "0100 0010 0000000000000000 0000ffff c0a84d09",
  "0300 0014 00800000 0000000000000000 0000ffff c6336407",
  "0300 0014 00600000 20010db8 00000000 00000000 00000001",
  "7f00 0000",
  "0000 ffff",
  "0000 0004"
)

const nonce = (random: Random): PcpCodec.Nonce => PcpCodec.nonceFromBytes(Inputs.bytesOf(random, 12))

const pcpOption = (random: Random): PcpCodec.PcpOption => {
  switch (random.between(0, 3)) {
    case 0:
      return { _tag: "PreferFailure" }
    case 1:
      return { _tag: "ThirdParty", internalAddress: Values.ip(random) }
    case 2: {
      const remotePeerAddress = Values.ip(random)
      const shortest = NetAddress.isIpv4Address(remotePeerAddress) ? 96 : 1
      const prefixLength = random.pick([0, 128, random.between(shortest, 128)])
      return { _tag: "Filter", prefixLength, remotePeerPort: Values.uint16(random), remotePeerAddress }
    }
    default:
      return {
        _tag: "UnknownOption",
        code: random.pick([0, random.between(4, 255)]),
        data: Inputs.bytesOf(random, random.between(0, 40))
      }
  }
}

const pcpMapping = (random: Random) => ({
  nonce: nonce(random),
  protocol: random.pick([0, 6, 17, 132, 255]),
  internalPort: Values.uint16(random),
  externalPort: Values.uint16(random),
  externalAddress: Values.ip(random),
  lifetime: Values.uint32(random)
})

const pcpPeer = (random: Random) => ({
  ...pcpMapping(random),
  remotePeerPort: Values.uint16(random),
  remotePeerAddress: Values.ip(random)
})

const pcpRequestValue = (random: Random): PcpCodec.Request => {
  const common = { clientAddress: Values.ip(random), options: Values.list(random, 5, pcpOption) }
  switch (random.between(0, 2)) {
    case 0:
      return { _tag: "AnnounceRequest", ...common }
    case 1:
      return { _tag: "MapRequest", ...common, ...pcpMapping(random) }
    default:
      return { _tag: "PeerRequest", ...common, ...pcpPeer(random) }
  }
}

const pcpRequest = Decoder.make<PcpCodec.Request>({
  name: "pcp request",
  maximumBytes: PcpCodec.maximumBytes,
  read: (bytes) => valueOf(PcpCodec.decodeRequest(bytes), (error) => error instanceof PcpCodec.DecodeError),
  write: PcpCodec.encodeRequest,
  value: pcpRequestValue,
  comesBack: "at once",
  tokens: pcpTokens,
  frames: [hexFrame("0200 0000 00000000 0000000000000000 0000ffff c0a84d02"), hexFrame("0201"), hexFrame("")]
})

const pcpError = (random: Random): PcpCodec.Response => {
  const version = random.pick([2, 2, 0, 1, 3])
  const isOurs = version === 2
  return {
    _tag: "ErrorResponse",
    version,
    opcode: random.between(0, 127),
    resultCode: isOurs ? random.between(1, 255) : 1,
    lifetime: isOurs ? Values.uint32(random) : undefined,
    epoch: isOurs ? Values.uint32(random) : undefined,
    reserved: isOurs ? Inputs.bytesOf(random, 12) : new Uint8Array(12),
    payload: isOurs ? Inputs.bytesOf(random, 4 * random.between(0, 30)) : new Uint8Array(0)
  }
}

const pcpResponse = Decoder.make<PcpCodec.Response>({
  name: "pcp answer",
  maximumBytes: Number.POSITIVE_INFINITY,
  read: (bytes) => valueOf(PcpCodec.decodeResponse(bytes), (error) => error instanceof PcpCodec.DecodeError),
  write: PcpCodec.encodeResponse,
  value: (random) => {
    const common = { epoch: Values.uint32(random), options: Values.list(random, 5, pcpOption) }
    switch (random.between(0, 3)) {
      case 0:
        return pcpError(random)
      case 1:
        return { _tag: "AnnounceResponse", ...common }
      case 2:
        return { _tag: "MapResponse", ...common, ...pcpMapping(random) }
      default:
        return { _tag: "PeerResponse", ...common, ...pcpPeer(random) }
    }
  },
  comesBack: "at once",
  longestRead: PcpCodec.maximumBytes,
  // Of another version only the first bytes are read, however long it is.
  also: (bytes, value) => {
    if (bytes.length > PcpCodec.maximumBytes && value !== undefined && bytes[0] === PcpCodec.version) {
      throw new Error(`accepted ${bytes.length} bytes`)
    }
  },
  tokens: pcpTokens,
  frames: [hexFrame("0280 0000 00000000 00000e10 000000000000000000000000"), hexFrame("0281 0002"), hexFrame("")]
})

const host = NetAddress.ipFromStringUnsafe("192.168.77.2")
const guest = NetAddress.ipFromStringUnsafe("2001:db8:77::2")
const held = PcpCodec.nonceFromBytes(Uint8Array.of(7))

/** Whoever a PCP request says that it is from: one of these two. */
const sourceOf = (bytes: Uint8Array): NetAddress.IpAddress => (bytes[8] === 0x20 ? guest : host)

/** A router that has something of everything, for the nonce of whoever asks in these tests and for another's. */
const usedRouter = (): RouterModel.RouterModel => {
  const model = new RouterModel.RouterModel()
  const map = { via: "pcp", client: host, internalAddress: host, externalPort: 12_001, mayChoosePort: true } as const
  model.map(0, { ...map, protocol: "tcp", internalPort: 12_000, lifetimeSeconds: 600, nonce: held })
  model.map(0, { ...map, protocol: "udp", internalPort: 12_000, lifetimeSeconds: 600, nonce: "0".repeat(24) })
  return model
}

/** The same datagram once more meets the router as the first one left it. */
const answersOf = (bytes: Uint8Array): ReadonlyArray<Uint8Array> => {
  const model = usedRouter()
  const answers = [1000, 2000].map((now) =>
    PcpResponder.respondToBoth(model, now, bytes, sourceOf(bytes), { thirdParty: true })
  )
  const updates = model.entries(2000).map((entry) => PcpResponder.mappingUpdate(model, 2000, entry))
  return [...answers, ...updates].filter((answer) => answer !== undefined)
}

const answerableRequest = (random: Random): Uint8Array => {
  const request = pcpRequestValue(random)
  const clientAddress = random.pick([host, guest])
  if (request._tag === "AnnounceRequest") return PcpCodec.encodeRequest({ ...request, clientAddress })
  const nonce = random.chance(0.5) ? held : request.nonce
  return PcpCodec.encodeRequest({ ...request, clientAddress, nonce, protocol: random.pick([6, 17, request.protocol]) })
}

const isReadable = (answer: Uint8Array): boolean =>
  answer[0] === NatPmpCodec.version
    ? Result.isSuccess(NatPmpCodec.decodeResponse(answer))
    : Result.isSuccess(PcpCodec.decodeResponse(answer))

/** A router's whole answer to any datagram on port 5351, and what it then says unasked: what its client can read. */
const simulatedRouter = Decoder.make<Uint8Array>({
  name: "port 5351 router",
  maximumBytes: Number.POSITIVE_INFINITY,
  read: (bytes) => PcpResponder.respondToBoth(usedRouter(), 1000, bytes, sourceOf(bytes), { thirdParty: true }),
  write: (bytes) => bytes,
  value: (random) => (random.chance(0.5) ? answerableRequest(random) : natPmpRequest.message(random)),
  comesBack: "not checked",
  isOneWay: true,
  longestRead: PcpCodec.maximumBytes,
  also: (bytes) => {
    if (!answersOf(bytes).every(isReadable)) throw new Error("the router says what its client cannot read")
  },
  tokens: [...pcpTokens, ...natPmpTokens],
  frames: pcpRequest.frames
})

const wanted: MappingRequest.MappingRequest = { protocol: "tcp", internalPort: 12_000, externalPort: 12_001 }

/** What the strategy makes of a mapping when these bytes are all that comes from its gateway: as answers, and unasked. */
const mappedBy = (bytes: Uint8Array): PortMapping.PortMapping | undefined => {
  const network = SimulatedNetwork.make({ seed: 1 })
  const lan = network.addLan({ network: "192.168.77.0/24" })
  const address = NetAddress.ipFromStringUnsafe("192.168.77.1")
  network.addAppliance({
    lan,
    address,
    devices: [{ onDatagram: ({ to }) => (to.port === PcpCodec.serverPort ? [{ payload: bytes }] : undefined) }]
  })
  const client = network.addHost({ attachments: [{ lan, address: host }], gateways: [address] })
  const said = {
    host: client,
    payload: bytes,
    from: NetAddress.inetAddressUnsafe(address, PcpCodec.serverPort),
    to: NetAddress.inetAddressUnsafe(host, PcpCodec.clientPort)
  }
  const defects: Array<unknown> = []
  const program = Effect.gen(function* () {
    const mapper = yield* PortMapper.PortMapper
    const mapping = yield* mapper.map(wanted)
    yield* Effect.sleep("2 seconds")
    network.inject(said)
    yield* Effect.sleep("10 seconds")
    return yield* mapping.current
  }).pipe(
    Effect.scoped,
    Effect.catchTag("NatError", () => Effect.succeed(undefined)),
    Effect.provide(Pcp.layerWith({ requestTimeout: "1 second" })),
    Effect.provideService(PcpClient.NonceSource, Effect.succeed(held)),
    // Nobody waits for what most fibers come to.
    Effect.provideService(Metric.FiberRuntimeMetrics, {
      recordFiberStart: () => {},
      recordFiberEnd: (_, exit) => {
        if (Exit.isFailure(exit) && Cause.hasDies(exit.cause)) defects.push(Cause.squash(exit.cause))
      }
    })
  )
  const mapped = Effect.runSync(network.run(client.start(), program))
  if (defects.length > 0) throw defects[0]
  return mapped
}

/** An answer to what is wanted, or nearly. */
const answerToWish = (random: Random): Uint8Array =>
  PcpCodec.encodeResponse({
    _tag: "MapResponse",
    epoch: Values.uint32(random),
    options: Values.list(random, 2, pcpOption),
    ...pcpMapping(random),
    nonce: held,
    protocol: 6,
    internalPort: 12_000
  })

/** The strategy, whatever its gateway says. */
const pcpStrategy = Decoder.make<Uint8Array>({
  name: "port 5351 host",
  maximumBytes: Number.POSITIVE_INFINITY,
  read: (bytes) => (mappedBy(bytes) === undefined ? undefined : bytes),
  write: (bytes) => bytes,
  value: answerToWish,
  comesBack: "not checked",
  isOneWay: true,
  longestRead: PcpCodec.maximumBytes,
  tokens: [...pcpTokens, ...natPmpTokens],
  frames: pcpResponse.frames
})

export const gatewayDecoders: ReadonlyArray<Decoder.Decoder> = [
  natPmpRequest,
  natPmpResponse,
  pcpRequest,
  pcpResponse,
  simulatedRouter,
  pcpStrategy
]
