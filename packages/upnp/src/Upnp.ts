/**
 * The UPnP strategy: maps ports on an Internet Gateway Device.
 *
 * The gateway is searched for when it is first needed, remembered, and searched for again when it is no longer where
 * it was, as routers change their ports when they restart, and when this host has another default gateway.
 *
 * **Gotchas**
 *
 * A mapping is ours by its internal address, internal port and description, and the router shows it before anything is
 * renewed or deleted: nothing of another's is deleted. What is overwritten when a mapping is added depends on its
 * ports:
 *
 * - Where the external port is not the internal one, the router is asked first what it has there. Programs of one host
 *   keep apart by their descriptions; a mapping that an earlier run left behind is taken over where the description is
 *   the same, and is in the way where it is not.
 * - Where both are the same, and the mapping is for this host, the first request adds it without a look, which saves an
 *   exchange. A mapping of this host is taken over whatever its description says, as nobody else on it can serve that
 *   port. Another host's is kept by the router, which refuses; a router that gives away what others have, against all
 *   documents, gives it away here as well. `strictExternalPort` changes nothing about that.
 *
 *   The same goes for a mapping of this external port that another program of this host has made to another internal
 *   port: most routers replace it.
 * - Once the mapping was held, it is asked for after a look only: what another has put in its place stays.
 *
 * A router that does not tell what it has is believed to hold what was put there last; and what another puts there
 * between the look and the request is not seen.
 *
 * For the family `"ipv6"` a pinhole is opened in the router's IPv6 firewall (WANIPv6FirewallControl), to this host's
 * own global address. External and internal port are the same, and a lease is a day at most; one without an end is a
 * day that is renewed. Where that firewall is off nothing is opened, and it is looked at again when the lease would be
 * renewed. The router is reached over IPv6 at the default route's gateway, or, where that is a link-local address, at
 * the addresses in this host's network that most routers have; it must be the gateway that was found over IPv4.
 * Pinholes have no description: one for the same address and port that another program has opened is the same one to
 * the router, and is closed with ours. `"both"` maps IPv4 only.
 *
 * **Example** (Map a port on the router)
 *
 * ```ts
 * import * as Effect from "effect/Effect"
 * import * as Layer from "effect/Layer"
 * import * as NodeHost from "@effect-nat/core/NodeHost"
 * import * as PortMapper from "@effect-nat/core/PortMapper"
 * import * as Upnp from "@effect-nat/upnp/Upnp"
 *
 * const program = Effect.gen(function* () {
 *   const mapper = yield* PortMapper.PortMapper
 *   const mapping = yield* mapper.map({ protocol: "tcp", internalPort: 12000, externalPort: 12001 })
 *   yield* Effect.log(yield* mapping.current)
 * }).pipe(Effect.scoped, Effect.provide(Upnp.layer.pipe(Layer.provide(NodeHost.layer))))
 * ```
 *
 * @since 0.1.0
 */
import * as Automation from "@effect-nat/core/Automation"
import * as Gateway from "@effect-nat/core/Gateway"
import * as LeaseEngine from "@effect-nat/core/LeaseEngine"
import * as MappingRequest from "@effect-nat/core/MappingRequest"
import * as NatError from "@effect-nat/core/NatError"
import * as PortMapper from "@effect-nat/core/PortMapper"
import type * as PortMapping from "@effect-nat/core/PortMapping"
import type * as Strategy from "@effect-nat/core/Strategy"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import * as Sink from "effect/Sink"
import * as Stream from "effect/Stream"
import * as ActionFailure from "./internal/actionFailure.ts"
import * as CurrentGateway from "./internal/currentGateway.ts"
import * as EveryGateway from "./internal/everyGateway.ts"
import * as UpnpLease from "./internal/upnpLease.ts"
import * as UpnpPinhole from "./internal/upnpPinhole.ts"
import * as UpnpProbe from "./internal/upnpProbe.ts"
import * as PortMappingEntry from "./PortMappingEntry.ts"
import * as SoapClient from "./SoapClient.ts"
import type * as UpnpDiscovery from "./UpnpDiscovery.ts"
import type * as UpnpGateway from "./UpnpGateway.ts"

/**
 * Looks for the gateway to use, and changes nothing on it: the default gateway as soon as it is described, or, where it
 * has several services, has told an external address. Else the best of those that have told one a quarter of a second
 * after the first of them, and where none has, the best of all when the search is over (3 seconds) and all that
 * answered it have been asked, which takes 7 seconds at most. A line that is up is better than one that is down, then a
 * public address is better than another. `Gateway.Selected` names the gateway in place of all that. Fails with
 * `NoGateway`, `AutomationOff`, or `Unreachable` where no socket can be opened.
 *
 * @category constructors
 * @since 0.1.0
 */
export const probe: Effect.Effect<UpnpGateway.Usable, NatError.NatError, UpnpDiscovery.Network> = Effect.gen(
  function* () {
    yield* Automation.check
    const client = yield* SoapClient.make
    return yield* UpnpProbe.probe({ client, selected: yield* Gateway.Selected, isSuspect: () => false })
  }
).pipe(Effect.withSpan("Upnp.probe"))

/** A slow router's long list must end as well: each entry is a call. */
const longestListing = Duration.minutes(1)

const entries = ({ connection }: UpnpGateway.Usable) =>
  Stream.mapError(connection.portMappings, (error) =>
    ActionFailure.toNatError(error, { action: "GetGenericPortMappingEntry" })
  )

const mappings = (found: UpnpGateway.Usable, externalAddress: NetAddress.IpAddress | undefined) =>
  Stream.suspend(() => {
    const leftOut: Array<string> = []
    const isCutOff = Effect.andThen(
      Effect.sleep(longestListing),
      Effect.logWarning(
        `${found.gateway.name} takes too long to list its mappings: the list ends after ${Duration.format(longestListing)}`
      )
    )
    const warnOfLeftOut = Effect.suspend(() =>
      leftOut.length === 0
        ? Effect.void
        : Effect.logWarning(`mappings of ${found.gateway.name} that are not listed: ${leftOut.length} (${leftOut[0]})`)
    )
    return entries(found).pipe(
      Stream.interruptWhen(isCutOff),
      Stream.map((entry) => PortMappingEntry.toPortMapping(entry, { gateway: found.gateway.address, externalAddress })),
      Stream.tap((mapping) => {
        if (Result.isSuccess(mapping)) return Effect.void
        leftOut.push(mapping.failure)
        return Effect.logDebug(`an entry is left out: ${mapping.failure}`)
      }),
      Stream.filterMap((mapping) => mapping),
      Stream.onEnd(warnOfLeftOut)
    )
  })

const noExternalAddress = (found: UpnpGateway.Usable) =>
  NatError.fromReason(
    new NatError.NoExternalAddress({
      detail: `${found.gateway.name} reports none: its own line may be down`
    })
  )

const keyOf = (key: PortMapper.MappingKey): PortMappingEntry.Key => ({
  remoteHost: key.remoteHost === undefined ? "" : NetAddress.formatIp(key.remoteHost),
  externalPort: key.externalPort,
  protocol: PortMappingEntry.wireProtocol(key.protocol)
})

/**
 * The strategy with its probe, for whoever chooses among strategies, for as long as the scope is open: until then the
 * gateway is watched while something is mapped on it. `Gateway.Selected` is read here, once.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeStrategy: Effect.Effect<Strategy.Strategy, never, UpnpDiscovery.Network | Scope.Scope> = Effect.gen(
  function* () {
    const current = yield* CurrentGateway.make
    const context = yield* Effect.context<UpnpDiscovery.Network>()

    const map = Effect.fn("Upnp.map")(function* (request: MappingRequest.MappingRequest) {
      // A request for both families gets IPv4: one mapping has one external address.
      if (request.family !== "ipv6") return yield* LeaseEngine.map(yield* UpnpLease.make(current), request)
      const pinhole = yield* Effect.provideContext(UpnpPinhole.make(current), context)
      return yield* LeaseEngine.map(pinhole, request)
    })

    const externalAddress = current
      .use((session) =>
        Effect.filterOrFail(
          session.askExternalAddress,
          (address) => address !== undefined,
          () => noExternalAddress(session)
        )
      )
      .pipe(Effect.withSpan("Upnp.externalAddress"))

    // A gateway that has moved shows it with the first entry at the latest: until then it is searched for again.
    const list = Stream.unwrap(
      Effect.gen(function* () {
        const scope = yield* Effect.scope
        const [first, others] = yield* current.use((session) =>
          Effect.flatMap(session.externalAddressNow, (address) =>
            Stream.peel(mappings(session, address), Sink.take<PortMapping.PortMapping>(1))
          ).pipe(Scope.provide(scope))
        )
        return Stream.concat(Stream.fromIterable(first), others)
      })
    )

    const remove = Effect.fn("Upnp.remove")((key: PortMapper.MappingKey) =>
      current.use((found) => UpnpLease.removeEntry(found, keyOf(key)))
    )

    return yield* Automation.guard({
      method: "upnp",
      probe: current.use((session) => Effect.succeed(session.gateway)),
      mapper: { map, externalAddress, list, remove }
    })
  }
)

/**
 * What came of one gateway of several.
 *
 * @category models
 * @since 0.1.0
 */
export interface OnGateway {
  readonly gateway: Gateway.Gateway
  readonly result: Result.Result<PortMapper.Mapping, NatError.NatError>
}

/** A mapping on this very gateway, which is searched for by its id where it moves. */
const mapOn = Effect.fnUntraced(function* (
  client: SoapClient.SoapClient,
  found: UpnpGateway.Usable,
  request: MappingRequest.MappingRequest
) {
  const { address, id } = found.gateway
  const current = yield* CurrentGateway.makeFrom({ client, found, selected: id ?? NetAddress.formatIp(address) })
  return yield* LeaseEngine.map(yield* UpnpLease.make(current), request)
})

/**
 * Maps a port on every gateway of the network at once, where a host has several lines: a mapping, or why there is none,
 * for each, the default gateway first. Only IPv4: pinholes are for the one router that IPv6 packets go through.
 *
 * **When to use**
 *
 * Where peers may come in by any line. Connections from this host still go out by the default gateway; a mapping on
 * another one serves packets only where the host answers through it.
 *
 * **Details**
 *
 * It takes as long as the search (3 seconds), and at most 15 seconds longer for gateways that answer slowly or not at
 * all; none delays another one's mapping. A gateway that answers the search, calls itself one and then describes
 * nothing is reported by its address. Each mapping is renewed by itself, and all are released at once when the scope
 * closes. `Gateway.Selected` restricts them. Fails with `NoGateway` where there is no gateway at all, `Unreachable`
 * where no socket can be opened, and `InvalidRequest` or `Unsupported` before anything is sent.
 *
 * @category constructors
 * @since 0.1.0
 */
export const mapAll = Effect.fn("Upnp.mapAll")(function* (
  request: MappingRequest.MappingRequest
): Effect.fn.Return<ReadonlyArray<OnGateway>, NatError.NatError, Scope.Scope | UpnpDiscovery.Network> {
  yield* MappingRequest.resolve(request)
  yield* Automation.check
  if (request.family === "ipv6") {
    return yield* NatError.fromReason(
      new NatError.Unsupported({ operation: "map an IPv6 port on all gateways", detail: "one router has them all" })
    )
  }
  const client = yield* SoapClient.make
  const all = yield* Scope.fork(yield* Effect.scope, "parallel")
  const use = (found: UpnpGateway.Usable) =>
    Effect.flatMap(Scope.fork(all), (scope) =>
      mapOn(client, found, request).pipe(
        Scope.provide(scope),
        Effect.onExit((exit) => (Exit.isFailure(exit) ? Scope.close(scope, exit) : Effect.void))
      )
    )
  return yield* EveryGateway.each({ client, selected: yield* Gateway.Selected, use })
})

/**
 * Maps ports by UPnP. `Gateway.Selected` is read when the layer is built.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<PortMapper.PortMapper, never, UpnpDiscovery.Network> = Layer.effect(
  PortMapper.PortMapper,
  Effect.map(makeStrategy, (strategy) => strategy.mapper)
)
