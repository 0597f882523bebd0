/**
 * `effect-nat list`: every mapping on the gateway, in the canonical order of fields.
 */
import * as PortMapper from "@effect-nat/core/PortMapper"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as Output from "../Output.ts"
import * as Strategy from "../Strategy.ts"
import * as Waiting from "../Waiting.ts"

const headings = [
  "Remote host",
  "External port",
  "Protocol",
  "Internal port",
  "Internal client",
  "Enabled",
  "Description",
  "Lease (s)"
]

/** Prints the list. */
export const run = (input: Strategy.Choice & { readonly json: boolean }) =>
  PortMapper.PortMapper.use((mapper) => Stream.runCollect(mapper.list)).pipe(
    Waiting.forAnswer,
    Effect.map((mappings) => mappings.map(Output.listedMapping)),
    Effect.flatMap((rows) => {
      if (input.json) return Output.json(rows)
      if (rows.length === 0) return Console.log("no mappings")
      return Console.log(
        Output.table(
          headings,
          rows.map((row) => Object.values(row).map((value) => (value === null ? "-" : String(value))))
        )
      )
    }),
    Effect.provide(Strategy.layer(input))
  )
