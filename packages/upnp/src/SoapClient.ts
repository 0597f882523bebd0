/**
 * Calls the actions of routers, one at a time on each.
 *
 * Many routers answer wrongly, or not at all, when two calls overlap, even to different services. Routers do not wait
 * for each other. What must not be torn apart holds the router's turn for several calls. Each call is bounded in time,
 * from the moment it is its turn.
 *
 * A service that has two control URLs, because its description contradicts itself, is called at the second where nobody
 * listens at the first, and from then on.
 *
 * @since 0.1.0
 */
import * as Http from "@effect-nat/core/Http"
import * as NatError from "@effect-nat/core/NatError"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import * as Semaphore from "effect/Semaphore"
import type * as DeviceDescription from "./DeviceDescription.ts"
import type * as HttpUrl from "./HttpUrl.ts"
import * as HttpFailure from "./internal/httpFailure.ts"
import * as Soap from "./Soap.ts"

/**
 * How long one call may take, connection included.
 *
 * @category defaults
 * @since 0.1.0
 */
export const callTimeout: Duration.Duration = Duration.seconds(4)

/**
 * Calls actions.
 *
 * @category models
 * @since 0.1.0
 */
export interface SoapClient {
  /**
   * Calls an action. Fails with `UpnpFault` where the router refuses, `Unreachable` where nothing listens at the
   * control URL any more, `TimedOut`, `NotAuthorized` and `MalformedAnswer`.
   */
  readonly call: (
    service: DeviceDescription.Service,
    action: string,
    list: Soap.Arguments
  ) => Effect.Effect<Soap.Arguments, NatError.NatError | Soap.UpnpFault>
  /**
   * Holds a router's turn for as long as an effect takes, so that no other call comes between its calls of that router.
   * Such an effect must not wait for anybody else who may call the router.
   */
  readonly exclusively: <A, E, R>(
    service: DeviceDescription.Service,
    effect: Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E, R>
  /** Says that two addresses, as of IPv4 and IPv6, are those of one router: its calls wait for each other. */
  readonly isOneRouter: (address: NetAddress.IpAddress, other: NetAddress.IpAddress) => void
}

/** The turn that is held already; what is called within it needs no other. */
const HeldTurn = Context.Reference<Semaphore.Semaphore | undefined>("@effect-nat/upnp/SoapClient/HeldTurn", {
  defaultValue: () => undefined
})

/**
 * Actions that change nothing use a connection that the router keeps, and are asked once more where it went away
 * without an answer. What changes something has a connection of its own, and is asked once.
 */
const reads = /^(?:X_)?Get/

/** What a status means when the body is no SOAP answer. */
const statusReason = (status: number, detail: string): NatError.NatErrorReason => {
  if (status === 401 || status === 403) return new NatError.NotAuthorized({ detail })
  // The control URL is not there any more: a router that restarted may have moved it.
  if (status === 404 || status === 410) return new NatError.Unreachable({ detail })
  return new NatError.MalformedAnswer({ detail })
}

const decode = (
  response: Http.HttpResponse,
  action: string,
  who: string
): Result.Result<Soap.Arguments, NatError.NatError | Soap.UpnpFault> =>
  Result.mapError(Soap.decodeAnswer(response.body, action), (error) => {
    if (error._tag === "UpnpFault") return error
    const status = response.status === 200 ? "" : `HTTP status ${response.status}, `
    return NatError.fromReason(statusReason(response.status, `${action} at ${who}: ${status}${error.detail}`))
  })

/**
 * A client. Whoever shares a router shares the client.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make: Effect.Effect<SoapClient, never, Http.Http> = Effect.gen(function* () {
  const http = yield* Http.Http
  const turns = new Map<string, Semaphore.Semaphore>()
  const turnOf = (router: string): Semaphore.Semaphore => {
    const turn = turns.get(router) ?? Semaphore.makeUnsafe(1)
    turns.set(router, turn)
    return turn
  }

  /** The other control URL of a service, where that is the one that somebody listens at. */
  const moved = new WeakMap<DeviceDescription.Service, HttpUrl.HttpUrl>()

  const exchange = Effect.fnUntraced(function* (
    { address, path }: HttpUrl.HttpUrl,
    service: DeviceDescription.Service,
    action: string,
    list: Soap.Arguments
  ) {
    const who = NetAddress.formatInet(address)
    const request = { serviceType: service.serviceType, action, arguments: list }
    const response = yield* http
      .request({
        method: "POST",
        address,
        path,
        headers: [
          ["Content-Type", 'text/xml; charset="utf-8"'],
          ["SOAPAction", Soap.soapAction(request)]
        ],
        body: Soap.encodeCall(request),
        ownConnection: !reads.test(action),
        maxBytes: Soap.maximumBytes
      })
      .pipe(
        Effect.retry({ times: 1, while: (error) => error.kind === "Closed" && reads.test(action) }),
        Effect.mapError((error) => HttpFailure.toNatError(error, `${action} at ${who}`)),
        Effect.timeoutOrElse({
          duration: callTimeout,
          orElse: () => Effect.fail(HttpFailure.timedOut(`${action} at ${who}`, callTimeout))
        })
      )
    return yield* Effect.fromResult(decode(response, action, who))
  })

  const exchangeAnywhere = (service: DeviceDescription.Service, action: string, list: Soap.Arguments) => {
    const { controlUrl, otherControlUrl } = service
    if (otherControlUrl === undefined) return exchange(controlUrl, service, action, list)
    const first = moved.get(service) ?? controlUrl
    const second = first === controlUrl ? otherControlUrl : controlUrl
    return Effect.catchReason(exchange(first, service, action, list), "NatError", "Unreachable", (_, error) =>
      exchange(second, service, action, list).pipe(
        Effect.tapError((failure) =>
          Effect.sync(() => void (failure._tag === "UpnpFault" && moved.set(service, second)))
        ),
        Effect.tap(() => Effect.sync(() => moved.set(service, second))),
        // The place that the description gives is the one to speak of.
        Effect.catchReason("NatError", "Unreachable", () => Effect.fail(error))
      )
    )
  }

  const exclusively = <A, E, R>(service: DeviceDescription.Service, effect: Effect.Effect<A, E, R>) =>
    Effect.flatMap(HeldTurn, (held) => {
      const turn = turnOf(NetAddress.formatIp(service.controlUrl.address.address))
      return held === turn ? effect : turn.withPermit(Effect.provideService(effect, HeldTurn, turn))
    })

  const call = Effect.fn("SoapClient.call")(
    (service: DeviceDescription.Service, action: string, list: Soap.Arguments) =>
      exclusively(service, exchangeAnywhere(service, action, list))
  )

  const isOneRouter = (address: NetAddress.IpAddress, other: NetAddress.IpAddress): void => {
    turns.set(NetAddress.formatIp(other), turnOf(NetAddress.formatIp(address)))
  }

  return { call, exclusively, isOneRouter }
})
