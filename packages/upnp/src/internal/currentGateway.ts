/**
 * The gateway in use: found once, shared by everybody, given up when it is no longer where it was.
 */
import * as Gateway from "@effect-nat/core/Gateway"
import * as Ipv4Scope from "@effect-nat/core/Ipv4Scope"
import type * as NatError from "@effect-nat/core/NatError"
import * as Udp from "@effect-nat/core/Udp"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import * as Ref from "effect/Ref"
import * as Result from "effect/Result"
import * as SynchronizedRef from "effect/SynchronizedRef"
import * as SoapClient from "../SoapClient.ts"
import type * as UpnpDiscovery from "../UpnpDiscovery.ts"
import type * as UpnpGateway from "../UpnpGateway.ts"
import * as ActionFailure from "./actionFailure.ts"

import * as UpnpProbe from "./upnpProbe.ts"

/** A gateway in use, and what has been learnt about it. */
export interface Session extends UpnpGateway.Usable {
  /** It refused a limited lease and took a permanent one. */
  readonly takesOnlyPermanentLeases: Ref.Ref<boolean>
  /** The address that the gateway reports, asked for where it is not known from just now. */
  readonly askExternalAddress: Effect.Effect<NetAddress.IpAddress | undefined, NatError.NatError>
  /** The same where it must spoil nothing: what cannot be asked for now is what was known last. */
  readonly externalAddressNow: Effect.Effect<NetAddress.IpAddress | undefined>
  /** This host's own address towards the gateway as it is now: it may have changed since the gateway was found. */
  readonly ownAddress: Effect.Effect<NetAddress.IpAddress>
}

export interface CurrentGateway {
  /**
   * Does something with the gateway, which is searched for if need be. Where it turns out to be gone, it is searched
   * for once more and the effect runs again; an effect that may have reached it does not.
   */
  readonly use: <A>(f: (session: Session) => Effect.Effect<A, NatError.NatError>) => Effect.Effect<A, NatError.NatError>
}

interface Sought {
  readonly result: Result.Result<Session, NatError.NatError>
  /** In milliseconds of `Clock`. */
  readonly at: number
}

/** So long "there is none" is believed: many requests at once must not search one after the other. */
const disbelief = Duration.seconds(5)

/** So long a reported address is current: several mappings at once need not each ask for it. */
const freshness = Duration.seconds(5)

interface Reported {
  readonly address: NetAddress.IpAddress | undefined
  /** In milliseconds of `Clock`. */
  readonly at: number
}

const openSession = Effect.fnUntraced(function* (found: UpnpGateway.Usable) {
  const udp = yield* Udp.Udp
  const reported = yield* Ref.make<Reported>({
    address: found.externalAddress,
    at: yield* Clock.currentTimeMillis
  })
  const ask = found.connection.getExternalIpAddress.pipe(
    Effect.mapError((error) => ActionFailure.toNatError(error, { action: "GetExternalIPAddress" })),
    Effect.tap((address) => Effect.flatMap(Clock.currentTimeMillis, (at) => Ref.set(reported, { address, at })))
  )
  const askExternalAddress = Effect.gen(function* () {
    const known = yield* Ref.get(reported)
    const age = (yield* Clock.currentTimeMillis) - known.at
    return known.address !== undefined && age < Duration.toMillis(freshness) ? known.address : yield* ask
  })
  const externalAddressNow = Effect.catch(askExternalAddress, (error) =>
    Effect.logDebug(`the external address is not known now: ${error.message}`).pipe(
      Effect.andThen(Ref.get(reported)),
      Effect.map((known) => known.address)
    )
  )
  const session: Session = {
    ...found,
    takesOnlyPermanentLeases: yield* Ref.make(false),
    askExternalAddress,
    externalAddressNow,
    ownAddress: Udp.localAddressTowards(found.gateway.address).pipe(
      Effect.provideService(Udp.Udp, udp),
      Effect.orElseSucceed(() => found.gateway.localAddress)
    )
  }
  return session
})

const warnOfNat = ({ externalAddress, gateway }: UpnpGateway.Usable) => {
  if (externalAddress === undefined) {
    return Effect.logWarning(`${gateway.name} reports no external address: its own line may be down`)
  }
  if (Ipv4Scope.isPublic(externalAddress)) return Effect.void
  return Effect.logWarning(
    `${gateway.name} reports the external address ${NetAddress.formatIp(externalAddress)}, which the world cannot reach: ${Ipv4Scope.whatIsBeyond(externalAddress)}`
  )
}

/** Whether a failure means that the gateway may have moved. */
const mayHaveMoved = (error: NatError.NatError): boolean =>
  error.reason._tag === "Unreachable" || error.reason._tag === "TimedOut" || error.reason._tag === "MalformedAnswer"

export const make: Effect.Effect<CurrentGateway, never, UpnpDiscovery.Network> = Effect.gen(function* () {
  const context = yield* Effect.context<UpnpDiscovery.Network>()
  const selected = yield* Gateway.Selected
  const client = yield* SoapClient.make
  const state = yield* SynchronizedRef.make<Sought | undefined>(undefined)

  const seek = UpnpProbe.probe(client, selected).pipe(
    Effect.tap(warnOfNat),
    Effect.flatMap(openSession),
    Effect.result,
    Effect.flatMap((result) => Effect.map(Clock.currentTimeMillis, (at): Sought => ({ result, at }))),
    Effect.provideContext(context)
  )

  const isGood = (sought: Sought, now: number): boolean =>
    Result.isSuccess(sought.result) || now - sought.at < Duration.toMillis(disbelief)

  const session = SynchronizedRef.modifyEffect(state, (sought) =>
    Effect.flatMap(Clock.currentTimeMillis, (now) =>
      sought !== undefined && isGood(sought, now)
        ? Effect.succeed([sought.result, sought] as const)
        : Effect.map(seek, (found) => [found.result, found] as const)
    )
  ).pipe(Effect.flatMap(Effect.fromResult))

  const giveUp = (gone: Session) =>
    SynchronizedRef.update(state, (sought) =>
      sought !== undefined && Result.isSuccess(sought.result) && sought.result.success === gone ? undefined : sought
    )

  const attempt = <A>(f: (session: Session) => Effect.Effect<A, NatError.NatError>) =>
    Effect.flatMap(session, (one) =>
      Effect.tapError(f(one), (error) => (mayHaveMoved(error) ? giveUp(one) : Effect.void))
    )

  return {
    use: (f) => Effect.catchReason(attempt(f), "NatError", "Unreachable", () => attempt(f))
  }
})
