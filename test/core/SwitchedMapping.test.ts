import type * as PortMapper from "@effect-nat/core/PortMapper"
import * as PortMapping from "@effect-nat/core/PortMapping"
import * as SwitchedMapping from "@effect-nat/core/SwitchedMapping"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"

const valueOf = (method: string, status: PortMapping.Status = "mapped") =>
  new PortMapping.PortMapping({
    remoteHost: undefined,
    externalAddress: NetAddress.ipFromStringUnsafe("11.22.33.1"),
    externalPort: 12001,
    protocol: "tcp",
    internalPort: 12000,
    internalAddress: NetAddress.ipFromStringUnsafe("192.168.77.2"),
    enabled: true,
    description: "test",
    lifetime: undefined,
    gateway: NetAddress.ipFromStringUnsafe("192.168.77.1"),
    method,
    status
  })

/** Everybody has had a turn, and whoever follows has seen it. */
const settle = Effect.repeat(Effect.yieldNow, { times: 100 })

/** A mapping that can be told what it is, and what was asked of it. */
const makeMapping = Effect.fnUntraced(function* (method: string) {
  const state = yield* SubscriptionRef.make(valueOf(method))
  const asked: Array<string> = []
  const note = (what: string) => Effect.sync(() => void asked.push(what))
  const mapping: PortMapper.Mapping = {
    current: SubscriptionRef.get(state),
    changes: SubscriptionRef.changes(state),
    renew: note("renew"),
    release: note("release")
  }
  return { mapping, asked, is: (value: PortMapping.PortMapping) => SubscriptionRef.set(state, value) }
})

const watch = Effect.fnUntraced(function* ({ changes }: PortMapper.Mapping) {
  const seen: Array<string> = []
  const fiber = yield* Effect.forkChild(
    Stream.runForEach(changes, ({ method, status }) => Effect.sync(() => void seen.push(`${method} ${status}`)))
  )
  yield* settle
  return { seen, fiber }
})

it.effect("tells what holds it, and that nobody does, once", () =>
  Effect.gen(function* () {
    const first = yield* makeMapping("pcp")
    const next = yield* makeMapping("upnp")
    const { become, lose, mapping } = yield* SwitchedMapping.make(first.mapping)
    const { seen } = yield* watch(mapping)
    yield* first.is(valueOf("pcp", "lost"))
    yield* settle
    yield* lose
    yield* settle
    assert.deepStrictEqual(seen, ["pcp mapped", "pcp lost"])
    assert.strictEqual((yield* mapping.current).status, "lost")
    yield* become(next.mapping)
    yield* settle
    yield* first.is(valueOf("pcp"))
    yield* settle
    assert.deepStrictEqual(seen, ["pcp mapped", "pcp lost", "upnp mapped"])
    assert.strictEqual((yield* mapping.current).method, "upnp")
  })
)

it.effect("asks what holds it now, and its changes end with its release", () =>
  Effect.gen(function* () {
    const first = yield* makeMapping("pcp")
    const next = yield* makeMapping("upnp")
    const { become, mapping } = yield* SwitchedMapping.make(first.mapping)
    const { fiber } = yield* watch(mapping)
    yield* mapping.renew
    yield* become(next.mapping)
    yield* mapping.renew
    yield* mapping.release
    yield* settle
    assert.deepStrictEqual([first.asked, next.asked], [["renew"], ["renew", "release"]])
    assert.isDefined(fiber.pollUnsafe())
  })
)

it.effect("its changes end with the scope", () =>
  Effect.gen(function* () {
    const first = yield* makeMapping("pcp")
    const { mapping } = yield* Effect.scoped(SwitchedMapping.make(first.mapping))
    const { fiber } = yield* watch(mapping)
    assert.isDefined(fiber.pollUnsafe())
  })
)
