/**
 * What tests of contact points do in the lab: they start a dispatcher on the lan host, and send visitors.
 */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { fileURLToPath } from "node:url"
import type * as Lab from "./Lab.ts"
import type * as LabProcess from "./LabProcess.ts"

export const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url))

/** What the dispatcher's agent says of itself. */
interface Serving {
  readonly observe: string
  readonly manage: string
  readonly postcard: string
  readonly forwarder: number
}

export const serve = Effect.fnUntraced(function* (
  lab: Lab.LabService,
  strategy: "upnp" | "pcp",
  ...autoCreate: ReadonlyArray<string>
) {
  const server = yield* lab.spawn("lan", process.execPath, [path("dispatcher-agent.ts"), strategy, ...autoCreate])
  const serving: Serving = JSON.parse(yield* server.awaitLine('{"observe"', { timeout: "20 seconds" }))
  return { server, ...serving }
})

interface Visit {
  readonly host: Lab.Host
  readonly name: string
  readonly via?: string
}

/**
 * Joins the sessions scene and content of a contact point, and talks there with whoever answers; returns what the visitor
 * was told and by which address it came in, and the visitor.
 */
export const call = Effect.fnUntraced(function* (
  lab: Lab.LabService,
  uri: string,
  server: LabProcess.LabProcess,
  { host, name, via }: Visit
) {
  const words = [path("contact-point-agent.ts"), uri, name, ...(via === undefined ? [] : [via])]
  const visitor = yield* lab.spawn(host, process.execPath, words)
  const said: { readonly addresses: ReadonlyArray<string>; readonly viewpoint: string } = JSON.parse(
    yield* visitor.awaitLine('{"addresses"', { timeout: "20 seconds" })
  )
  const came: Array<string | undefined> = []
  for (const role of ["scene", "content"]) {
    const line = yield* visitor.awaitLine(`joined ${role} at `, { timeout: "20 seconds" })
    came.push(line.split(" at ")[1])
    yield* server.awaitLine(`${role}: hello from ${name}`)
    yield* visitor.awaitLine(`${role}: heard hello from ${name}`)
  }
  assert.strictEqual(said.viewpoint, "plaza")
  assert.strictEqual(came[0], came[1])
  return { told: { addresses: said.addresses, came: came[0] }, visitor }
})

/** What a visitor was told, and by which address it came in. */
export const visit = (...visit: Parameters<typeof call>) => Effect.map(call(...visit), ({ told }) => told)
