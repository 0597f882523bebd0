/**
 * `effect-nat external`: the address that the world sees.
 */
import * as PortMapper from "@effect-nat/core/PortMapper"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import * as Output from "../Output.ts"
import * as Strategy from "../Strategy.ts"
import * as Waiting from "../Waiting.ts"

/** Prints the external address. */
export const run = (input: Strategy.Choice & { readonly json: boolean }) =>
  PortMapper.PortMapper.use((mapper) => mapper.externalAddress).pipe(
    Waiting.forAnswer,
    Effect.map(NetAddress.formatIp),
    Effect.flatMap((externalAddress) => (input.json ? Output.json({ externalAddress }) : Console.log(externalAddress))),
    Effect.provide(Strategy.layer(input))
  )
