/**
 * The client in a real browser, over WebSocket, in one session with a client over TCP.
 */
import * as Invitation from "@effect-nat/dispatcher/Invitation"
import * as NodeConnector from "@effect-nat/dispatcher/NodeConnector"
import * as Session from "@effect-nat/dispatcher/Session"
import { assert, layer } from "@effect/vitest"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import type { Page } from "playwright-core"
import * as LabSuite from "../lab/LabSuite.ts"
import * as Browser from "./browser/Browser.ts"
import * as Heard from "./browser/Heard.ts"
import * as Relay from "./browser/relay.ts"
import * as Support from "./support.ts"

/** A session with a member over TCP, and a page that is not in it yet. */
const makeWorld = Effect.gen(function* () {
  const dispatcher = yield* Support.dispatcher()
  const invitation = yield* dispatcher.register()
  const session = yield* Session.joinAt([dispatcher.address], { invitation })
  const heard: Array<Heard.Heard> = []
  yield* Effect.forkScoped(Heard.follow(session, heard))
  const page = yield* Browser.Browser.use((browser) => browser.openPage)
  return {
    dispatcher,
    session,
    heard,
    page,
    send: (text: string) => session.send(Support.bytesOf(text)),
    join: (port: number) =>
      Effect.promise(() =>
        page.evaluate(({ port, word }) => globalThis.member.join(port, word), {
          port,
          word: Invitation.format(invitation)
        })
      )
  }
}).pipe(Effect.provide(NodeConnector.layer))

const pageSends = (page: Page, text: string) =>
  Effect.promise(() => page.evaluate((text) => globalThis.member.send(text), text))

const pageHeard = (page: Page) => Effect.promise(() => page.evaluate(() => globalThis.member.heard))

/** What the page heard, once that is so much. */
const pageHears = Effect.fnUntraced(function* (page: Page, count: number) {
  yield* Support.until(Effect.map(pageHeard(page), (heard) => heard.length >= count))
  return yield* pageHeard(page)
})

const textsOf = (heard: ReadonlyArray<Heard.Heard>) => heard.map(({ text }) => text)

LabSuite.suiteNeeding({ who: "the browser's test", missing: Browser.missing }, "the client in a browser", () => {
  layer(Browser.layer, { excludeTestServices: true, timeout: "30 seconds" })((it) => {
    it.effect("hears the same messages with the same numbers in the same order as one over TCP", () =>
      Effect.gen(function* () {
        const world = yield* makeWorld
        yield* world.join(world.dispatcher.address.port)
        const turns = Arr.range(1, 30)
        yield* Effect.forEach(turns, (turn) =>
          Effect.all([pageSends(world.page, `page ${turn}`), world.send(`tcp ${turn}`)], { concurrency: 2 })
        )
        const heard = yield* pageHears(world.page, 60)
        yield* Support.until(Effect.sync(() => world.heard.length >= 60))
        assert.deepStrictEqual(heard, world.heard)
        assert.deepStrictEqual(
          heard.map(({ sequence }) => sequence),
          Arr.range(1, 60)
        )
        for (const who of ["page", "tcp"]) {
          const own = textsOf(heard).filter((text) => text.startsWith(who))
          assert.deepStrictEqual(
            own,
            turns.map((turn) => `${who} ${turn}`)
          )
        }
      })
    )

    it.effect("needs no secure context", () =>
      Effect.gen(function* () {
        const world = yield* makeWorld
        const has = yield* Effect.promise(() => world.page.evaluate("[isSecureContext, typeof crypto.subtle]"))
        assert.deepStrictEqual(has, [false, "undefined"])
        yield* world.join(world.dispatcher.address.port)
        yield* pageSends(world.page, "here")
        assert.deepStrictEqual(textsOf(yield* pageHears(world.page, 1)), ["here"])
      })
    )

    it.effect("begins with a snapshot that the member over TCP makes", () =>
      Effect.gen(function* () {
        const world = yield* makeWorld
        // The snapshot takes several parts.
        const past = ["a", "b", "c"].map((letter) => letter.repeat(60_000))
        yield* Effect.forEach(past, world.send)
        // Said while the snapshot is made: it is in it, and the page has heard it already.
        const state = Effect.gen(function* () {
          yield* Effect.orDie(world.send("d"))
          yield* Support.until(Effect.sync(() => world.heard.length === 4))
          return { sequence: 4, data: Support.bytesOf(textsOf(world.heard).join(" ")) }
        })
        yield* world.session.serve(state)
        yield* world.join(world.dispatcher.address.port)
        yield* world.send("e")
        const [snapshot, ...more] = yield* pageHears(world.page, 2)
        assert.deepStrictEqual(snapshot, {
          _tag: "Snapshot",
          sequence: 4,
          text: [...past, "d"].join(" "),
          stamp: undefined
        })
        assert.deepStrictEqual(more, world.heard.slice(4))
      })
    )

    it.effect("comes back when its connection was cut, without a gap and without a duplicate", () =>
      Effect.gen(function* () {
        const world = yield* makeWorld
        const relay = yield* Relay.make(world.dispatcher.address.port)
        yield* world.join(relay.port)
        yield* world.send("before")
        yield* pageHears(world.page, 1)
        yield* relay.cut
        yield* Effect.forEach(["while it is away", "still"], world.send)
        assert.deepStrictEqual(textsOf(yield* pageHeard(world.page)), ["before"])
        yield* relay.mend
        yield* pageHears(world.page, 3)
        yield* pageSends(world.page, "back")
        const heard = yield* pageHears(world.page, 4)
        assert.deepStrictEqual(textsOf(heard), ["before", "while it is away", "still", "back"])
        yield* Support.until(Effect.sync(() => world.heard.length >= 4))
        assert.deepStrictEqual(heard, world.heard)
      })
    )
  })
})
