/**
 * The automatic strategy beside the protocol that wins, each in turn in one process, on a router whose port 5351 answers,
 * refuses, or is silent: with a layer of its own, and with one that remembers who maps here.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { fileURLToPath } from "node:url"
import * as Lab from "../../lab/Lab.ts"

/** The most of the winner's time where it is remembered, or where port 5351 says something. */
const largestRatio = 1.1
/** The most that it may take longer where port 5351 says nothing, in milliseconds. */
const longestGrace = 150

interface Scene {
  readonly name: string
  /** Who wins. */
  readonly method: "pcp" | "upnp"
  readonly daemon: Lab.DaemonOptions
  readonly isSilent?: boolean
}

const scenes: ReadonlyArray<Scene> = [
  { name: "answers", method: "pcp", daemon: {} },
  { name: "refuses", method: "upnp", daemon: { natpmp: false } },
  { name: "is silent", method: "upnp", daemon: { natpmp: false }, isSilent: true }
]

const Times = Schema.Struct({ first: Schema.Array(Schema.Number), again: Schema.Array(Schema.Number) })
const Results = Schema.fromJsonString(Schema.Struct({ alone: Times, automatic: Times }))

const program = fileURLToPath(new URL("automatic.mjs", import.meta.url))

const run = Effect.fnUntraced(function* ({ daemon, isSilent = false, method }: Scene, rounds: number) {
  const lab = yield* Lab.make({ daemon })
  // The kernel refuses six packets at once and then one in a second, and here everybody is a newcomer.
  yield* lab.exec("router", "sysctl", ["-qw", "net.ipv4.icmp_ratelimit=0"])
  if (isSilent) yield* lab.exec("router", "nft", ["insert rule inet lab input udp dport 5351 drop"])
  const words = [program, "20000", String(rounds), method]
  const stdout = yield* lab.exec("lan", process.execPath, words, { timeout: "10 minutes" })
  return yield* Schema.decodeEffect(Results)(stdout)
}, Effect.scoped)

const median = (values: ReadonlyArray<number>): number => values.toSorted((a, b) => a - b)[values.length >> 1] ?? NaN

/** Whether what was promised holds, and the numbers. */
export type Verdict = readonly [holds: boolean, text: string]

const verdict = (what: string, alone: ReadonlyArray<number>, automatic: ReadonlyArray<number>): Verdict => {
  const ratio = median(automatic) / median(alone)
  const times = `${median(automatic).toFixed(1)} ms, the winner alone ${median(alone).toFixed(1)} ms`
  return [
    ratio <= largestRatio,
    `automatic, ${what}: ${ratio.toFixed(2)} of the winner's (at most ${largestRatio}; ${times})`
  ]
}

const verdictOnGrace = (alone: ReadonlyArray<number>, automatic: ReadonlyArray<number>): Verdict => {
  const longer = median(automatic) - median(alone)
  return [
    longer <= longestGrace,
    `automatic, where port 5351 is silent: ${longer.toFixed(0)} ms longer than the winner alone (at most ${longestGrace})`
  ]
}

/** Medians of so many rounds in each scene. */
export const measure = (rounds: number) =>
  Effect.map(
    Effect.forEach(scenes, (scene) => Effect.map(run(scene, rounds), (results) => ({ scene, results }))),
    (all) =>
      all.flatMap(({ results: { alone, automatic }, scene: { isSilent, method, name } }): ReadonlyArray<Verdict> => [
        isSilent === true
          ? verdictOnGrace(alone.first, automatic.first)
          : verdict(`where port 5351 ${name}`, alone.first, automatic.first),
        verdict(`where ${method} is remembered and port 5351 ${name}`, alone.again, automatic.again)
      ])
  )
