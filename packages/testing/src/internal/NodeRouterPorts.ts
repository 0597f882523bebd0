/**
 * The ports that a simulated router is told to listen on.
 */
import * as NatError from "@effect-nat/core/NatError"
import * as Effect from "effect/Effect"

const names = ["ssdp", "http", "natpmp", "announcements"] as const

/** Each as wanted, or 0. */
export type Wanted = Readonly<Record<(typeof names)[number], number>>

const isPort = (port: number): boolean => Number.isInteger(port) && port >= 0 && port <= 65_535

/** What is left out is 0, a free port; fails with `InvalidRequest` where a port is none. */
export const resolve = Effect.fnUntraced(function* (
  ports: { readonly [Name in keyof Wanted]?: number | undefined } = {}
): Effect.fn.Return<Wanted, NatError.NatError> {
  const { announcements = 0, http = 0, natpmp = 0, ssdp = 0 } = ports
  const wanted = { announcements, http, natpmp, ssdp }
  const wrong = names.find((name) => !isPort(wanted[name]))
  if (wrong === undefined) return wanted
  const detail = `ports.${wrong} is ${wanted[wrong]}: give a whole number from 1 to 65535, or leave it out for a free port`
  return yield* NatError.fromReason(new NatError.InvalidRequest({ detail }))
})
