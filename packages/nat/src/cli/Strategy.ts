/**
 * From the flags to layers. Each strategy's code is loaded only when it is the one chosen.
 */
import * as Automation from "@effect-nat/core/Automation"
import * as Gateway from "@effect-nat/core/Gateway"
import type * as NatError from "@effect-nat/core/NatError"
import * as NodeHost from "@effect-nat/core/NodeHost"
import type * as PortMapper from "@effect-nat/core/PortMapper"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Failure } from "./Failure.ts"
import type * as Flags from "./Flags.ts"

/** The flags that choose a strategy. */
export interface Choice {
  readonly strategy: Flags.StrategyName
  /** Whether no gateway may be asked. */
  readonly noAutomation: boolean
  readonly externalAddress: string
  readonly gateway: string | undefined
}

type StrategyLayer = Layer.Layer<PortMapper.PortMapper, NatError.NatError, NodeHost.Host>

const strategies: Record<Flags.StrategyName, (choice: Choice) => Promise<StrategyLayer>> = {
  auto: async () => (await import("../Automatic.ts")).layer,
  lan: async () => (await import("@effect-nat/core/Lan")).layer,
  manual: async ({ externalAddress }) => (await import("@effect-nat/core/Manual")).layer({ externalAddress }),
  natpmp: async () => (await import("@effect-nat/natpmp/NatPmp")).layer,
  pcp: async () => (await import("@effect-nat/natpmp/Pcp")).layer,
  upnp: async () => (await import("@effect-nat/upnp/Upnp")).layer
}

/** The strategies that a person names in order to have a gateway asked. */
const askers: ReadonlySet<Flags.StrategyName> = new Set(["upnp", "natpmp", "pcp"])

/** Whether a strategy was named that does nothing but what is forbidden. */
export const isForbidden = ({ noAutomation, strategy }: Pick<Choice, "noAutomation" | "strategy">): boolean =>
  noAutomation && askers.has(strategy)

/** Fails where a strategy was named that does nothing but what is forbidden. */
export const checkAutomation = ({ noAutomation, strategy }: Pick<Choice, "noAutomation" | "strategy">) =>
  isForbidden({ noAutomation, strategy })
    ? Effect.fail(
        new Failure({
          status: 2,
          message: `--no-automation forbids --strategy ${strategy}: leave one of them out, or use --strategy manual`
        })
      )
    : Effect.void

const load = Effect.fnUntraced(function* (choice: Choice) {
  if (choice.externalAddress !== "" && choice.strategy !== "manual") {
    return yield* new Failure({ status: 2, message: "--external-address goes with --strategy manual" })
  }
  yield* checkAutomation(choice)
  return yield* Effect.promise(() => strategies[choice.strategy](choice))
})

/** The strategy chosen, on this host. */
export const layer = (
  choice: Choice
): Layer.Layer<PortMapper.PortMapper | NodeHost.Host, NatError.NatError | Failure> =>
  Layer.unwrap(load(choice)).pipe(
    Layer.provideMerge(
      Layer.mergeAll(
        NodeHost.layer,
        Layer.succeed(Gateway.Selected, choice.gateway),
        Layer.succeed(Automation.Allowed, !choice.noAutomation)
      )
    )
  )
