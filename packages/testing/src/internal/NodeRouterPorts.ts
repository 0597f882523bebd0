/**
 * The ports that a simulated router is told to listen on.
 */
import * as NatError from "@effect-nat/core/NatError"
import * as Effect from "effect/Effect"

const names = ["ssdp", "http", "natpmp", "announcements"] as const

/** Each as wanted, or 0. */
export type Wanted = Readonly<Record<(typeof names)[number], number>>

const isPort = (port: number): boolean => Number.isInteger(port) && port >= 0 && port <= 65_535

/** TCP has ports of its own. */
const ofUdp = ["ssdp", "natpmp", "announcements"] as const

const invalid = (detail: string) => NatError.fromReason(new NatError.InvalidRequest({ detail }))

const checkEach = (wanted: Wanted) => {
  const wrong = names.find((name) => !isPort(wanted[name]))
  if (wrong === undefined) return Effect.void
  const advice = "give a whole number from 1 to 65535, or leave it out, or 0, for a free port"
  return Effect.fail(invalid(`ports.${wrong} is ${wanted[wrong]}: ${advice}`))
}

const checkDifferent = (wanted: Wanted) => {
  for (const [index, name] of ofUdp.entries()) {
    const same = ofUdp.slice(0, index).find((other) => wanted[name] !== 0 && wanted[other] === wanted[name])
    if (same === undefined) continue
    return Effect.fail(
      invalid(`ports.${same} and ports.${name} are both ${wanted[name]}: each needs a port of its own`)
    )
  }
  return Effect.void
}

/** What is left out is 0, a free port; fails with `InvalidRequest` where a port is none, or another's as well. */
export const resolve = Effect.fnUntraced(function* (
  ports: { readonly [Name in keyof Wanted]?: number | undefined } = {}
): Effect.fn.Return<Wanted, NatError.NatError> {
  // A caller without types may say so.
  if (ports === null) return yield* invalid("ports is null: leave it out for free ports")
  const { announcements = 0, http = 0, natpmp = 0, ssdp = 0 } = ports
  const wanted = { announcements, http, natpmp, ssdp }
  yield* checkEach(wanted)
  yield* checkDifferent(wanted)
  return wanted
})
