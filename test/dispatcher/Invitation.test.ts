import * as ContactPoint from "@effect-nat/core/ContactPoint"
import * as Invitation from "@effect-nat/dispatcher/Invitation"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as ContactPoints from "../core/contactPoints.ts"

const id = "000102030405060708090a0b0c0d0eff"
const capability = "ffeeddccbbaa99887766554433221100"

it("is one word, read in either case and with blanks around it", () => {
  const invitation = Result.getOrThrow(Invitation.fromString(` ${id.toUpperCase()}.${capability}\n`))
  assert.deepStrictEqual({ ...invitation }, { sessionId: id, capability })
  assert.strictEqual(Invitation.format(invitation), `${id}.${capability}`)
})

const wrong: ReadonlyArray<readonly [text: string, why: string]> = [
  ["", "it has no dot"],
  [id, "it has no dot"],
  [`${id} ${capability}`, "it has no dot"],
  [".", "before the dot are 0 characters"],
  [`.${capability}`, "before the dot are 0 characters"],
  [`${id}0.${capability}`, "before the dot are 33 characters"],
  [`${id}.`, "behind the dot are 0 characters"],
  [`${id}. ${capability}`, "behind the dot are 33 characters"],
  [`${id}.${capability.slice(1)}`, "behind the dot are 31 characters"],
  [`${id}.${capability.replace("f", "g")}`, "behind the dot is something that is no hexadecimal digit"],
  [`${id}.${capability}.`, "it has more than one dot"],
  [`${id}.${capability}.${id}`, "it has more than one dot"]
]

it.each(wrong)("is nothing else: %s", (text, why) => {
  const error = Result.getOrThrow(Result.flip(Invitation.fromString(text)))
  assert.strictEqual(error._tag, "NotAnInvitation")
  assert.strictEqual(error.message, `this is no invitation, which is 32 hexadecimal digits, a dot, and 32 more: ${why}`)
})

it.effect.prop("comes back from its text", [Invitation.Invitation], ([invitation]) =>
  Effect.sync(() => {
    assert.deepStrictEqual(Invitation.fromString(Invitation.format(invitation)), Result.succeed(invitation))
  })
)

it("is what a contact point carries to its first session, or that of a role or an id", () => {
  for (const which of [undefined, "scene", id.replace("ff", "0f"), id.replace("ff", "0F").toUpperCase()]) {
    const invitation = Result.getOrThrow(Invitation.fromContactPoint(ContactPoints.full, which))
    assert.deepStrictEqual({ ...invitation }, { sessionId: id.replace("ff", "0f"), capability })
  }
})

it.each([
  ["names none", ContactPoint.make({}), undefined, "names no session: ask for one"],
  ["names another", ContactPoints.full, "kitchen", 'names no session "kitchen": choose one of scene, content'],
  ["has it locked", ContactPoints.full, "content", "session content is locked: ask for an invitation"]
])("is none where the contact point %s", (_, contactPoint, which, why) => {
  const error = Result.getOrThrow(Result.flip(Invitation.fromContactPoint(contactPoint, which)))
  assert.include(error.message, why)
})
