import * as Invitation from "@effect-nat/dispatcher/Invitation"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"

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
