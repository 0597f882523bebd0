/**
 * The choice of the gateway: search, description and, where there is something to choose from, the services' answers,
 * for all that answer at once.
 *
 * The default gateway is the one that the kernel would use: an answer to a peer goes out through it, so a mapping on
 * another gateway would lead connections in by one line and out by another. It is taken as soon as it is described.
 * Another gateway is taken only where the default gateway does not map ports, as in a failover pair.
 */
import * as DefaultRoute from "@effect-nat/core/DefaultRoute"
import * as Gateway from "@effect-nat/core/Gateway"
import type * as NatError from "@effect-nat/core/NatError"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import type * as DeviceDescription from "../DeviceDescription.ts"
import * as HttpUrl from "../HttpUrl.ts"
import * as SoapClient from "../SoapClient.ts"
import * as SsdpSearch from "../SsdpSearch.ts"
import * as UpnpGateway from "../UpnpGateway.ts"
import * as NoGateway from "./noGateway.ts"

/** The search, and so long for what answered last: one device that answers no call must not hold up all others. */
export const longest: Duration.Duration = Duration.sum(SsdpSearch.defaultDuration, SoapClient.callTimeout)

/** So long a gateway with an address waits for the default gateway to answer, which is asked before all others. */
const grace = Duration.millis(250)

/** It is not the one that is wanted. */
interface Other {
  readonly _tag: "Other"
  readonly gateway: Gateway.Gateway
}

/** Its services are looked at already, under another of its descriptions. */
interface Known {
  readonly _tag: "Known"
}

const known: Known = { _tag: "Known" }

interface Candidate {
  readonly usable: UpnpGateway.Usable
  readonly isPreferred: boolean
}

type Outcome = Result.Result<Candidate, NatError.NatError | Other | Known>

/** Some routers have one control URL for services of two types. */
const placeOf = ({ service }: DeviceDescription.WanService): string =>
  `${service.serviceType} ${HttpUrl.format(service.controlUrl)}`

export interface Options {
  readonly client: SoapClient.SoapClient
  /** The name, id or address of the one to use. */
  readonly selected: string | undefined
  /** Whether a gateway has to answer a call before it is taken, because it has failed lately. */
  readonly isSuspect: (gateway: Gateway.Gateway) => boolean
}

interface Inspection extends Options {
  /** The first default gateway's address. */
  readonly preferred: string | undefined
  /** The services that are looked at. Calls to one address wait for each other: none is asked twice. */
  readonly places: Set<string>
  begun: number
}

const inspect = Effect.fnUntraced(function* (answer: SsdpSearch.Answer, inspection: Inspection) {
  inspection.begun++
  const described = yield* UpnpGateway.describe(answer)
  const { client, isSuspect, places, preferred, selected } = inspection
  if (!Gateway.isSelected(described.gateway, selected)) {
    const other: Other = { _tag: "Other", gateway: described.gateway }
    return yield* Effect.fail(other)
  }
  const wanServices = described.wanServices.filter((one) => !places.has(placeOf(one)))
  if (wanServices.length === 0) return yield* Effect.fail(known)
  wanServices.forEach((one) => places.add(placeOf(one)))
  const isPreferred = selected !== undefined || NetAddress.formatIp(answer.from) === preferred
  const unasked =
    isPreferred && !isSuspect(described.gateway)
      ? UpnpGateway.unasked({ ...described, wanServices }, client)
      : undefined
  const candidate: Candidate = {
    usable: unasked ?? (yield* UpnpGateway.choose({ ...described, wanServices }, client)),
    isPreferred
  }
  return candidate
})

const hasAddress = ({ usable }: Candidate): boolean => usable.externalAddress !== undefined

/** It is the one that the kernel would use, and nothing is known against it. */
const isFirstChoice = (candidate: Candidate): boolean =>
  candidate.isPreferred && (!candidate.usable.hasAnswered || hasAddress(candidate))

/** Whether to look no further. */
const isSettled = (outcome: Outcome, selected: string | undefined): boolean =>
  Result.isSuccess(outcome) && (selected !== undefined || isFirstChoice(outcome.success))

/** A preferred gateway without an address is still better than another without one. */
const rank = (candidate: Candidate): number =>
  UpnpGateway.score(candidate.usable) + (isFirstChoice(candidate) ? 10 : candidate.isPreferred ? 0.5 : 0)

const nothing = (outcomes: ReadonlyArray<Outcome>, inspection: Inspection): NatError.NatError => {
  const { begun, selected } = inspection
  const failures = outcomes.filter(Result.isFailure).map((outcome) => outcome.failure)
  if (selected !== undefined) {
    const seen = failures.flatMap((failure) => (failure._tag === "Other" ? [failure.gateway] : []))
    return NoGateway.noneCalled(selected, seen)
  }
  const errors = failures.filter((failure) => failure._tag === "NatError")
  // A printer that maps no ports says nothing about the router.
  const error = errors.find((one) => one.reason._tag !== "Unsupported")
  if (error !== undefined) return NoGateway.because(`one answered, but cannot be used: ${error.message}`)
  return begun > outcomes.length
    ? NoGateway.because(`one answered the search, but was not ready to be used after ${Duration.format(longest)}`)
    : NoGateway.silent
}

/** The address of the first default gateway, as it is now. */
export const preferredGateway = Effect.gen(function* () {
  const routes = yield* (yield* DefaultRoute.DefaultRoute).routes
  const first = routes.map((route) => route.gateway).find(NetAddress.isIpv4Address)
  return first === undefined ? undefined : NetAddress.formatIp(first)
})

/** The gateway to use; see `Upnp.probe`. */
export const probe = Effect.fnUntraced(function* (options: Options) {
  const { selected } = options
  const inspection: Inspection = { ...options, preferred: yield* preferredGateway, places: new Set(), begun: 0 }
  const outcomes: Array<Outcome> = []
  const graceIsOver = yield* Deferred.make<void>()
  const note = (outcome: Outcome) => {
    outcomes.push(outcome)
    if (Result.isFailure(outcome) || !hasAddress(outcome.success)) return Effect.void
    const wait = inspection.preferred === undefined ? Effect.void : Effect.sleep(grace)
    return Effect.forkScoped(Effect.andThen(wait, Deferred.succeed(graceIsOver, undefined)))
  }
  yield* SsdpSearch.search().pipe(
    Stream.mapEffect((answer) => Effect.result(inspect(answer, inspection)), {
      concurrency: SsdpSearch.maximumAnswers,
      unordered: true
    }),
    Stream.tap(note),
    Stream.takeUntil((outcome) => isSettled(outcome, selected)),
    Stream.interruptWhen(Effect.raceFirst(Effect.sleep(longest), Deferred.await(graceIsOver))),
    Stream.runDrain
  )
  const candidates = outcomes.filter(Result.isSuccess).map((outcome) => outcome.success)
  const [best] = candidates.toSorted((a, b) => rank(b) - rank(a))
  if (best !== undefined) return best.usable
  return yield* nothing(outcomes, inspection)
}, Effect.scoped)
