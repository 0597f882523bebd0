/**
 * A router that says what it is told to, and what it was asked.
 */
import type * as NatError from "@effect-nat/core/NatError"
import type * as DeviceDescription from "@effect-nat/upnp/DeviceDescription"
import type * as Soap from "@effect-nat/upnp/Soap"
import type * as SoapClient from "@effect-nat/upnp/SoapClient"
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"

/** The results of an action, or its refusal. */
export type Answer = Effect.Effect<Soap.Arguments, Soap.UpnpFault | NatError.NatError>

export interface Answering {
  readonly client: SoapClient.SoapClient
  /** Every call as `Action(Name=value, …)`, in the order they came. */
  readonly calls: Array<string>
}

export const service = (serviceType: string): DeviceDescription.Service => ({
  serviceType,
  serviceId: "urn:upnp-org:serviceId:x",
  controlUrl: { address: NetAddress.inetAddressFromStringUnsafe("192.168.1.1:5000"), path: "/ctl" },
  eventSubUrl: undefined,
  scpdUrl: undefined
})

export const answering = (answer: (action: string, list: Soap.Arguments) => Answer): Answering => {
  const calls: Array<string> = []
  return {
    calls,
    client: {
      call: (_, action, list) =>
        Effect.suspend(() => {
          calls.push(`${action}(${list.map(([name, value]) => `${name}=${value}`).join(", ")})`)
          return answer(action, list)
        }),
      exclusively: (_, effect) => effect,
      isOneRouter: () => undefined
    }
  }
}

/** The same results whatever is asked. */
export const always = (results: Soap.Arguments): Answering => answering(() => Effect.succeed(results))
