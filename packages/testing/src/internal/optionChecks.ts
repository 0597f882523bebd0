/**
 * What a simulated router and its host are told, checked: what is wrong is an `InvalidRequest` that names the value.
 */
import * as NatError from "@effect-nat/core/NatError"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Formatter from "effect/Formatter"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import type * as Quirk from "../Quirk.ts"
import * as RouterModel from "../RouterModel.ts"
import { misplaced } from "./quirkPlaces.ts"

const invalid = (detail: string) => NatError.fromReason(new NatError.InvalidRequest({ detail }))

export const parse = (what: string, text: string) =>
  Effect.suspend(() =>
    typeof text === "string"
      ? Effect.mapError(Effect.fromResult(NetAddress.ipFromString(text)), () =>
          invalid(`${what} "${text}" is not an address`)
        )
      : Effect.fail(invalid(`${what} must be text, not ${Formatter.format(text)}`))
  )

export const parseOptional = <A extends null | undefined>(what: string, text: string | A) =>
  text === null || text === undefined ? Effect.succeed(text as A) : parse(what, text)

/** The address of a host or a router on the inside. */
const parseOwn = Effect.fnUntraced(function* (what: string, text: string) {
  const address = yield* parse(what, text)
  const isOwn = NetAddress.isIpv4Address(address) && !NetAddress.isUnspecified(address)
  if (isOwn && !NetAddress.isMulticast(address)) return address
  return yield* invalid(`${what} must be the IPv4 address of one machine, not ${text}`)
})

/** The address of a host behind a router. */
export const parseHost = Effect.fnUntraced(function* (text: string, router: RouterModel.RouterModel) {
  const address = yield* parseOwn("the local address", text)
  if (!Equal.equals(address, router.address)) return address
  return yield* invalid(`the local address ${text} is the router's own: give the host another one`)
})

const checkCapacity = Effect.fnUntraced(function* (capacity: number | undefined) {
  if (capacity === undefined || (Number.isSafeInteger(capacity) && capacity >= 0)) return capacity
  return yield* invalid(`capacity must be a whole number of mappings from 0, not ${capacity}`)
})

const checkVersion = Effect.fnUntraced(function* (version: 1 | 2 | undefined) {
  if (version === undefined || version === 1 || version === 2) return version
  return yield* invalid(`igdVersion must be 1 or 2, not ${Formatter.format(version)}`)
})

const protocols: ReadonlyArray<string> = ["upnp", "natpmp", "pcp"]

/** A router that was told a protocol which does not exist would speak nothing in its place. */
export const checkProtocols = <A extends string>(wanted: ReadonlyArray<A>) => {
  const unknown = [...wanted].find((one) => !protocols.includes(one))
  if (unknown === undefined) return Effect.succeed(wanted)
  return Effect.fail(invalid(`there is no protocol ${Formatter.format(unknown)}, but ${protocols.join(", ")}`))
}

/** `Duration` reads a number that is none as zero. */
const hasNaN = (input: Duration.Input): boolean =>
  typeof input === "object" && !Duration.isDuration(input)
    ? Object.values(input).some((part) => Number.isNaN(part))
    : Number.isNaN(input)

/** What a time has to be. */
export interface Takes {
  readonly text: string
  readonly isGood: (time: Duration.Duration) => boolean
}

const atLeastOneSecond: Takes = {
  text: 'at least one second, for example "1 hour", or "Infinity" for no limit',
  isGood: (time) => !Duration.isLessThan(time, Duration.seconds(1))
}

export const checkTime = Effect.fnUntraced(function* (what: string, input: Duration.Input, takes: Takes) {
  const time = Duration.fromInput(input)
  if (Option.isSome(time) && !hasNaN(input) && takes.isGood(time.value)) return time.value
  return yield* invalid(`${what} must be ${takes.text}, not ${Formatter.format(input)}`)
})

/** Refusals are named by whoever writes the test. */
export const checkKinds = (kinds: ReadonlyArray<RouterModel.RefusalKind>) => {
  const unknown = kinds.find((kind) => !Object.hasOwn(RouterModel.igdCodes, kind))
  if (unknown === undefined) return Effect.void
  const known = Object.keys(RouterModel.igdCodes).join(", ")
  return Effect.fail(invalid(`there is no refusal ${Formatter.format(unknown)}, but ${known}`))
}

/** How a router is made in any strength. */
export interface Given extends Pick<RouterModel.Options, "capacity" | "igdVersion" | "name" | "quirks"> {
  readonly address?: string | undefined
  readonly externalAddress?: string | null | undefined
  readonly maxLifetime?: Duration.Input | undefined
}

/**
 * A client tells a restart by the count of seconds, and one that has hardly begun looks like one that begins anew (RFC
 * 6887 §8.5).
 */
const uptime = Duration.toMillis("1 hour")

/** A router that has run for an hour. */
export const toModel = Effect.fnUntraced(function* (
  strength: Quirk.Strength,
  options: Given
): Effect.fn.Return<RouterModel.RouterModel, NatError.NatError> {
  const { address, externalAddress, name, quirks } = options
  const { maxLifetime = Duration.seconds(RouterModel.oneWeek) } = options
  const wrong = misplaced(strength, quirks ?? [])
  if (wrong !== undefined) return yield* invalid(wrong)
  return new RouterModel.RouterModel({
    name,
    quirks,
    igdVersion: yield* checkVersion(options.igdVersion),
    capacity: yield* checkCapacity(options.capacity),
    address: address === undefined ? undefined : yield* parseOwn("the router's address", address),
    externalAddress: yield* parseOptional("the external address", externalAddress),
    maxLifetimeSeconds: Duration.toSeconds(yield* checkTime("maxLifetime", maxLifetime, atLeastOneSecond)),
    startedAt: (yield* Clock.currentTimeMillis) - uptime
  })
})
