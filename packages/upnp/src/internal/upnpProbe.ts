/**
 * The choice of the gateway: search, description and one service's answer, for all that answer at once.
 */
import * as Gateway from "@effect-nat/core/Gateway"
import * as NatError from "@effect-nat/core/NatError"
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import type * as SoapClient from "../SoapClient.ts"
import * as SsdpSearch from "../SsdpSearch.ts"
import * as UpnpGateway from "../UpnpGateway.ts"

const switchedOff =
  'UPnP is often switched off: look for "UPnP" in the router\'s settings, under NAT, firewall or advanced'

const noGateway = (detail: string) => NatError.fromReason(new NatError.NoGateway({ detail }))

interface Other {
  readonly _tag: "Other"
  readonly seen: string
}

type Outcome = Result.Result<UpnpGateway.Usable, NatError.NatError | Other>

const inspect = Effect.fnUntraced(function* (
  answer: SsdpSearch.Answer,
  client: SoapClient.SoapClient,
  selected: string | undefined
) {
  const described = yield* UpnpGateway.describe(answer)
  if (Gateway.isSelected(described.gateway, selected)) return yield* UpnpGateway.choose(described, client)
  const other: Other = {
    _tag: "Other",
    seen: `${described.gateway.name} (${NetAddress.formatIp(described.gateway.address)})`
  }
  return yield* Effect.fail(other)
})

/** Whether to look no further. */
const isSettled = (outcome: Outcome, selected: string | undefined): boolean =>
  Result.isSuccess(outcome) && (selected !== undefined || outcome.success.externalAddress !== undefined)

const nothing = (outcomes: ReadonlyArray<Outcome>, selected: string | undefined): NatError.NatError => {
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
  return noGateway(error === undefined ? switchedOff : `one answered, but cannot be used: ${error.message}`)
}

/** The gateway to use; see `Upnp.probe`. */
export const probe = Effect.fnUntraced(function* (client: SoapClient.SoapClient, selected: string | undefined) {
  const outcomes = yield* SsdpSearch.search().pipe(
    Stream.mapEffect((answer) => Effect.result(inspect(answer, client, selected)), {
      concurrency: SsdpSearch.maximumAnswers,
      unordered: true
    }),
    Stream.takeUntil((outcome) => isSettled(outcome, selected)),
    Stream.runCollect
  )
  const usable = outcomes.filter(Result.isSuccess).map((outcome) => outcome.success)
  const chosen = usable.find((one) => one.externalAddress !== undefined) ?? usable[0]
  if (chosen !== undefined) return chosen
  return yield* nothing(outcomes, selected)
})
