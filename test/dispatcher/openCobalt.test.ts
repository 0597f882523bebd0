/** `docs/open-cobalt.md`: its names are in the packages, and its code runs. */
import * as Core from "@effect-nat/core"
import * as ContactPoint from "@effect-nat/core/ContactPoint"
import * as ContactPointResolver from "@effect-nat/core/ContactPointResolver"
import * as Manual from "@effect-nat/core/Manual"
import * as DispatcherPackage from "@effect-nat/dispatcher"
import * as DefaultConfig from "@effect-nat/dispatcher/DefaultConfig"
import * as Dispatcher from "@effect-nat/dispatcher/Dispatcher"
import * as NatPmp from "@effect-nat/natpmp"
import * as NodeSimulatedRouter from "@effect-nat/testing/NodeSimulatedRouter"
import * as UpnpPackage from "@effect-nat/upnp"
import * as SsdpListener from "@effect-nat/upnp/SsdpListener"
import { assert, describe, it } from "@effect/vitest"
import * as Nat from "effect-nat"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import { readFileSync } from "node:fs"
import * as OpenCobalt from "../../examples/open-cobalt.ts"
import { loopback } from "./support.ts"

const read = (path: string) => readFileSync(new URL(`../../${path}`, import.meta.url), "utf8")
const page = read("docs/open-cobalt.md")

/** The left column of the tables is theirs, and no names of ours. */
const ours = page
  .replaceAll(/^```[\s\S]*?^```$/gm, "")
  .split("\n")
  .map((line) => (line.startsWith("| ") ? line.split(" | ").slice(1).join(" | ") : line))
  .join("\n")

const modules: Record<string, object> = { ...Core, ...DispatcherPackage, ...NatPmp, ...UpnpPackage, ...Nat }

/** A type leaves nothing behind that could be asked for at run time: its module's source has it. */
const declares = (module: string, name: string) =>
  ["core", "dispatcher", "natpmp", "upnp"].some((directory) => {
    try {
      return new RegExp(`^export (?:interface|type) ${name}\\b`, "m").test(
        read(`packages/${directory}/src/${module}.ts`)
      )
    } catch {
      return false
    }
  })

const behindRouter = NodeSimulatedRouter.layerHost.pipe(
  Layer.provideMerge(NodeSimulatedRouter.layer({ externalAddress: "11.22.33.1" }))
)

const contactPointBy = (config?: Parameters<typeof OpenCobalt.newWithConfig>[0]) =>
  Dispatcher.Dispatcher.use((dispatcher) => dispatcher.contactPoint).pipe(
    Effect.map((contactPoint) => ContactPoint.format(contactPoint).split("; ")[1]),
    // A free port, so that no other test is in the way; and only 127.0.0.1, behind the router.
    Effect.provide(OpenCobalt.newWithConfig(config, { port: 0, address: loopback })),
    Effect.provide(ContactPointResolver.layer)
  )

describe("docs/open-cobalt.md", () => {
  const names = Array.from(ours.matchAll(/`(?:yield\* )?([A-Z]\w+)\.(\w+)/g), ([, module = "", name = ""]) => ({
    module,
    name
  }))

  it("names what is in the packages", () => {
    assert.isAbove(names.length, 40)
    const missing = names.filter(({ module, name }) => !(name in (modules[module] ?? {})) && !declares(module, name))
    assert.deepStrictEqual(missing, [])
  })

  it("shows the example as it is", () => {
    assert.include(page, `\`\`\`ts\n${read("examples/open-cobalt.ts")}\`\`\`\n`)
  })

  it("knows the page's facets, in their order", () => {
    const section = page.split(/^## /m).find((one) => one.startsWith("The message router")) ?? ""
    const rows = Array.from(section.matchAll(/^\| `(\w+)` +\|/gm), ([, facet]) => facet)
    assert.deepStrictEqual(rows, Array.from(DispatcherPackage.Facet.all))
  })

  it.live("makes dispatchers by each of the page's configurations", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* contactPointBy(OpenCobalt.lanOnly), "external unknown")
      assert.strictEqual(yield* contactPointBy(OpenCobalt.manual), "external unknown")
      assert.match((yield* contactPointBy(OpenCobalt.upnp)) ?? "", /^external 11\.22\.33\.1:\d+$/)
      assert.strictEqual(yield* contactPointBy(), "external unknown")
      const known = Manual.layer({ externalPort: 12001, externalAddress: "11.22.33.9" })
      const byDefault = Effect.provideService(contactPointBy(), DefaultConfig.DefaultConfig, known)
      assert.strictEqual(yield* byDefault, "external 11.22.33.9:12001")
    }).pipe(Effect.provide(behindRouter))
  )

  it.live("handles the router step by step", () =>
    Effect.gen(function* () {
      const router = yield* NodeSimulatedRouter.NodeSimulatedRouter
      const seen = yield* OpenCobalt.workspace.pipe(Effect.provide(SsdpListener.layer))
      assert.strictEqual(seen?.address && NetAddress.formatIp(seen.address), "11.22.33.1")
      assert.deepStrictEqual(seen?.mappings, [["", 12001, "TCP", 12000, "127.0.0.1", true, "Open Cobalt", 0]])
      assert.deepStrictEqual(yield* router.table, [])
    }).pipe(Effect.provide(behindRouter))
  )
})
