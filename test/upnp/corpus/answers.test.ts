import * as NatError from "@effect-nat/core/NatError"
import * as Layer3Forwarding from "@effect-nat/upnp/Layer3Forwarding"
import * as Soap from "@effect-nat/upnp/Soap"
import type * as SoapClient from "@effect-nat/upnp/SoapClient"
import * as WanCommonInterfaceConfig from "@effect-nat/upnp/WanCommonInterfaceConfig"
import * as WanIpConnection from "@effect-nat/upnp/WanIpConnection"
import * as WanIpv6FirewallControl from "@effect-nat/upnp/WanIpv6FirewallControl"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Answering from "../answering.ts"
import * as Answers from "./answers.ts"

/** A client of a router that has one answer to everything. */
const clientOf = (answer: Answers.Answer): SoapClient.SoapClient => ({
  call: (_, action) =>
    Effect.fromResult(
      Result.mapError(Soap.decodeAnswer(Answers.bytesOf(answer), action), (error) =>
        error._tag === "UpnpFault" ? error : NatError.fromReason(new NatError.MalformedAnswer({ detail: error.detail }))
      )
    ),
  exclusively: (_, effect) => effect,
  isOneRouter: () => undefined
})

const servicesOf = (client: SoapClient.SoapClient): Answers.Services => {
  const service = Answering.service("urn:schemas-upnp-org:service:WANIPConnection:2")
  return {
    connection: WanIpConnection.make(client, { kind: "ip", version: 2, service }),
    line: WanCommonInterfaceConfig.make(client, service),
    firewall: WanIpv6FirewallControl.make(client, service),
    forwarding: Layer3Forwarding.make(client, service)
  }
}

describe("an answer", () => {
  it.effect.each(Answers.answers.map((one) => [one.what, one] as const))("with %s", ([, answer]) =>
    Effect.gen(function* () {
      const { expected } = answer
      const read = yield* Effect.result(answer.ask(servicesOf(clientOf(answer))))
      if ("value" in expected) return assert.deepStrictEqual(Result.getOrThrow(read), expected.value)
      if (Result.isSuccess(read)) return assert.fail(`it is taken: ${JSON.stringify(read.success)}`)
      const error = read.failure
      if ("fault" in expected) {
        return assert.deepStrictEqual(error, new Soap.UpnpFault(expected.fault))
      }
      assert.strictEqual(error._tag === "NatError" && error.reason._tag, "MalformedAnswer")
      assert.include(error._tag === "NatError" ? error.reason.detail : "", expected.malformed)
    })
  )

  it("is there in many shapes, each of its own", () => {
    assert.isAtLeast(Answers.answers.length, 60)
    assert.lengthOf(new Set(Answers.answers.map((one) => one.what)), Answers.answers.length)
  })
})
