/**
 * One pinhole in the IPv6 firewall of an Internet Gateway Device, as the lease engine wants it.
 *
 * The firewall is the one of the router that IPv6 packets go through, which is described at the same port and path as
 * over IPv4: nothing is searched for over IPv6. Routers open pinholes only to whoever asks from that very address, so
 * everything is asked over IPv6, at a global address of the router: then this host's own is the one that the world
 * uses.
 *
 * A pinhole has no description. A second one for the same port is the same one to the router, whoever asks for it;
 * within this program the last mapping closes it.
 */
import * as DefaultRoute from "@effect-nat/core/DefaultRoute"
import * as Ipv6Scope from "@effect-nat/core/Ipv6Scope"
import type * as LeaseEngine from "@effect-nat/core/LeaseEngine"
import type * as MappingRequest from "@effect-nat/core/MappingRequest"
import * as NatError from "@effect-nat/core/NatError"
import * as PortMapping from "@effect-nat/core/PortMapping"
import * as Udp from "@effect-nat/core/Udp"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import * as Ref from "effect/Ref"
import * as DeviceDescription from "../DeviceDescription.ts"
import * as PortMappingEntry from "../PortMappingEntry.ts"
import type * as Soap from "../Soap.ts"
import * as UpnpErrorCode from "../UpnpErrorCode.ts"
import type * as UpnpDiscovery from "../UpnpDiscovery.ts"
import * as UpnpGateway from "../UpnpGateway.ts"
import type * as WanIpConnection from "../WanIpConnection.ts"
import * as WanIpv6FirewallControl from "../WanIpv6FirewallControl.ts"
import * as ActionFailure from "./actionFailure.ts"
import type * as CurrentGateway from "./currentGateway.ts"

/** The router's firewall as this host reaches it. */
interface Reached {
  readonly session: CurrentGateway.Session
  readonly firewall: WanIpv6FirewallControl.WanIpv6FirewallControl
  /** The router's address that it was reached at. */
  readonly router: NetAddress.IpAddress
  /** This host's address on that way. */
  readonly own: NetAddress.Ipv6Address
}

/** What is needed to renew and to release. */
export interface Handle extends Reached {
  readonly flow: WanIpv6FirewallControl.Flow
  readonly leaseSeconds: number
  /** `undefined` where the firewall is off: then nothing is opened, and nothing closed. */
  readonly uniqueId: number | undefined
}

type Lease = LeaseEngine.Lease<Handle>

const operation = "map an IPv6 port over UPnP"

const unsupported = (detail: string) => NatError.fromReason(new NatError.Unsupported({ operation, detail }))

const invalid = (detail: string) => NatError.fromReason(new NatError.InvalidRequest({ detail }))

const { isGlobal, world } = Ipv6Scope

const ownAddressTowards = (remote: NetAddress.IpAddress) =>
  Udp.localAddressTowards(remote).pipe(
    Effect.orElseSucceed(() => undefined),
    Effect.flatMap((own) =>
      own !== undefined && isGlobal(own)
        ? Effect.succeed(own)
        : Effect.fail(unsupported("this host has no global IPv6 address, so the world cannot reach it over IPv6"))
    )
  )

/**
 * Where the router may be. Its address in the routing table is mostly a link-local one, which no global address of this
 * host is used towards; most routers have the same interface part, or 1, in this host's own network.
 */
const placesOf = (gateway: NetAddress.IpAddress, own: NetAddress.Ipv6Address): ReadonlyArray<NetAddress.IpAddress> => {
  if (!NetAddress.isIpv6Address(gateway) || isGlobal(gateway)) return [gateway]
  const network = NetAddress.ipv6ToSegments(own).slice(0, 4)
  const host = NetAddress.ipv6ToSegments(gateway).slice(4)
  return [host, [0, 0, 0, 1]]
    .map((part) => [...network, ...part].map((segment) => segment.toString(16)).join(":"))
    .map((text) => NetAddress.ipFromStringUnsafe(text))
    .filter((address) => NetAddress.formatIp(address) !== NetAddress.formatIp(own))
}

/** What answers at a place that was guessed may be any device. */
const isSameDevice = (session: CurrentGateway.Session, device: DeviceDescription.Device): boolean =>
  session.device.udn === "" || session.device.udn === device.udn

const describedAt = Effect.fnUntraced(function* (
  current: CurrentGateway.CurrentGateway,
  session: CurrentGateway.Session,
  router: NetAddress.IpAddress
) {
  const { address, path } = session.location
  const location = { address: NetAddress.inetAddressUnsafe(router, address.port), path }
  const { device, localAddress } = yield* UpnpGateway.fetchDevice(location)
  if (!isSameDevice(session, device)) return yield* unsupported("the IPv6 router is not the gateway that was found")
  const [found] = DeviceDescription.servicesOf(device, DeviceDescription.serviceTypes.wanIpv6FirewallControl)
  if (found === undefined) return yield* unsupported(`${session.gateway.name} has no WANIPv6FirewallControl service`)
  if (!isGlobal(localAddress)) return yield* unsupported("this host reaches its router by no global IPv6 address")
  current.client.isOneRouter(session.gateway.address, router)
  const firewall = WanIpv6FirewallControl.make(current.client, found.service)
  const reached: Reached = { session, firewall, router, own: localAddress }
  return reached
})

const reach = Effect.fnUntraced(function* (
  current: CurrentGateway.CurrentGateway,
  session: CurrentGateway.Session
): Effect.fn.Return<Reached, NatError.NatError, UpnpDiscovery.Network> {
  const routes = yield* (yield* DefaultRoute.DefaultRoute).routes
  const gateway = routes.map((route) => route.gateway).find(NetAddress.isIpv6Address)
  if (gateway === undefined) return yield* unsupported("this host has no default route for IPv6")
  const own = yield* ownAddressTowards(world)
  const places = placesOf(gateway, own)
  if (places.length === 0) {
    return yield* unsupported(
      `no global address is known of this host's router, which is ${NetAddress.formatIp(gateway)}`
    )
  }
  const errors: Array<NatError.NatError> = []
  const noting = (place: NetAddress.IpAddress) =>
    Effect.tapError(describedAt(current, session, place), (error) => Effect.sync(() => errors.push(error)))
  // What is said at one place counts for more than the silence at another. Over IPv4 the router is where it was: that
  // it is silent over IPv6 is no reason to search for it.
  return yield* Effect.mapError(
    Effect.raceAll(places.map(noting)),
    () => errors.find((error) => !isSilence(error)) ?? silent(places)
  )
})

const isSilence = ({ reason }: NatError.NatError): boolean =>
  reason._tag === "Unreachable" || reason._tag === "TimedOut"

const silent = (places: ReadonlyArray<NetAddress.IpAddress>) =>
  unsupported(`the router does not describe itself over IPv6 at ${places.map(NetAddress.formatIp).join(" or ")}`)

const leaseSecondsOf = ({ lifetime }: MappingRequest.Resolved): number => {
  const { longestLease } = WanIpv6FirewallControl
  if (!Duration.isFinite(lifetime)) return longestLease
  return Math.min(Math.max(1, Math.ceil(Duration.toSeconds(lifetime))), longestLease)
}

const firewallDisabled = 702
const invalidArgs = 402

/** miniupnpd says that its arguments are invalid. */
const isGone = (fault: Soap.UpnpFault): boolean => UpnpErrorCode.isNoSuchPinhole(fault) || fault.code === invalidArgs

const flowName = ({ internalClient, internalPort, protocol }: WanIpv6FirewallControl.Flow): string =>
  `[${internalClient}]:${internalPort}/${protocol}`

const check = Effect.fnUntraced(function* (request: MappingRequest.Resolved) {
  const { externalPort, internalAddress, internalPort, strictExternalPort } = request
  if (strictExternalPort && externalPort !== internalPort) {
    return yield* unsupported(`a firewall translates no ports: only ${internalPort} can be the external port`)
  }
  if (internalAddress === undefined || isGlobal(internalAddress)) return
  return yield* invalid(
    `a pinhole needs a global IPv6 address as the internal one, not ${NetAddress.formatIp(internalAddress)}`
  )
})

const toMapping = (
  { flow, leaseSeconds, router }: Handle,
  request: MappingRequest.Resolved
): PortMapping.PortMapping => {
  const address = NetAddress.ipFromStringUnsafe(flow.internalClient)
  return new PortMapping.PortMapping({
    remoteHost: undefined,
    externalAddress: address,
    externalPort: flow.internalPort,
    protocol: request.protocol,
    internalPort: flow.internalPort,
    internalAddress: address,
    enabled: true,
    description: request.description,
    lifetime: Duration.seconds(leaseSeconds),
    gateway: router,
    method: "upnp",
    status: "mapped"
  })
}

const failed = (error: WanIpConnection.ActionError, action: string) => ActionFailure.toNatError(error, { action })

/** The protocol of one mapping. */
export const make = Effect.fnUntraced(function* (current: CurrentGateway.CurrentGateway) {
  const context = yield* Effect.context<UpnpDiscovery.Network>()
  const releasing = yield* Deferred.make<void>()
  const registration = yield* current.register
  /** What was asked for and may have been opened though no answer said so. */
  const attempted = yield* Ref.make<Omit<Handle, "uniqueId"> | undefined>(undefined)

  const leaseOf = Effect.fnUntraced(function* (handle: Handle, request: MappingRequest.Resolved) {
    yield* registration.holdFlow(handle.session, flowName(handle.flow))
    const lease: Lease = { handle, mapping: toMapping(handle, request) }
    return lease
  })

  const addPinhole = ({ firewall, flow, leaseSeconds }: Omit<Handle, "uniqueId">) =>
    firewall.addPinhole({ ...flow, leaseSeconds }).pipe(
      Effect.map((id): number | undefined => id),
      Effect.catchTag("UpnpFault", (fault) =>
        fault.code === firewallDisabled ? Effect.succeed(undefined) : failed(fault, "AddPinhole")
      )
    )

  const openOn = Effect.fnUntraced(function* (
    session: CurrentGateway.Session,
    request: MappingRequest.Resolved
  ): Effect.fn.Return<Lease, NatError.NatError, UpnpDiscovery.Network> {
    const reached = yield* reach(current, session)
    const flow: WanIpv6FirewallControl.Flow = {
      remoteHost: "",
      remotePort: 0,
      internalClient: NetAddress.formatIp(request.internalAddress ?? reached.own),
      internalPort: request.internalPort,
      protocol: PortMappingEntry.wireProtocol(request.protocol)
    }
    const wanted = { ...reached, flow, leaseSeconds: leaseSecondsOf(request) }
    const { isEnabled, isInboundPinholeAllowed } = yield* Effect.mapError(reached.firewall.getFirewallStatus, (error) =>
      failed(error, "GetFirewallStatus")
    )
    // It may be switched on later: that is looked at whenever the lease would be renewed.
    if (!isEnabled) return yield* leaseOf({ ...wanted, uniqueId: undefined }, request)
    if (!isInboundPinholeAllowed) {
      const detail = `${session.gateway.name} lets nobody open pinholes in its IPv6 firewall`
      return yield* NatError.fromReason(new NatError.NotAuthorized({ detail }))
    }
    yield* Ref.set(attempted, wanted)
    const lease = yield* leaseOf({ ...wanted, uniqueId: yield* addPinhole(wanted) }, request)
    yield* Ref.set(attempted, undefined)
    return lease
  })

  const request = (resolved: MappingRequest.Resolved) =>
    check(resolved).pipe(
      Effect.andThen(registration.begin),
      Effect.andThen(current.use((session) => Effect.provideContext(openOn(session, resolved), context))),
      Effect.tap(({ handle }) => registration.followRestarts(handle.session))
    )

  const close = Effect.fnUntraced(function* ({ firewall, flow, session, uniqueId }: Handle) {
    if (uniqueId === undefined || current.isFlowHeld(session, flowName(flow))) return
    yield* firewall
      .deletePinhole(uniqueId)
      .pipe(Effect.catchTag("UpnpFault", (fault) => (isGone(fault) ? Effect.void : failed(fault, "DeletePinhole"))))
  })

  const hasMoved = ({ flow, router }: Handle, { internalAddress }: MappingRequest.Resolved) =>
    internalAddress === undefined
      ? Effect.provideContext(ownAddressTowards(router), context).pipe(
          Effect.map((own) => NetAddress.formatIp(own) !== flow.internalClient),
          Effect.orElseSucceed(() => true)
        )
      : Effect.succeed(false)

  /** Whether it was still there. */
  const update = ({ firewall, session }: Handle, uniqueId: number, leaseSeconds: number) =>
    firewall.updatePinhole({ uniqueId, leaseSeconds }).pipe(
      Effect.as(true),
      Effect.catchTag("UpnpFault", (fault) =>
        isGone(fault) ? Effect.as(current.hasForgotten(session), false) : failed(fault, "UpdatePinhole")
      )
    )

  const renew = Effect.fnUntraced(function* (
    { handle }: Lease,
    resolved: MappingRequest.Resolved
  ): Effect.fn.Return<Lease, NatError.NatError> {
    const { uniqueId } = handle
    if (uniqueId === undefined) return yield* request(resolved)
    if (yield* hasMoved(handle, resolved)) {
      // Packets to the old address help nobody. A router that refuses closes it when it runs out.
      yield* Effect.andThen(registration.letGo, Effect.ignore(close(handle)))
      return yield* request(resolved)
    }
    yield* registration.begin
    const leaseSeconds = leaseSecondsOf(resolved)
    const isThere = yield* current.use((session) =>
      session === handle.session ? update(handle, uniqueId, leaseSeconds) : Effect.succeed(false)
    )
    return isThere ? yield* leaseOf({ ...handle, leaseSeconds }, resolved) : yield* request(resolved)
  })

  /** Many are closed at once where a program ends: the router has time for each when it is its turn. */
  const closeInTurn = (handle: Handle) =>
    current.client.exclusively(
      handle.firewall.service,
      Effect.andThen(Deferred.succeed(releasing, undefined), handle.session.unlessSilent(close(handle)))
    )

  const release = ({ handle }: Lease) => Effect.andThen(registration.letGo, closeInTurn(handle))

  /** The same flow has the same id, and only that is lacking to close it. */
  const abandon = Effect.fnUntraced(function* () {
    yield* registration.letGo
    const attempt = yield* Ref.getAndSet(attempted, undefined)
    if (attempt === undefined || current.isFlowHeld(attempt.session, flowName(attempt.flow))) return
    yield* close({ ...attempt, uniqueId: yield* addPinhole(attempt) })
  })

  const protocol: LeaseEngine.LeaseProtocol<Handle> = {
    request,
    renew,
    isStale: ({ handle }, resolved) => hasMoved(handle, resolved),
    whenChanged: () => registration.whenWoken,
    network: current.network,
    whenReleasing: Deferred.await(releasing),
    release,
    abandon
  }
  return protocol
})
