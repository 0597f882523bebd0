import * as ContactPointCodec from "@effect-nat/core/ContactPointCodec"
import * as ContactPointUri from "@effect-nat/core/ContactPointUri"
import { assert, it } from "@effect/vitest"
import * as Equal from "effect/Equal"
import * as Result from "effect/Result"
import * as ContactPoints from "./contactPoints.ts"

const uri = ContactPointUri.format(ContactPoints.full)

const messageOf = (text: string) =>
  Result.match(ContactPointUri.fromString(text), { onSuccess: () => "read", onFailure: ({ message }) => message })

it("is one word of letters, digits, - and _", () => {
  assert.match(uri, /^effect-nat:[A-Za-z0-9_-]+$/)
})

it("comes back as it was, also in capitals before the colon and with line breaks in it", () => {
  const wrapped = ` EFFECT-NAT:${uri.slice(11).replaceAll(/(.{40})/g, "$1\r\n  ")}\n`
  for (const text of [uri, wrapped]) {
    assert.isTrue(Equal.equals(Result.getOrThrow(ContactPointUri.fromString(text)), ContactPoints.full), text)
  }
})

it("says what is wrong with what is none", () => {
  assert.include(messageOf("http://example.org"), "does not begin with effect-nat:")
  assert.include(messageOf(uri.slice(0, -1)), "copy all of it again")
  assert.include(messageOf(`${uri.slice(0, 30)}!${uri.slice(31)}`), "copy all of it again")
  assert.include(messageOf(`effect-nat:${"A".repeat(2 * ContactPointCodec.maximumBytes)}A`), "longer than")
  assert.include(messageOf("effect-nat:"), "it is empty")
})
