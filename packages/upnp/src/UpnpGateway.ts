/**
 * A gateway that speaks UPnP: described, and, once the service to use is known, ready to map ports.
 *
 * @since 0.1.0
 */
import * as Gateway from "@effect-nat/core/Gateway"
import * as Http from "@effect-nat/core/Http"
import * as Ipv4Scope from "@effect-nat/core/Ipv4Scope"
import * as NatError from "@effect-nat/core/NatError"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import * as DeviceDescription from "./DeviceDescription.ts"
import type * as HttpUrl from "./HttpUrl.ts"
import * as HttpFailure from "./internal/httpFailure.ts"
import type * as SoapClient from "./SoapClient.ts"
import type * as SsdpSearch from "./SsdpSearch.ts"
import * as WanIpConnection from "./WanIpConnection.ts"

/**
 * A gateway whose description is known.
 *
 * @category models
 * @since 0.1.0
 */
export interface Described {
  readonly gateway: Gateway.Gateway
  readonly location: HttpUrl.HttpUrl
  readonly device: DeviceDescription.Device
  /** Grows whenever the device restarts (BOOTID.UPNP.ORG); `undefined` where it does not say. */
  readonly bootId: number | undefined
  /** The services that map ports, the likeliest first; at least one. */
  readonly wanServices: ReadonlyArray<DeviceDescription.WanService>
}

/**
 * A gateway with the service to use.
 *
 * @category models
 * @since 0.1.0
 */
export interface Usable extends Described {
  /** Calls the gateway. Its other services are called by the same client, so that no two calls overlap. */
  readonly client: SoapClient.SoapClient
  readonly connection: WanIpConnection.WanIpConnection
  /** Whether the service has been asked and has answered; one that is the only one of its gateway need not be. */
  readonly hasAnswered: boolean
  /**
   * Whether another service may be better than this one: it did not answer in time, and this one is not known to lead to
   * the world.
   */
  readonly isDoubtful: boolean
  /** As the gateway reported it when it was chosen; `undefined` where it has none or was not asked. */
  readonly externalAddress: NetAddress.IpAddress | undefined
  /** Whether its line was up when it was chosen; taken for granted of an only service. */
  readonly isConnected: boolean
}

/**
 * How long fetching a description may take, connection included.
 *
 * @category defaults
 * @since 0.1.0
 */
export const descriptionTimeout: Duration.Duration = Duration.seconds(4)

/** Where there are several, each costs two calls; real gateways have one or two. */
const maximumWanServices = 4

const fetchDescription = Effect.fnUntraced(function* (location: HttpUrl.HttpUrl) {
  const what = `description at ${NetAddress.formatInet(location.address)}`
  const http = yield* Http.Http
  const response = yield* http
    .request({
      method: "GET",
      address: location.address,
      path: location.path,
      maxBytes: DeviceDescription.maximumBytes
    })
    .pipe(
      Effect.mapError((error) => HttpFailure.toNatError(error, what)),
      Effect.timeoutOrElse({
        duration: descriptionTimeout,
        orElse: () => Effect.fail(HttpFailure.timedOut(what, descriptionTimeout))
      })
    )
  if (response.status === 200) return response
  return yield* malformed(`${what}: HTTP status ${response.status}`)
})

const malformed = (detail: string) => NatError.fromReason(new NatError.MalformedAnswer({ detail }))

const model = (device: DeviceDescription.Device): string | undefined => {
  const text = [device.manufacturer, device.modelName].filter((part) => part !== "").join(" ")
  return text === "" ? undefined : text
}

const toGateway = (
  device: DeviceDescription.Device,
  answer: SsdpSearch.Answer,
  localAddress: NetAddress.IpAddress
): Gateway.Gateway =>
  new Gateway.Gateway({
    name: device.friendlyName === "" ? NetAddress.formatIp(answer.from) : device.friendlyName,
    address: answer.from,
    method: "upnp",
    localAddress,
    id: device.udn === "" ? undefined : device.udn,
    model: model(device)
  })

/**
 * A device, and this host's own address on the way to it.
 *
 * @category models
 * @since 0.1.0
 */
export interface FetchedDevice {
  readonly device: DeviceDescription.Device
  readonly localAddress: NetAddress.IpAddress
}

/**
 * Fetches and reads the description at a place that is known, in `descriptionTimeout` at most. Fails with `TimedOut`,
 * `Unreachable`, `MalformedAnswer`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fetchDevice = Effect.fn("UpnpGateway.fetchDevice")(function* (
  location: HttpUrl.HttpUrl
): Effect.fn.Return<FetchedDevice, NatError.NatError, Http.Http> {
  const response = yield* fetchDescription(location)
  const device = yield* Effect.fromResult(
    Result.mapError(DeviceDescription.parse(response.body, location), (error) =>
      malformed(`description at ${NetAddress.formatInet(location.address)}: ${error.detail}`)
    )
  )
  return { device, localAddress: NetAddress.toCanonical(response.localAddress) }
})

/**
 * Fetches and reads the description that an answer points to. Fails with `Unsupported` where the device maps no
 * ports, `TimedOut`, `Unreachable`, `MalformedAnswer`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const describe = Effect.fn("UpnpGateway.describe")(function* (
  answer: SsdpSearch.Answer
): Effect.fn.Return<Described, NatError.NatError, Http.Http> {
  const { location } = answer
  const { device, localAddress } = yield* fetchDevice(location)
  const wanServices = DeviceDescription.wanServices(device).slice(0, maximumWanServices)
  const gateway = toGateway(device, answer, localAddress)
  if (wanServices.length > 0) return { gateway, location, device, bootId: answer.message.bootId, wanServices }
  return yield* NatError.fromReason(
    new NatError.Unsupported({
      operation: "map ports over UPnP",
      detail: `${gateway.name} at ${NetAddress.formatIp(answer.from)} has no WANIPConnection or WANPPPConnection service`
    })
  )
})

interface Tried {
  readonly connection: WanIpConnection.WanIpConnection
  readonly externalAddress: NetAddress.IpAddress | undefined
  readonly isConnected: boolean
}

/** A gateway that refuses to tell its address may still map ports; one that does not answer will not. */
const reportedAddress = (connection: WanIpConnection.WanIpConnection) =>
  connection.getExternalIpAddress.pipe(
    Effect.catchTag("UpnpFault", (fault) =>
      Effect.as(Effect.logDebug(`the gateway does not tell its external address: ${fault.message}`), undefined)
    )
  )

const isConnected = (connection: WanIpConnection.WanIpConnection) =>
  connection.getStatusInfo.pipe(
    Effect.map((status) => status.connectionStatus.toLowerCase() === "connected"),
    Effect.catchTag("UpnpFault", () => Effect.succeed(false))
  )

const tryService = Effect.fnUntraced(function* (connection: WanIpConnection.WanIpConnection, isOnly: boolean) {
  const tried: Tried = {
    connection,
    isConnected: isOnly || (yield* isConnected(connection)),
    externalAddress: yield* reportedAddress(connection)
  }
  return tried
})

/**
 * How good a line is, from 0 to 5: one that is up with a public address, then one that is up, then one with any
 * address.
 *
 * @category accessors
 * @since 0.1.0
 */
export const score = ({ externalAddress, isConnected }: Omit<Tried, "connection">): number => {
  const address = externalAddress === undefined ? 0 : Ipv4Scope.isPublic(externalAddress) ? 2 : 1
  return isConnected ? 3 + address : address
}

const bestScore = 5

const best = (tried: ReadonlyArray<Tried>): Tried | undefined =>
  tried.reduce<Tried | undefined>(
    (best, one) => (best === undefined || score(one) > score(best) ? one : best),
    undefined
  )

/**
 * A gateway with the only service that it has, which is not asked for anything: mapping shows soon enough what it is
 * worth. `undefined` where there are several to choose from.
 *
 * @category constructors
 * @since 0.1.0
 */
export const unasked = (described: Described, client: SoapClient.SoapClient): Usable | undefined => {
  const [service, ...others] = described.wanServices
  if (service === undefined || others.length > 0) return undefined
  const connection = WanIpConnection.make(client, service)
  return {
    ...described,
    client,
    connection,
    hasAnswered: false,
    isDoubtful: false,
    externalAddress: undefined,
    isConnected: true
  }
}

/**
 * Finds the service to use by asking each for its state: many gateways describe one for every kind of line, all but
 * one of them dead. Changes nothing. Fails with the first service's failure where none answers.
 *
 * @category constructors
 * @since 0.1.0
 */
export const choose = Effect.fn("UpnpGateway.choose")(function* (
  described: Described,
  client: SoapClient.SoapClient
): Effect.fn.Return<Usable, NatError.NatError> {
  const isOnly = described.wanServices.length === 1
  const results = yield* Effect.forEach(described.wanServices, (service) =>
    Effect.result(tryService(WanIpConnection.make(client, service), isOnly))
  )
  const chosen = best(results.filter(Result.isSuccess).map((result) => result.success))
  if (chosen !== undefined) {
    const isDoubtful = score(chosen) < bestScore && results.some(Result.isFailure)
    return { ...described, ...chosen, client, hasAnswered: true, isDoubtful }
  }
  const [failure] = results.filter(Result.isFailure).map((result) => result.failure)
  return yield* failure === undefined ? malformed("no service to ask") : failure
})

/**
 * Whether two sightings are of the same device: by its unique name, or by its address where it has none.
 *
 * @category comparisons
 * @since 0.1.0
 */
export const isSameDevice = (self: Described, that: Described): boolean =>
  self.gateway.id !== undefined && that.gateway.id !== undefined
    ? self.gateway.id === that.gateway.id
    : NetAddress.formatIp(self.gateway.address) === NetAddress.formatIp(that.gateway.address)
