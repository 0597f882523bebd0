/**
 * What a PCP server has refused, for as long as it said that the same request would fail (RFC 6887 §7.4, §8.3): such a
 * request is answered here and not sent. A server must not be asked all the time for what it cannot do, and whoever asks
 * need not wait for that answer. A deletion is sent all the same: it may be the last chance to clear something away.
 *
 * A server without resources makes no mapping for anybody (§11.4, §12.4): nothing new is asked for then, until something
 * was deleted. What is held is renewed.
 */
import type * as NatError from "@effect-nat/core/NatError"
import * as NetAddress from "effect/net/NetAddress"
import * as PcpCodec from "../PcpCodec.ts"

export interface Refusals {
  /** The error that this request would get. */
  readonly find: (asked: Asked, now: bigint) => NatError.NatError | undefined
  readonly note: (request: Uint8Array, error: NatError.NatError, seconds: number, now: bigint) => void
  /** The server does not speak PCP, whatever is asked. */
  readonly noteVersion: (from: NetAddress.IpAddress, error: NatError.NatError, now: bigint) => void
  /** The server has no resources for further mappings. */
  readonly noteFull: (error: NatError.NatError, seconds: number, now: bigint) => void
  /** It may have some again. */
  readonly clearFull: () => void
  readonly clear: () => void
}

export interface Asked {
  readonly from: NetAddress.IpAddress
  readonly request: Uint8Array
  /** It is about a mapping that is held. */
  readonly isRenewal: boolean
}

interface Refusal {
  readonly error: NatError.NatError
  readonly until: bigint
}

/** Seconds: as long as servers are told to let the longest errors last (RFC 6887 §7.4). A longer one may be a mistake. */
const longest = 30 * 60

/** A program asks for few things at a time; of many the oldest may be asked for once more. */
const capacity = 64

const lasting = (error: NatError.NatError, seconds: number, now: bigint): Refusal => ({
  error,
  until: now + BigInt(Math.min(seconds, longest)) * 1_000_000_000n
})

const isAnnounce = (request: Uint8Array): boolean => request[1] === PcpCodec.Opcode.announce

const isMap = (request: Uint8Array): boolean => request[1] === PcpCodec.Opcode.map

export const isDeletion = (request: Uint8Array): boolean =>
  isMap(request) && request.subarray(4, 8).every((byte) => byte === 0)

/**
 * A request without what may differ in the same request: its nonce and its lifetime. The own address is a part of it:
 * from another one it is another request.
 */
const keyOf = (request: Uint8Array): string => {
  let key = ""
  request.forEach((byte, index) => {
    const isLeftOut = (index >= 4 && index < 8) || (index >= 24 && index < 36)
    if (!isLeftOut) key += byte.toString(16).padStart(2, "0")
  })
  return key
}

export const make = (): Refusals => {
  const refusals = new Map<string, Refusal>()
  let full: Refusal | undefined

  const set = (key: string, refusal: Refusal) => {
    // A later one stands later.
    refusals.delete(key)
    refusals.set(key, refusal)
    const [oldest] = refusals.keys()
    if (refusals.size > capacity && oldest !== undefined) refusals.delete(oldest)
  }

  const get = (key: string, now: bigint): NatError.NatError | undefined => {
    const found = refusals.get(key)
    if (found === undefined || now < found.until) return found?.error
    refusals.delete(key)
    return undefined
  }

  const fullness = ({ isRenewal, request }: Asked, now: bigint): NatError.NatError | undefined =>
    full === undefined || now >= full.until || isRenewal || isAnnounce(request) ? undefined : full.error

  return {
    find: (asked, now) => {
      const version = get(NetAddress.formatIp(asked.from), now)
      if (version !== undefined || isDeletion(asked.request)) return version
      return get(keyOf(asked.request), now) ?? fullness(asked, now)
    },
    note: (request, error, seconds, now) => {
      if (!isDeletion(request)) set(keyOf(request), lasting(error, seconds, now))
    },
    noteVersion: (from, error, now) => set(NetAddress.formatIp(from), lasting(error, longest, now)),
    noteFull: (error, seconds, now) => {
      full = lasting(error, seconds, now)
    },
    clearFull: () => {
      full = undefined
    },
    clear: () => {
      full = undefined
      refusals.clear()
    }
  }
}
