/**
 * What a simulated network is built of, checked: each throws a `RangeError` that names the value and what it may be.
 */
import * as Equal from "effect/Equal"
import * as Formatter from "effect/Formatter"
import * as IpNetwork from "effect/net/IpNetwork"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import type * as RouterModel from "../RouterModel.ts"
import { misplaced } from "./quirkPlaces.ts"

interface Link {
  readonly delay: readonly [shortest: number, longest: number]
  readonly loss: number
  readonly duplication: number
  readonly reordering: number
  readonly overtaking: number
}

const isTime = (time: unknown): time is number => typeof time === "number" && Number.isFinite(time) && time >= 0

/** Whoever writes a test without types may give one time, or a text. */
const checkDelay = (delay: unknown): void => {
  const times: ReadonlyArray<unknown> = Array.isArray(delay) ? delay : [delay]
  const [shortest, longest] = times
  if (isTime(shortest) && isTime(longest) && shortest <= longest) return
  const given = Array.isArray(delay)
    ? `[${times.map((time) => Formatter.format(time)).join(", ")}]`
    : Formatter.format(delay)
  throw new RangeError(
    `the delay of a link must be two times in milliseconds, from 0, the shorter one first, not ${given}`
  )
}

/** The seed, where it is one: what is not a number would make the same network as any other that is none. */
export const seed = (one: number): number => {
  if (Number.isSafeInteger(one)) return one
  throw new RangeError(`the seed of a network must be a whole number, not ${one}`)
}

/** The link, where it is one. */
export const link = <A extends Link>(one: A): A => {
  for (const share of ["loss", "duplication", "reordering"] as const) {
    if (!(one[share] >= 0 && one[share] <= 1)) {
      throw new RangeError(`the ${share} of a link must be a share from 0 to 1, not ${one[share]}`)
    }
  }
  checkDelay(one.delay)
  if (isTime(one.overtaking)) return one
  throw new RangeError(`the overtaking of a link must be a time in milliseconds, from 0, not ${one.overtaking}`)
}

/** The network that a text says. */
export const network = (text: string): IpNetwork.IpNetwork => {
  const parsed = IpNetwork.fromString(text)
  if (Result.isSuccess(parsed)) return parsed.success
  throw new RangeError(`the network "${text}" is none: write for example "192.168.77.0/24"`)
}

/** The address that a text says. */
export const address = (input: NetAddress.IpAddress | string): NetAddress.IpAddress => {
  if (typeof input !== "string") return input
  const parsed = NetAddress.ipFromString(input)
  if (Result.isSuccess(parsed)) return parsed.success
  throw new RangeError(`the address "${input}" is none: write for example "192.168.77.2"`)
}

/** Throws where an address is not of the network, or somebody else there has it. */
export const place = (
  what: string,
  own: NetAddress.IpAddress,
  of: IpNetwork.IpNetwork,
  others: Iterable<NetAddress.IpAddress>
): void => {
  const name = `the address ${NetAddress.formatIp(own)} of ${what}`
  if (!IpNetwork.contains(of, own)) throw new RangeError(`${name} is outside of its network ${IpNetwork.format(of)}`)
  for (const other of others) {
    if (Equal.equals(own, other)) throw new RangeError(`${name} is somebody else's in ${IpNetwork.format(of)} already`)
  }
}

/** The place of a host from which a gateway is reached; throws where there is none, since no route could lead to it. */
export const placeTowards = <Place extends { readonly lan: { readonly network: IpNetwork.IpNetwork } }>(
  host: string,
  gateway: NetAddress.IpAddress,
  places: ReadonlyArray<Place>
): Place => {
  const found = places.find(({ lan }) => IpNetwork.contains(lan.network, gateway))
  if (found !== undefined) return found
  const networks = places.map(({ lan }) => IpNetwork.format(lan.network)).join(", ")
  const attached = `is attached to ${networks === "" ? "nothing" : networks}`
  throw new RangeError(`the gateway ${NetAddress.formatIp(gateway)} cannot be reached by ${host}, which ${attached}`)
}

/** Throws where a router has a quirk that cannot show in a network. */
export const quirks = (model: RouterModel.RouterModel): void => {
  const wrong = misplaced("network", model.quirks)
  if (wrong !== undefined) throw new RangeError(wrong)
}
