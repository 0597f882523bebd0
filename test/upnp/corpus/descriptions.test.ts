import * as DeviceDescription from "@effect-nat/upnp/DeviceDescription"
import * as HttpUrl from "@effect-nat/upnp/HttpUrl"
import { assert, describe, it } from "@effect/vitest"
import * as Result from "effect/Result"
import * as Network from "../network.ts"
import * as Descriptions from "./descriptions.ts"

const location = Result.getOrThrow(HttpUrl.fromString(Descriptions.location, Network.ip("192.168.1.1")))

const typeOf = ({ serviceType }: DeviceDescription.Service): string => serviceType.split(":").slice(-2).join(":")

/** What was read, in so far as something is expected of it. */
const shown = (device: DeviceDescription.Device, expected: Descriptions.Expected): Descriptions.Expected => {
  const services = DeviceDescription.services(device)
  const all: Descriptions.Expected = {
    name: device.friendlyName,
    services: services.map((one) => `${typeOf(one)} ${HttpUrl.format(one.controlUrl)}`),
    wan: DeviceDescription.wanServices(device).map(
      ({ kind, service, version }) => `${kind} ${version} ${HttpUrl.format(service.controlUrl)}`
    ),
    others: services.flatMap(({ controlUrl, otherControlUrl }) =>
      otherControlUrl === undefined
        ? []
        : [`${HttpUrl.format(otherControlUrl)} instead of ${HttpUrl.format(controlUrl)}`]
    )
  }
  return {
    wan: all.wan,
    ...(expected.name === undefined ? {} : { name: all.name }),
    ...(expected.services === undefined ? {} : { services: all.services }),
    ...(expected.others === undefined ? {} : { others: all.others })
  } as Descriptions.Expected
}

describe("a description", () => {
  it.each(Descriptions.descriptions.map((one) => [one.what, one] as const))("with %s", (_, description) => {
    const { expected } = description
    const read = DeviceDescription.parse(Descriptions.bytesOf(description), location)
    if (typeof expected !== "string") return assert.deepStrictEqual(shown(Result.getOrThrow(read), expected), expected)
    assert.isTrue(Result.isFailure(read), "it is refused")
    if (Result.isFailure(read)) assert.include(read.failure.detail, expected)
  })

  it("is there in many shapes, each of its own", () => {
    assert.isAtLeast(Descriptions.descriptions.length, 60)
    assert.lengthOf(new Set(Descriptions.descriptions.map((one) => one.what)), Descriptions.descriptions.length)
  })
})
