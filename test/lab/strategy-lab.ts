/**
 * What tests of a strategy do in the lab: they start a program that uses it on the lan host, knock from the wan, and
 * look at what the router holds.
 */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { fileURLToPath } from "node:url"
import * as Lab from "./Lab.ts"
import type * as LabProcess from "./LabProcess.ts"

const agent = fileURLToPath(new URL("./strategy-agent.ts", import.meta.url))

export type Strategy = "natpmp" | "pcp" | "upnp"

/** Node and its modules may take their time on a busy machine. */
export const patience = { timeout: "15 seconds" } as const

/** What the router holds of a mapping of the lan host's port 12000. */
export const onRouter = (protocol: "tcp" | "udp", externalPort = 12001): Lab.Mapping => ({
  protocol,
  externalPort,
  internalAddress: "192.168.77.2",
  internalPort: 12000
})

export const echo = (lab: Lab.LabService, protocol: "tcp" | "udp") =>
  (protocol === "tcp" ? lab.tcpEcho : lab.udpEcho)("lan", 12000)

/** Whether a packet from the wan gets to a port. */
export const knock = (
  lab: Lab.LabService,
  protocol: "tcp" | "udp",
  address: string,
  port: number,
  options?: Lab.ProbeOptions
) => (protocol === "tcp" ? lab.tcpProbe : lab.udpProbe)("wan", address, port, options)

/** Whether one gets to a port of the lan host's IPv6 address: the firewall says nothing of what it keeps out. */
export const knockIpv6 = (lab: Lab.LabService, protocol: "tcp" | "udp", port: number) =>
  knock(lab, protocol, Lab.ipv6Addresses.lan, port, { timeout: "700 millis" })

/** Without its search, which always takes two seconds. */
export const upnpc = (lab: Lab.LabService, ...words: ReadonlyArray<string>) =>
  Effect.flatMap(lab.location, (location) => lab.exec("lan", "upnpc", ["-u", location, ...words]))

/** What a strategy's program prints of its mapping. */
export interface Printed {
  readonly text: string
  readonly internal: string
  readonly gateway: string
  readonly lifetime: number
  readonly method: string
  /** The mapping as an entry of a router's list, in the order that UPnP has for it. */
  readonly fields: ReadonlyArray<unknown>
}

/** The program that uses a strategy, on the lan host. */
export const programOf = (strategy: Strategy) => {
  const command = (words: ReadonlyArray<string>) => [agent, strategy, ...words]

  /** Runs it to its end, whatever that is. */
  const run = (lab: Lab.LabService, ...words: ReadonlyArray<string>) => lab.run("lan", process.execPath, command(words))

  const spawn = (lab: Lab.LabService, ...words: ReadonlyArray<string>) =>
    lab.spawn("lan", process.execPath, command(words))

  /** What it prints of what it was asked. */
  const ask = (lab: Lab.LabService, ...words: ReadonlyArray<string>) =>
    Effect.map(lab.exec("lan", process.execPath, command(words)), (text): unknown =>
      text === "" ? undefined : JSON.parse(text)
    )

  /** Starts it, and waits until it holds its mapping. */
  const holding = Effect.fnUntraced(function* (lab: Lab.LabService, ...words: ReadonlyArray<string>) {
    const program = yield* spawn(lab, ...words)
    const printed: Printed = JSON.parse(yield* program.awaitLine("{", patience))
    return { program, printed }
  })

  /** Starts it for a mapping that it holds until it shall go on. */
  const mapped = (lab: Lab.LabService, ...words: ReadonlyArray<string>) => holding(lab, "close", ...words)

  return { ask, holding, mapped, run, spawn }
}

/** Has a program that holds a mapping go on, to its end: the router holds what others have mapped, and no more. */
export const ended = Effect.fnUntraced(function* (
  lab: Lab.LabService,
  program: LabProcess.LabProcess,
  left: ReadonlyArray<Lab.Mapping> = []
) {
  yield* program.write("go on\n")
  assert.strictEqual((yield* program.awaitExit()).exitCode, 0)
  assert.deepStrictEqual(yield* lab.mappings, left)
})

/** Where port 12001 is not to be had, a program that wants no other fails, and one that takes any gets another. */
export const avoidsPort12001 = Effect.fnUntraced(function* (lab: Lab.LabService, strategy: Strategy) {
  const { mapped, run } = programOf(strategy)
  const theirs = yield* lab.mappings
  const strict = yield* run(lab, "close", "tcp", "12000", "12001", "--strict")
  assert.strictEqual(strict.exitCode, 1)
  assert.include(`${strict.stdout}${strict.stderr}`, "external port 12001 is taken")
  assert.deepStrictEqual(yield* lab.mappings, theirs)

  const { printed, program } = yield* mapped(lab, "tcp", "12000", "12001")
  const isTheirs = (one: Lab.Mapping) => theirs.some(({ externalPort }) => externalPort === one.externalPort)
  const ours = (yield* lab.mappings).filter((one) => !isTheirs(one))
  assert.deepStrictEqual(ours, [onRouter("tcp", ours[0]?.externalPort)])
  assert.strictEqual(printed.text, `11.22.33.1:${ours[0]?.externalPort}/tcp`)
  assert.notStrictEqual(ours[0]?.externalPort, 12001)
  yield* ended(lab, program, theirs)
})
