/**
 * What happens to the mappings of this program when their gateway restarts, or has another external address: they are
 * renewed at once, and not at half of their lifetime.
 *
 * An announcement reaches all hosts of the network in one moment, so each waits up to 5 seconds before it acts
 * (RFC 6887 §14.1.3), and also when an answer has shown the restart (RFC 6886 §3.7); and as anybody in the network may
 * send an announcement in the gateway's name, restarts are believed ever more rarely while there are more of them (see
 * core's `RestartLimit`), unless the gateway's own answers bear them out.
 *
 * Not every gateway announces anything: see `silenceWatch`.
 */
import type * as PortMapping from "@effect-nat/core/PortMapping"
import * as RestartLimit from "@effect-nat/core/RestartLimit"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as NetAddress from "effect/net/NetAddress"
import * as Queue from "effect/Queue"
import * as Random from "effect/Random"
import * as Scope from "effect/Scope"
import * as PcpCodec from "../PcpCodec.ts"
import type * as Announcements from "./announcements.ts"
import * as Notices from "./notices.ts"
import * as SilenceWatch from "./silenceWatch.ts"
import type * as Ways from "./ways.ts"

/** What one mapping holds. */
export interface Held {
  readonly way: Ways.Way
  readonly mapping: PortMapping.PortMapping
  /** `undefined` where it is held over NAT-PMP. */
  readonly nonce: PcpCodec.Nonce | undefined
  /** Where its gateway's announcements are to be heard. */
  readonly place: Announcements.Place
}

/** What one mapping tells about itself, and how it is told that something has changed. */
export interface Registration {
  /** It is about to be requested or renewed: what woke it until now is done with. */
  readonly begin: Effect.Effect<void>
  /** It holds this, in place of what it held before. */
  readonly hold: (held: Held) => Effect.Effect<void>
  /** It holds nothing any more. */
  readonly letGo: Effect.Effect<void>
  /** Completes when it is to be renewed. */
  readonly whenWoken: Effect.Effect<void>
}

export interface Recovery {
  /** For one mapping, until the scope closes. */
  readonly register: Effect.Effect<Registration, never, Scope.Scope>
  /** What the mappings of this program hold now. */
  readonly held: () => ReadonlyArray<Held>
  /** For the clients of one gateway. */
  readonly noticesOf: (gateway: string) => Notices.Notices
  /** A mapping's answer shows that an external address of its gateway is another one now. */
  readonly moved: (gateway: string, from: NetAddress.IpAddress) => Effect.Effect<void>
  /** Something that may be the gateway has announced a restart: it is asked whether it has had one. */
  readonly suspected: (way: Ways.Way) => Effect.Effect<void>
  /**
   * A gateway has announced how old its epoch is, in whole seconds. What was asked for just before it may have begun may
   * have been granted before, which no comparison of epochs shows: it is renewed.
   */
  readonly began: (gateway: string, epoch: number) => Effect.Effect<void>
  /**
   * A gateway has announced over PCP how old its epoch is, in seconds. Some that speak both say nothing over NAT-PMP:
   * where a mapping of that is older, the gateway is asked in NAT-PMP whether it has restarted.
   */
  readonly announced: (way: Ways.Way, epoch: number) => Effect.Effect<void>
  /** A gateway says unasked what has become of a mapping (RFC 6887 §14.2). One that is another now is renewed. */
  readonly updated: (gateway: string, response: PcpCodec.MapResponse) => Effect.Effect<Update>
}

/** Whether an update is about a mapping of this program, and tells anything of it. */
export type Update = "unknown" | "same" | "changed"

/** In seconds (RFC 6887 §14.1.3). */
const longestDelay = 5

/** Two moments are one where they are counted in whole seconds, and packets take their time. */
const sameMoment = 2

/** In seconds: an answer that comes so much later shows whether the epoch goes on from when the restart was said to be. */
const shortestProof = 3

const isSameMoment = (self: number, that: number): boolean => Math.abs(self - that) <= sameMoment

interface Mapping {
  held: Held | undefined
  /** Since when, in seconds of the monotonic clock. */
  heldAt: number
  /** When it was last asked for, in the same seconds. */
  begunAt: number
  /** It is being asked for right now, so it will know. */
  isBusy: boolean
  readonly wake: Effect.Effect<void>
}

const textOf = (address: NetAddress.IpAddress | undefined): string =>
  address === undefined || NetAddress.isUnspecified(address) ? "none" : NetAddress.formatIp(address)

const isNamed = (held: Held, { internalPort, nonce, protocol }: PcpCodec.MappingName): boolean =>
  held.nonce === nonce &&
  held.mapping.internalPort === internalPort &&
  PcpCodec.ProtocolNumber[held.mapping.protocol] === protocol

/** What is believed of a gateway apart from that it has restarted. */
const addressOf = (gateway: string): string => `${gateway} address`
const suspicionOf = (gateway: string): string => `${gateway} suspected`

/** Whether it is what an answer has granted. */
const isGranted = ({ mapping, nonce }: Held, granted: Notices.Granted | undefined): boolean =>
  granted !== undefined &&
  granted.nonce === nonce &&
  granted.internalPort === mapping.internalPort &&
  granted.protocol === mapping.protocol

const isAsHeld = (
  { mapping }: Held,
  age: number,
  { externalAddress, externalPort, lifetime }: PcpCodec.MapResponse
): boolean =>
  lifetime > 0 &&
  lifetime + sameMoment >= Duration.toSeconds(mapping.lifetime ?? Duration.zero) - age &&
  mapping.externalPort === externalPort &&
  textOf(mapping.externalAddress) === textOf(externalAddress)

/** One mapping's hold on the socket that its last answer came to, as long as the scope is open. */
const makeSocketHold = (scope: Scope.Scope) => {
  let current: Scope.Closeable | undefined

  const exchange = (next: Scope.Closeable | undefined) =>
    Effect.suspend(() => {
      const before = current
      current = next
      return before === undefined ? Effect.void : Scope.close(before, Exit.void)
    })

  const keep = ({ keepOpen }: Ways.Way) =>
    Effect.gen(function* () {
      const next = yield* Scope.fork(scope)
      // Without it the next renewal shows what has become of the mapping.
      yield* Effect.ignore(Scope.provide(keepOpen, next))
      yield* exchange(next)
    }).pipe(Effect.uninterruptible)

  return { keep, letGo: exchange(undefined) }
}

/** Mappings for whose gateways `announcements` are listened to as long as they are held. */
export const make = Effect.fnUntraced(function* (
  announcements: Announcements.Announcements
): Effect.fn.Return<Recovery, never, Scope.Scope> {
  const scope = yield* Effect.scope
  const limit = yield* RestartLimit.make
  const mappings = new Set<Mapping>()
  /** By gateway, when its mapping table was empty, in seconds of the monotonic clock. */
  const restarts = new Map<string, number>()
  /** By gateway, the last restart that was believed, and when, in the same seconds. */
  const believed = new Map<string, { readonly startedAt: number; readonly at: number }>()
  /** By gateway and protocol, when the epoch began that its answers have told, in the same seconds. */
  const answeredStarts = new Map<string, number>()
  /** By gateway, the external address that it has announced last. */
  const announcedAddresses = new Map<string, string>()

  const on = (gateway: string) => [...mappings].filter(({ held }) => held?.way.gateway === gateway)

  const wakeThose = (gateway: string, which: (held: Held, mapping: Mapping) => boolean) =>
    Effect.suspend(() =>
      Effect.forEach(
        on(gateway).filter((one) => one.held !== undefined && which(one.held, one)),
        ({ wake }) => wake,
        { discard: true }
      )
    )

  /** Many hosts hear the same at the same time. */
  const later = (act: Effect.Effect<void>, shortestDelay = 0) =>
    Effect.flatMap(Random.nextBetween(shortestDelay, longestDelay), (seconds) =>
      Effect.asVoid(Effect.forkIn(Effect.delay(act, { seconds }), scope))
    )

  /** Asks a gateway that may have restarted; an answer that says so is noticed like any other. */
  const investigate = ({ gateway, pcp }: Ways.Way) =>
    Effect.gen(function* () {
      const before = yield* pcp.tableState
      yield* pcp.announce({ timeout: SilenceWatch.askTimeout })
      const { answered } = yield* pcp.tableState
      if (before.answered === undefined || answered === undefined) return
      if (Notices.startOf(answered) - Notices.startOf(before.answered) > sameMoment)
        yield* limit.confirm(suspicionOf(gateway))
    }).pipe(Effect.ignore)

  /**
   * What was said is what the gateway has answered, too: that it has this address, and has restarted just then. What its
   * answers have told before proves nothing: anybody can ask it, and say the same after something else.
   */
  const prove = Effect.fnUntraced(function* (held: Held, before: Held | undefined) {
    const { gateway, natPmp, pcp } = held.way
    const address = textOf(held.mapping.externalAddress)
    const isOther = before?.way.gateway === gateway && textOf(before.mapping.externalAddress) !== address
    if (isOther && announcedAddresses.get(gateway) === address) yield* limit.confirm(addressOf(gateway))
    const isNatPmp = held.nonce === undefined && natPmp !== undefined
    const { answered } = yield* isNatPmp ? natPmp.tableState : pcp.tableState
    if (answered === undefined) return
    const startedAt = Notices.startOf(answered)
    const what = `${gateway} ${isNatPmp ? "natpmp" : "pcp"}`
    const known = answeredStarts.get(what)
    const belief = believed.get(gateway)
    const isBelieved =
      belief !== undefined &&
      Notices.secondsOf(answered) - belief.at >= shortestProof &&
      isSameMoment(startedAt, belief.startedAt)
    if (known === undefined || isBelieved) answeredStarts.set(what, startedAt)
    if (known !== undefined && isBelieved && !isSameMoment(startedAt, known)) yield* limit.confirm(gateway)
  })

  const noticesOf = (gateway: string): Notices.Notices => ({
    restarted: Effect.fnUntraced(function* (count, granted) {
      const toldAt = Notices.secondsOf(count)
      const startedAt = Notices.startOf(count)
      const known = restarts.get(gateway)
      if (known !== undefined && isSameMoment(startedAt, known)) return
      restarts.set(gateway, startedAt)
      yield* Effect.logDebug(`${gateway} has lost its mappings`)
      // What is asked for before it is acted upon is there. One that was asked for before may have been granted before.
      const isLost = (held: Held, { begunAt }: Mapping) => begunAt < toldAt && !isGranted(held, granted)
      const wakeAll = Effect.flatMap(Notices.monotonicSeconds, (now) => {
        believed.set(gateway, { startedAt, at: now })
        // The renewals prove it, where they come late enough.
        return later(wakeThose(gateway, isLost), limit.isGrowing(gateway) ? shortestProof : 0)
      })
      yield* limit.act(gateway, wakeAll)
    }),
    readdressed: Effect.fnUntraced(function* (address, isAnnounced) {
      const isTold = ({ mapping }: Held) => textOf(mapping.externalAddress) === textOf(address)
      yield* Effect.logDebug(`${gateway} has the external address ${textOf(address)}`)
      if (!isAnnounced) return yield* wakeThose(gateway, (held, { isBusy }) => !isBusy && !isTold(held))
      announcedAddresses.set(gateway, textOf(address))
      yield* limit.act(addressOf(gateway), later(wakeThose(gateway, (held) => !isTold(held))))
    })
  })

  const heldGateways = () =>
    new Set([...mappings].flatMap(({ held }) => (held === undefined ? [] : [held.way.gateway])))
  const silence = yield* SilenceWatch.make({
    heldOn: (gateway) => on(gateway).flatMap(({ held }) => (held === undefined ? [] : [held]))[0],
    isSilent: (gateway, asked) => wakeThose(gateway, (held) => asked === undefined || held === asked)
  })
  const watch = Effect.suspend(() => silence.watch(heldGateways()))

  const register = Effect.gen(function* () {
    const woken = yield* Queue.sliding<void>(1)
    const mapping: Mapping = {
      held: undefined,
      heldAt: 0,
      begunAt: 0,
      isBusy: false,
      wake: Effect.asVoid(Queue.offer(woken, undefined))
    }
    const listen = Effect.suspend(() =>
      announcements.listenAt([...mappings].flatMap(({ held }) => (held === undefined ? [] : [held.place])))
    )
    const socket = makeSocketHold(scope)
    const letGo = Effect.suspend(() => {
      mapping.held = undefined
      mapping.isBusy = false
      return Effect.all([socket.letGo, listen, watch], { discard: true })
    })
    yield* Effect.acquireRelease(
      Effect.sync(() => mappings.add(mapping)),
      () =>
        Effect.suspend(() => {
          mappings.delete(mapping)
          return letGo
        })
    )
    const registration: Registration = {
      begin: Effect.flatMap(Notices.monotonicSeconds, (now) => {
        mapping.isBusy = true
        mapping.begunAt = now
        return Effect.asVoid(Queue.clear(woken))
      }),
      hold: (held) =>
        Effect.flatMap(Notices.monotonicSeconds, (now) => {
          const before = mapping.held
          mapping.held = held
          mapping.heldAt = now
          mapping.isBusy = false
          // Only of PCP's mappings more is said there.
          const hear = held.nonce === undefined ? socket.letGo : socket.keep(held.way)
          return Effect.all([prove(held, before), hear, listen, watch], { discard: true })
        }),
      letGo,
      whenWoken: Queue.take(woken)
    }
    return registration
  })

  return {
    register,
    held: () => [...mappings].flatMap(({ held }) => (held === undefined ? [] : [held])),
    noticesOf,
    moved: (gateway, from) =>
      wakeThose(gateway, ({ mapping }, { isBusy }) => !isBusy && textOf(mapping.externalAddress) === textOf(from)),
    suspected: (way) => limit.act(suspicionOf(way.gateway), later(investigate(way))),
    began: Effect.fnUntraced(function* (gateway, epoch) {
      const latestStart = (yield* Notices.monotonicSeconds) - epoch
      const isDoubtful = ({ begunAt }: Mapping) => begunAt < latestStart && latestStart - begunAt <= sameMoment
      if (!on(gateway).some(isDoubtful)) return
      yield* limit.act(gateway, later(wakeThose(gateway, (_, mapping) => isDoubtful(mapping))))
    }),
    announced: Effect.fnUntraced(function* (way, epoch) {
      const startedAt = (yield* Notices.monotonicSeconds) - epoch
      const isOlder = ({ begunAt, held }: Mapping) => held?.nonce === undefined && begunAt < startedAt - sameMoment
      if (way.natPmp === undefined || !on(way.gateway).some(isOlder)) return
      const ask = Effect.ignore(way.natPmp.externalAddress({ timeout: SilenceWatch.askTimeout }))
      yield* limit.act(`${way.gateway} announced`, Effect.asVoid(Effect.forkIn(ask, scope)))
    }),
    updated: Effect.fnUntraced(function* (gateway, response) {
      const named = [...mappings].find(
        ({ held }) => held !== undefined && held.way.gateway === gateway && isNamed(held, response)
      )
      if (named?.held === undefined) return "unknown"
      const age = (yield* Notices.monotonicSeconds) - named.heldAt
      if (isAsHeld(named.held, age, response)) return "same"
      yield* limit.act(`${gateway} ${response.nonce}`, named.wake)
      return "changed"
    })
  }
})
