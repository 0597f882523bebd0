import * as Invitation from "@effect-nat/dispatcher/Invitation"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"

const id = "000102030405060708090a0b0c0d0eff"
const capability = "ffeeddccbbaa99887766554433221100"

it("is one word, read in either case and with blanks around it", () => {
  const invitation = Option.getOrThrow(Invitation.fromString(` ${id.toUpperCase()}.${capability}\n`))
  assert.deepStrictEqual({ ...invitation }, { sessionId: id, capability })
  assert.strictEqual(Invitation.format(invitation), `${id}.${capability}`)
})

it("is nothing else", () => {
  const wrong = [
    "",
    ".",
    id,
    `${id}.`,
    `.${capability}`,
    `${id} ${capability}`,
    `${id}.${capability}.`,
    `${id}.${capability}.${id}`,
    `${id}. ${capability}`,
    `${id}.${capability.slice(1)}`,
    `${id}0.${capability}`,
    `${id}.${capability.replace("f", "g")}`
  ]
  for (const text of wrong) {
    assert.isTrue(Option.isNone(Invitation.fromString(text)), JSON.stringify(text))
  }
})

it.effect.prop("comes back from its text", [Invitation.Invitation], ([invitation]) =>
  Effect.sync(() => {
    assert.deepStrictEqual(Invitation.fromString(Invitation.format(invitation)), Option.some(invitation))
  })
)
