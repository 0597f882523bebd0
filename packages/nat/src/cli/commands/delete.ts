/**
 * `effect-nat delete`: deletes one mapping on the gateway, whoever made it.
 */
import * as PortMapper from "@effect-nat/core/PortMapper"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Output from "../Output.ts"
import * as Strategy from "../Strategy.ts"
import * as Waiting from "../Waiting.ts"

/** Deletes and says so. */
export const run = (input: Strategy.Choice & { readonly json: boolean; readonly key: PortMapper.MappingKey }) =>
  PortMapper.PortMapper.use((mapper) => mapper.remove(input.key)).pipe(
    Waiting.forAnswer,
    Effect.andThen(
      input.json
        ? Output.json({ event: "deleted", protocol: input.key.protocol, externalPort: input.key.externalPort })
        : Console.log(`deleted ${input.key.externalPort}/${input.key.protocol}`)
    ),
    Effect.provide(Strategy.layer(input))
  )
