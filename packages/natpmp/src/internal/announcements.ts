/**
 * What gateways say unasked (RFC 6886 §3.2.1, RFC 6887 §14): to all hosts of the network, or to this one, at UDP port
 * 5350. The port is listened to while something is mapped, from a tenth of a second after that, so that a mapping that is
 * gone again at once opens no socket for it. Some gateways say no more than once that they have restarted.
 *
 * Other programs listen there as well. Where the port cannot be had, or is lost, that is logged at debug level and it is
 * tried again, ever more rarely; everything else works without it, only later.
 */
import * as Udp from "@effect-nat/core/Udp"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberHandle from "effect/FiberHandle"
import * as NetAddress from "effect/net/NetAddress"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as PcpCodec from "../PcpCodec.ts"

/** The interface on which a gateway is: by this host's own address there, or by its number, for IPv6. */
export type Place = NetAddress.MulticastInterface

export interface Announcements {
  /** Listens at these places and no others; at none where there are none. */
  readonly listenAt: (places: ReadonlyArray<Place>) => Effect.Effect<void>
}

/** Whoever maps has questions to ask first, and many mappings are gone again at once. No gateway restarts as quickly. */
const calm = Duration.millis(100)

/** Another program may give the port back, and a network that went away takes a socket with it. */
const reopening = Schedule.min([Schedule.exponential("1 second"), Schedule.spaced("1 minute")])

/** A host has few networks at a time; one that changes them all the time need not be in each group for ever. */
const maximumPlaces = 16

interface Family {
  readonly group: NetAddress.IpAddress
  readonly bind: Udp.OpenOptions["bind"]
  readonly isOf: (place: Place) => boolean
}

const families: ReadonlyArray<Family> = [
  { group: PcpCodec.group, bind: { port: PcpCodec.clientPort }, isOf: (place) => typeof place !== "number" },
  {
    group: PcpCodec.groupIpv6,
    bind: { address: NetAddress.ipv6Unspecified, port: PcpCodec.clientPort },
    isOf: (place) => typeof place === "number"
  }
]

const nameOf = (place: Place): string => (typeof place === "number" ? `interface ${place}` : NetAddress.formatIp(place))

/** Where to put a datagram, and whence it came. */
type Hear = (payload: Uint8Array, from: NetAddress.InetAddress) => Effect.Effect<void>

/** One family's socket while there are places for it. */
const makeEar = Effect.fnUntraced(function* (
  { bind, group, isOf }: Family,
  hear: Hear
): Effect.fn.Return<Announcements, never, Udp.Udp | Scope.Scope> {
  const udp = yield* Udp.Udp
  const running = yield* FiberHandle.make()
  let wanted = new Map<string, Place>()
  /** The open socket, with what it has joined. */
  let open: { readonly socket: Udp.UdpSocket; readonly scope: Scope.Scope; readonly joined: Set<string> } | undefined

  const join = Effect.suspend(() => {
    const current = open
    if (current === undefined) return Effect.void
    const missing = [...wanted].filter(([name]) => !current.joined.has(name) && current.joined.size < maximumPlaces)
    return Effect.forEach(
      missing,
      ([name, place]) => {
        current.joined.add(name)
        return current.socket.joinMulticast(group, place).pipe(
          Scope.provide(current.scope),
          // Hosts are in this group anyway; some systems pass nothing on to a socket that did not join it.
          Effect.catch((error) =>
            Effect.logDebug(`no group ${NetAddress.formatIp(group)} at ${name}: ${Udp.describeError(error)}`)
          )
        )
      },
      { discard: true }
    )
  })

  const listen = Effect.gen(function* () {
    const socket = yield* udp.open({ bind, reuseAddress: true })
    open = { socket, scope: yield* Effect.scope, joined: new Set() }
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        open = undefined
      })
    )
    yield* join
    while (true) {
      // A socket for both families has IPv4 addresses in the form of IPv6.
      for (const { address, payload } of yield* socket.receive) yield* hear(payload, NetAddress.toCanonical(address))
    }
  }).pipe(
    Effect.scoped,
    Effect.tapError((error) =>
      Effect.logDebug(`no announcements: UDP port ${PcpCodec.clientPort} cannot be had: ${Udp.describeError(error)}`)
    ),
    Effect.retry(reopening),
    // It is tried again for ever.
    Effect.ignore
  )

  return {
    listenAt: Effect.fnUntraced(function* (places) {
      wanted = new Map(places.filter(isOf).map((place) => [nameOf(place), place]))
      if (wanted.size === 0) return yield* FiberHandle.clear(running)
      yield* FiberHandle.run(running, Effect.delay(listen, calm), { onlyIfMissing: true })
      yield* join
    }, Effect.uninterruptible)
  }
})

/** Passes on what comes to the port, to whoever knows which gateway may say what. */
export const make = Effect.fnUntraced(function* (
  hear: Hear
): Effect.fn.Return<Announcements, never, Udp.Udp | Scope.Scope> {
  const ears = yield* Effect.forEach(families, (family) => makeEar(family, hear))
  return {
    listenAt: (places) => Effect.forEach(ears, (ear) => ear.listenAt(places), { discard: true })
  }
})
