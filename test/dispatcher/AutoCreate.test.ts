import * as Capability from "@effect-nat/core/Capability"
import * as SessionId from "@effect-nat/core/SessionId"
import * as Dispatcher from "@effect-nat/dispatcher/Dispatcher"
import * as Invitation from "@effect-nat/dispatcher/Invitation"
import * as NodeConnector from "@effect-nat/dispatcher/NodeConnector"
import * as Session from "@effect-nat/dispatcher/Session"
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { environment, loopback, until } from "./support.ts"

type Factory = Dispatcher.AutoCreateOptions["factory"]

/** A dispatcher that makes sessions for whoever has the capability of an invitation to none. */
const creating = Effect.fnUntraced(function* (factory?: Factory) {
  const invitation = new Invitation.Invitation({
    sessionId: yield* SessionId.make,
    capability: yield* Capability.make
  })
  const autoCreate = { capability: invitation.capability, factory }
  const one = yield* Dispatcher.make({ port: 0, address: loopback, autoCreate }).pipe(Effect.provide(environment))
  const join = (by: Invitation.Invitation = invitation) =>
    Session.joinAt([one.address], { invitation: by }).pipe(Effect.provide(NodeConnector.layer))
  const refusal = (by?: Invitation.Invitation) =>
    Effect.map(Effect.flip(Effect.scoped(join(by))), ({ reason }) => reason._tag)
  return { one, invitation, join, refusal }
})

describe("autoCreate", () => {
  it.live("makes a session for whoever shows its capability, until the last one goes", () =>
    Effect.gen(function* () {
      const { invitation, join, one, refusal } = yield* creating(() => Effect.succeedSome({ role: "scene" }))
      const stranger = new Invitation.Invitation({ ...invitation, capability: yield* Capability.make })
      assert.strictEqual(yield* refusal(stranger), "UnknownSession")
      assert.lengthOf(yield* one.list, 0)
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* Effect.all([join(), join()], { concurrency: "unbounded" })
          assert.deepStrictEqual(yield* one.list, [{ id: invitation.sessionId, role: "scene", members: 2 }])
        })
      )
      yield* until(Effect.map(one.list, ({ length }) => length === 0))
    })
  )

  it.live("refuses where the factory has none, makes no sense or is broken", () =>
    Effect.gen(function* () {
      for (const factory of [
        () => Effect.succeedNone,
        () => Effect.succeedSome({ role: "r".repeat(64) }),
        () => Effect.die("broken")
      ]) {
        const { one, refusal } = yield* creating(factory)
        assert.strictEqual(yield* refusal(), "UnknownSession")
        assert.lengthOf(yield* one.list, 0)
      }
    })
  )

  it.live("leaves alone what was registered meanwhile", () =>
    Effect.gen(function* () {
      const isAsked = yield* Deferred.make<void>()
      const isMade = yield* Deferred.make<void>()
      const { invitation, one, refusal } = yield* creating(() =>
        Deferred.succeed(isAsked, undefined).pipe(
          Effect.andThen(Deferred.await(isMade)),
          Effect.as(Option.some<Dispatcher.SessionOptions>({}))
        )
      )
      const refused = yield* Effect.forkChild(refusal())
      yield* Deferred.await(isAsked)
      const { sessionId } = invitation
      yield* one.register({ sessionId, autoStop: true })
      yield* Deferred.succeed(isMade, undefined)
      assert.strictEqual(yield* Fiber.join(refused), "UnknownSession")
      assert.lengthOf(yield* one.list, 1)
    })
  )
})
