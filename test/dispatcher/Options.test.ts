/** What a dispatcher and its sessions may be called, and where they may listen: nonsense is refused before anything opens. */
import * as SessionId from "@effect-nat/core/SessionId"
import * as Dispatcher from "@effect-nat/dispatcher/Dispatcher"
import type * as DispatcherError from "@effect-nat/dispatcher/DispatcherError"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import { environment, loopback, simulated } from "./support.ts"

const told = (error: DispatcherError.DispatcherError) => `${error.reason._tag}: ${error.message}`

const refusals: ReadonlyArray<readonly [string, Dispatcher.Options, string]> = [
  ["a name", { name: "n".repeat(256) }, "the name may have at most 255 bytes in UTF-8"],
  ["a name by its bytes", { name: "é".repeat(128) }, "the name may have at most 255 bytes in UTF-8"],
  ["a viewpoint", { viewpoint: "v".repeat(256) }, "the viewpoint may have at most 255 bytes in UTF-8"],
  ["a port", { port: 65_536 }, "the port must be a whole number from 0 to 65535, not 65536"],
  [
    "a forwarder's port",
    { port: 0, forwarder: { port: -1 } },
    "the forwarder's port must be a whole number from 0 to 65535, not -1"
  ],
  [
    "a limit",
    { limits: { maxControllers: 0 } },
    `maxControllers must be a whole number from 1 to ${Number.MAX_SAFE_INTEGER}, not 0`
  ]
]

describe("an option that makes no sense", () => {
  it.effect.each(refusals)("%s", ([, options, message]) =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(
        Dispatcher.make({ address: loopback, ...options }).pipe(Effect.provide(environment))
      )
      assert.strictEqual(error._tag === "DispatcherError" && told(error), `InvalidOption: ${message}`)
    })
  )

  it.effect("up to the limit makes sense", () =>
    Effect.gen(function* () {
      const name = `${"é".repeat(127)}n`
      const { dispatcher } = yield* simulated(undefined, { options: { port: 12000, name, viewpoint: name } })
      const contactPoint = yield* dispatcher.contactPoint
      assert.deepStrictEqual([contactPoint.name, contactPoint.viewpoint], [name, name])
    })
  )
})

describe("a session", () => {
  const sessions: ReadonlyArray<readonly [string, Dispatcher.RegisterOptions, string]> = [
    ["with a long role", { role: "r".repeat(64) }, "InvalidOption: a role may have at most 63 bytes in UTF-8"],
    ["with half a character", { role: "\u{d83d}" }, "InvalidOption: a role may have at most 63 bytes in UTF-8"],
    [
      "with the dispatcher's own id",
      { sessionId: SessionId.SessionId.make("0".repeat(32)) },
      "InvalidOption: the session id that is all zero names the dispatcher itself: take another"
    ]
  ]
  it.effect.each(sessions)("%s is refused", ([, options, message]) =>
    Effect.gen(function* () {
      const { dispatcher } = yield* simulated()
      assert.strictEqual(told(yield* Effect.flip(dispatcher.register(options))), message)
      assert.lengthOf(yield* dispatcher.list, 1)
    })
  )

  it.effect("tells its role", () =>
    Effect.gen(function* () {
      const { dispatcher } = yield* simulated()
      const role = "r".repeat(63)
      const { sessionId } = yield* dispatcher.register({ role })
      const { sessions } = yield* dispatcher.contactPointOf({ sessions: [sessionId] })
      assert.deepStrictEqual(
        sessions.map((one) => one.role),
        [role]
      )
    })
  )

  it.effect("that is not there is in no contact point, nor one under a name that is too long", () =>
    Effect.gen(function* () {
      const { dispatcher } = yield* simulated()
      const sessionId = SessionId.SessionId.make("a".repeat(32))
      const failures = [
        yield* Effect.flip(dispatcher.contactPointOf({ sessions: [sessionId] })),
        yield* Effect.flip(dispatcher.contactPointOf({ name: "n".repeat(256) })),
        yield* Effect.flip(dispatcher.contactPointOf({ viewpoint: "v".repeat(256) }))
      ]
      assert.deepStrictEqual(failures.map(told), [
        `NoSuchSession: session ${sessionId} is not registered`,
        "InvalidOption: a name may have at most 255 bytes in UTF-8",
        "InvalidOption: a viewpoint may have at most 255 bytes in UTF-8"
      ])
    })
  )
})

describe("the forwarder", () => {
  it.live("on a port in use is a clear error, and leaves the first port free", () =>
    Effect.gen(function* () {
      const first = yield* Dispatcher.make({ port: 0, address: loopback, forwarder: { port: 0 } })
      const taken = first.forwarder?.port ?? 0
      const { port: free } = yield* Effect.scoped(
        Effect.map(Dispatcher.make({ port: 0, address: loopback }), ({ address }) => address)
      )
      const again = { port: free, address: loopback, forwarder: { port: taken } }
      const error = yield* Effect.flip(Dispatcher.make(again))
      const message = `port ${taken} is in use on this host: end the program that listens there, or choose another port`
      assert.strictEqual(error._tag === "DispatcherError" && told(error), `AddressInUse: ${message}`)
      yield* Dispatcher.make({ ...again, forwarder: undefined })
    }).pipe(Effect.provide(environment))
  )

  it.live("listens on loopback where nobody says otherwise, although the dispatcher listens everywhere", () =>
    Effect.gen(function* () {
      for (const options of [{ port: 0 }, { port: 0, address: undefined }]) {
        const { forwarder } = yield* Dispatcher.make({ port: 0, forwarder: options })
        assert.strictEqual(forwarder && NetAddress.formatIp(forwarder.address), "127.0.0.1")
      }
    }).pipe(Effect.provide(environment))
  )
})
