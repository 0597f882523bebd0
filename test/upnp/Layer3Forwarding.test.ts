import * as DeviceDescription from "@effect-nat/upnp/DeviceDescription"
import * as Layer3Forwarding from "@effect-nat/upnp/Layer3Forwarding"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Answering from "./answering.ts"

const service = Answering.service(`${DeviceDescription.serviceTypes.layer3Forwarding}:1`)

const wanIp = "urn:upnp-org:serviceId:WANIPConn1"

const withId = (serviceId: string, serviceType = "urn:schemas-upnp-org:service:WANIPConnection:1") => ({
  ...Answering.service(serviceType),
  serviceId
})

const device = (udn: string, services: ReadonlyArray<DeviceDescription.Service>): DeviceDescription.Device => ({
  deviceType: "",
  friendlyName: "",
  manufacturer: "",
  modelName: "",
  udn,
  services,
  devices: []
})

const gateway: DeviceDescription.Device = {
  ...device("uuid:root", []),
  devices: [
    device("uuid:a", [withId(wanIp), withId("", "urn:x:1")]),
    device("uuid:b", [withId(wanIp), withId("urn:upnp-org:serviceId:PPP")])
  ]
}

describe("the default connection", () => {
  it.effect.each([
    [`uuid:a-b-1:WANConnectionDevice:1,${wanIp}`, { deviceUdn: "uuid:a-b-1", serviceId: wanIp }],
    [`uuid:a-b-1:WANConnectionDevice:1, ${wanIp} `, { deviceUdn: "uuid:a-b-1", serviceId: wanIp }],
    [`UUID:a-b-1,${wanIp}`, { deviceUdn: "UUID:a-b-1", serviceId: wanIp }],
    [`${wanIp},uuid:a-b-1`, { deviceUdn: "uuid:a-b-1", serviceId: wanIp }],
    [wanIp, { deviceUdn: "", serviceId: wanIp }],
    ["uuid:a-b-1:WANConnectionDevice:1,", { deviceUdn: "uuid:a-b-1", serviceId: "" }],
    [" , ", undefined],
    ["", undefined]
  ] as const)("is read from %j [L3F1 2.2.1-a]", ([text, expected]) =>
    Effect.gen(function* () {
      const { calls, client } = Answering.always([["NewDefaultConnectionService", text]])
      const read = yield* Layer3Forwarding.make(client, service).getDefaultConnectionService
      assert.deepStrictEqual(read, expected)
      assert.deepStrictEqual(calls, ["GetDefaultConnectionService()"])
    })
  )

  it.effect.prop("is never an accident", [Schema.String], ([text]) =>
    Effect.sync(() => {
      const read = Layer3Forwarding.parseDefaultConnection(text)
      if (read !== undefined) Layer3Forwarding.findService(gateway, read)
    })
  )

  it.each([
    ["of the device that it names", { deviceUdn: "UUID:B", serviceId: wanIp }, "uuid:b"],
    ["that is alone with its id", { deviceUdn: "", serviceId: "urn:upnp-org:serviceId:PPP" }, "uuid:b"],
    [
      "that is alone with its id, on an unknown device",
      { deviceUdn: "uuid:x", serviceId: "urn:upnp-org:serviceId:ppp" },
      "uuid:b"
    ],
    [
      "that is named by its type",
      { deviceUdn: "uuid:a", serviceId: "urn:schemas-upnp-org:service:WANIPConnection:1" },
      "uuid:a"
    ]
  ])("is the service %s [L3F1 2.4.2-a]", (_, named, udn) => {
    assert.strictEqual(Layer3Forwarding.findService(gateway, named)?.device.udn, udn)
  })

  it.each([
    ["one of two, without a device", { deviceUdn: "", serviceId: wanIp }],
    ["none of the device's", { deviceUdn: "uuid:a", serviceId: "urn:upnp-org:serviceId:WANIPConn9" }],
    ["nothing", { deviceUdn: "uuid:a", serviceId: "" }]
  ])("is not found where it names %s", (_, named) => {
    assert.isUndefined(Layer3Forwarding.findService(gateway, named))
  })
})
