/**
 * The choice of the gateway: search, description and one service's answer, for all that answer at once.
 */
import * as Gateway from "@effect-nat/core/Gateway"
import * as NatError from "@effect-nat/core/NatError"
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

const switchedOff =
  'UPnP is often switched off: look for "UPnP" in the router\'s settings, under NAT, firewall or advanced'

/** The search, and so long for what answered last: one device that answers no call must not hold up all others. */
const longest = Duration.sum(SsdpSearch.defaultDuration, SoapClient.callTimeout)

const noGateway = (detail: string) => NatError.fromReason(new NatError.NoGateway({ detail }))

interface Other {
  readonly _tag: "Other"
  readonly seen: string
}

/** Its services are looked at already, under another of its descriptions. */
interface Known {
  readonly _tag: "Known"
}

const known: Known = { _tag: "Known" }

type Outcome = Result.Result<UpnpGateway.Usable, NatError.NatError | Other | Known>

/** Some routers have one control URL for services of two types. */
const placeOf = ({ service }: DeviceDescription.WanService): string =>
  `${service.serviceType} ${HttpUrl.format(service.controlUrl)}`

interface Inspection {
  readonly client: SoapClient.SoapClient
  readonly selected: string | undefined
  /** The services that are looked at. Calls to one address wait for each other: none is asked twice. */
  readonly places: Set<string>
  begun: number
}

const inspect = Effect.fnUntraced(function* (answer: SsdpSearch.Answer, inspection: Inspection) {
  inspection.begun++
  const described = yield* UpnpGateway.describe(answer)
  if (Gateway.isSelected(described.gateway, inspection.selected)) {
    const { places } = inspection
    const wanServices = described.wanServices.filter((one) => !places.has(placeOf(one)))
    if (wanServices.length === 0) return yield* Effect.fail(known)
    wanServices.forEach((one) => places.add(placeOf(one)))
    return yield* UpnpGateway.choose({ ...described, wanServices }, inspection.client)
  }
  const other: Other = {
    _tag: "Other",
    seen: `${described.gateway.name} (${NetAddress.formatIp(described.gateway.address)})`
  }
  return yield* Effect.fail(other)
})

/** Whether to look no further. */
const isSettled = (outcome: Outcome, selected: string | undefined): boolean =>
  Result.isSuccess(outcome) && (selected !== undefined || outcome.success.externalAddress !== undefined)

const nothing = (outcomes: ReadonlyArray<Outcome>, inspection: Inspection): NatError.NatError => {
  const { begun, selected } = inspection
  const failures = outcomes.filter(Result.isFailure).map((outcome) => outcome.failure)
  if (selected !== undefined) {
    const seen = failures.flatMap((failure) => (failure._tag === "Other" ? [failure.seen] : []))
    return noGateway(
      `none is called "${selected}"; ${seen.length === 0 ? "none was seen" : `seen: ${seen.join(", ")}`}`
    )
  }
  const errors = failures.filter((failure) => failure._tag === "NatError")
  // A printer that maps no ports says nothing about the router.
  const error = errors.find((one) => one.reason._tag !== "Unsupported")
  if (error !== undefined) return noGateway(`one answered, but cannot be used: ${error.message}`)
  return noGateway(
    begun > outcomes.length
      ? `one answered the search, but was not ready to be used after ${Duration.format(longest)}`
      : switchedOff
  )
}

/** The gateway to use; see `Upnp.probe`. */
export const probe = Effect.fnUntraced(function* (client: SoapClient.SoapClient, selected: string | undefined) {
  const inspection: Inspection = { client, selected, places: new Set(), begun: 0 }
  const outcomes = yield* SsdpSearch.search().pipe(
    Stream.mapEffect((answer) => Effect.result(inspect(answer, inspection)), {
      concurrency: SsdpSearch.maximumAnswers,
      unordered: true
    }),
    Stream.takeUntil((outcome) => isSettled(outcome, selected)),
    Stream.interruptWhen(Effect.sleep(longest)),
    Stream.runCollect
  )
  const usable = outcomes.filter(Result.isSuccess).map((outcome) => outcome.success)
  const chosen = usable.find((one) => one.externalAddress !== undefined) ?? usable[0]
  if (chosen !== undefined) return chosen
  return yield* nothing(outcomes, inspection)
})
