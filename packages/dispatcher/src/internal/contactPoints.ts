/** What a dispatcher tells of itself: from its mapping and its sessions to contact points, as both change. */
import * as ContactPoint from "@effect-nat/core/ContactPoint"
import * as ContactPointResolver from "@effect-nat/core/ContactPointResolver"
import * as Ipv4Scope from "@effect-nat/core/Ipv4Scope"
import * as Ipv6Scope from "@effect-nat/core/Ipv6Scope"
import type * as PortMapper from "@effect-nat/core/PortMapper"
import type * as SessionId from "@effect-nat/core/SessionId"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as FiberSet from "effect/FiberSet"
import * as NetAddress from "effect/net/NetAddress"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type * as Dispatcher from "../Dispatcher.ts"
import * as DispatcherError from "../DispatcherError.ts"
import type * as Hub from "./hub.ts"
import type * as MessageRouter from "./messageRouter.ts"

const { fromReason, invalidOption } = DispatcherError

const isName = Schema.is(ContactPoint.Name)

export const checkName = (what: string, name: string | undefined) =>
  name === undefined || isName(name)
    ? Effect.void
    : Effect.fail(invalidOption(`${what} may have at most 255 bytes in UTF-8`))

const sessionOf = (router: MessageRouter.MessageRouter): ContactPoint.Session =>
  new ContactPoint.Session({
    id: router.id,
    role: router.about.role,
    // Others are invited by the first one, which was made with the session; once that is revoked, by the next.
    capabilities: Array.from(router.grants.values(), (one) => one.capability).slice(0, 1)
  })

/** The oldest ones, where there are more than a contact point holds. */
const allOf = (hub: Hub.Hub): ReadonlyArray<ContactPoint.Session> =>
  Array.from(hub.routers.values(), sessionOf).slice(0, mostSessions)

/** The sessions of a selection; fails with the one that is not there. */
const selected = Effect.fnUntraced(function* (hub: Hub.Hub, ids: ReadonlyArray<SessionId.SessionId> | undefined) {
  if (ids === undefined) return allOf(hub)
  if (ids.length > mostSessions) return yield* invalidOption(`a contact point has at most ${mostSessions} sessions`)
  return yield* Effect.forEach(ids, (id) => {
    const router = hub.routers.get(id)
    return router === undefined
      ? Effect.fail(fromReason(new DispatcherError.NoSuchSession({ sessionId: id })))
      : Effect.succeed(sessionOf(router))
  })
})

const { mostSessions } = ContactPoint

/** What a peer from outside has come through is more than what a gateway says. */
const confirm =
  (reached: ReadonlySet<string>) =>
  (external: ContactPoint.ExternalAddress): ContactPoint.ExternalAddress =>
    reached.has(NetAddress.formatInet(external.address))
      ? new ContactPoint.ExternalAddress({ address: external.address, verification: "confirmed" })
      : external

const isPublic = (address: NetAddress.IpAddress): boolean =>
  NetAddress.isIpv4Address(address) ? Ipv4Scope.isPublic(address) : Ipv6Scope.isGlobal(address)

export interface Around {
  readonly address: NetAddress.InetAddress
  readonly hub: Hub.Hub
  readonly instance: ContactPoint.InstanceId
  readonly mapping: PortMapper.Mapping
}

/** The contact points of a dispatcher; they follow its mapping and its sessions until the scope closes. */
export const make = Effect.fnUntraced(function* (
  options: Dispatcher.Options,
  { address, hub, instance, mapping }: Around
) {
  const resolver = yield* ContactPointResolver.ContactPointResolver
  const scope = yield* Effect.scope
  const version = yield* SubscriptionRef.make(0)
  const run = yield* FiberSet.makeRuntime<never>()
  const over = yield* Deferred.make<void>()
  yield* Effect.addFinalizer(() => Deferred.succeed(over, undefined))
  const bump = SubscriptionRef.update(version, (count) => count + 1)
  const reached = new Set<string>()

  const name = options.name ?? "effect-nat"
  const addresses = Effect.flatMap(mapping.current, (current) =>
    resolver.contactPoint({ name, port: address.port, address: options.address, mappings: [current] })
  )
  const complete = Effect.fnUntraced(function* (
    sessions: ReadonlyArray<ContactPoint.Session>,
    selection: Dispatcher.Selection
  ) {
    const bare = yield* addresses
    const { lifetime } = yield* mapping.current
    return ContactPoint.make({
      ...bare,
      name: selection.name ?? name,
      viewpoint: selection.viewpoint ?? options.viewpoint,
      external: bare.external.map(confirm(reached)),
      sessions,
      instance,
      lifetime:
        lifetime === undefined || !Duration.isFinite(lifetime)
          ? undefined
          : Math.max(1, Math.floor(Duration.toSeconds(lifetime))),
      fingerprint: options.tls?.fingerprint
    })
  })
  const contactPointOf = Effect.fn("Dispatcher.contactPointOf")(function* (selection: Dispatcher.Selection) {
    yield* checkName("a name", selection.name)
    yield* checkName("a viewpoint", selection.viewpoint)
    return yield* complete(yield* selected(hub, selection.sessions), selection)
  })
  const contactPoint = Effect.suspend(() => complete(allOf(hub), {}))

  /** A member from outside has shown that the external address of its family works. */
  const noteReached = Effect.fnUntraced(function* (from: NetAddress.IpAddress) {
    const bare = yield* addresses
    const answer = yield* resolver.addressesFor(bare, { source: from })
    // Who is told the external addresses alone stands outside.
    if (
      answer._tag !== "Reachable" ||
      answer.addresses.some((one) => bare.internal.some((own) => Equal.equals(own, one)))
    )
      return
    const through = answer.addresses.filter(
      (one) => NetAddress.isIpv4Address(one.address) === NetAddress.isIpv4Address(from)
    )
    const news = through.map(NetAddress.formatInet).filter((one) => !reached.has(one))
    if (news.length === 0) return
    // What was reached long ago, at another address, is of no use any more.
    if (reached.size > 16) reached.clear()
    news.forEach((one) => reached.add(one))
    yield* bump
  })

  hub.onChange = () => void run(bump)
  hub.onReached = (from) => {
    if (isPublic(from)) run(noteReached(from))
  }
  yield* Effect.forkIn(
    Stream.runForEach(mapping.changes, () => bump),
    scope
  )
  const versions = SubscriptionRef.changes(version).pipe(
    Stream.buffer({ capacity: 1, strategy: "sliding" }),
    Stream.interruptWhen(Deferred.await(over))
  )
  return {
    contactPointOf,
    contactPoint,
    changes: versions.pipe(
      Stream.mapEffect(() => contactPoint),
      Stream.changes
    ),
    addressesFor: (requester: ContactPointResolver.Requester) =>
      Effect.flatMap(contactPoint, (one) => resolver.addressesFor(one, requester)),
    /** Says nothing but that sessions, members or the contact point may have changed. */
    versions
  }
})
