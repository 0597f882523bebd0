/**
 * Subscriptions to a simulated router, and the events that are due, without any network.
 */
import * as RouterModel from "@effect-nat/testing/RouterModel"
import * as UpnpResponder from "@effect-nat/testing/UpnpResponder"
import * as Gena from "@effect-nat/upnp/Gena"
import * as HttpUrl from "@effect-nat/upnp/HttpUrl"
import { assert, describe, it } from "@effect/vitest"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import { bytes, call, request, routerWith } from "./upnpRouter.ts"

const ip = NetAddress.ipFromStringUnsafe
const callback = "http://192.168.77.2:40000/events"

const newSubscription = (callbacks: ReadonlyArray<string> = [callback], timeoutSeconds: number | undefined = 300) =>
  Gena.encodeSubscribe({ _tag: "New", callbacks, timeoutSeconds })

const renewal = (sid: string, timeoutSeconds: number | undefined = 300) =>
  Gena.encodeSubscribe({ _tag: "Renewal", sid, timeoutSeconds })

const subscribe = (
  model: RouterModel.RouterModel,
  headers: Gena.HeaderList = newSubscription(),
  options: { readonly now?: number; readonly path?: string; readonly port?: number } = {}
) => {
  const answer = request(model, { method: "SUBSCRIBE", path: "/evt/IPConn", headers, ...options })
  const granted = Gena.decodeGranted(
    Object.fromEntries((answer?.headers ?? []).map(([name, value]) => [name.toLowerCase(), value]))
  )
  return {
    status: answer?.status,
    sid: Result.isSuccess(granted) ? granted.success.sid : "",
    seconds: Result.isSuccess(granted) ? granted.success.timeoutSeconds : undefined
  }
}

const unsubscribe = (model: RouterModel.RouterModel, headers: Gena.HeaderList, path = "/evt/IPConn") =>
  request(model, { method: "UNSUBSCRIBE", path, headers })?.status

/** What goes out, as a subscriber reads it. */
const due = (model: RouterModel.RouterModel, now = 0) =>
  UpnpResponder.dueEvents(model, now).map(({ body, headers }) => {
    const lowered = Object.fromEntries(headers.map(([name, value]) => [name.toLowerCase(), value]))
    const { properties, sequence, sid } = Result.getOrThrow(Gena.decodeEvent(lowered, bytes(body)))
    return { sid, sequence, properties: Object.fromEntries(properties) }
  })

const first = {
  PossibleConnectionTypes: "IP_Routed,IP_Bridged",
  ConnectionStatus: "Connected",
  ExternalIPAddress: "11.22.33.1",
  PortMappingNumberOfEntries: "0"
}

const map = (model: RouterModel.RouterModel) =>
  call(model, "AddPortMapping", [
    ["NewRemoteHost", ""],
    ["NewExternalPort", "12001"],
    ["NewProtocol", "TCP"],
    ["NewInternalPort", "12000"],
    ["NewInternalClient", "192.168.77.2"],
    ["NewEnabled", "1"],
    ["NewPortMappingDescription", ""],
    ["NewLeaseDuration", "60"]
  ])

describe("a subscription", () => {
  it("is granted, and told every variable first, and then what has changed", () => {
    const model = routerWith()
    const { seconds, sid, status } = subscribe(model)
    assert.strictEqual(status, 200)
    assert.strictEqual(seconds, 300)
    assert.match(sid, /^uuid:[0-9a-f-]{36}$/)
    assert.deepStrictEqual(due(model), [{ sid, sequence: 0, properties: first }])
    assert.deepStrictEqual(due(model), [])
    model.changeExternalAddress(ip("11.22.33.2"))
    assert.deepStrictEqual(due(model), [{ sid, sequence: 1, properties: { ExternalIPAddress: "11.22.33.2" } }])
    map(model)
    assert.deepStrictEqual(due(model), [{ sid, sequence: 2, properties: { PortMappingNumberOfEntries: "1" } }])
    // The lease runs out.
    assert.deepStrictEqual(due(model, 60_000), [{ sid, sequence: 3, properties: { PortMappingNumberOfEntries: "0" } }])
  })

  it("goes to the subscriber's own callbacks, in their order", () => {
    const model = routerWith()
    const callbacks = ["http://192.168.77.2:1/a", "http://192.168.77.3:2/b", "http://192.168.77.2:3/c"]
    assert.strictEqual(subscribe(model, newSubscription(callbacks)).status, 200)
    const [event] = UpnpResponder.dueEvents(model, 0)
    assert.deepStrictEqual(event?.callbacks.map(HttpUrl.format), ["http://192.168.77.2:1/a", "http://192.168.77.2:3/c"])
  })

  it.each([["http://192.168.77.3:2/b"], ["http://router.home.arpa/b"], ["http://8.8.8.8/b"]])(
    "to somebody else is refused: %s",
    (url) => {
      const model = routerWith()
      assert.strictEqual(subscribe(model, newSubscription([url])).status, 412)
      assert.lengthOf(model.subscriptions.entries(0), 0)
    }
  )

  it.each([
    [1, 60],
    [300, 300],
    [100_000, 1800],
    [undefined, 1800]
  ])("for %s seconds is granted for %i", (wanted, granted) => {
    const headers = Gena.encodeSubscribe({ _tag: "New", callbacks: [callback], timeoutSeconds: wanted })
    assert.strictEqual(subscribe(routerWith(), headers).seconds, granted)
  })

  it("ends when its time has passed, and is renewed before that", () => {
    const model = routerWith()
    const { sid } = subscribe(model)
    due(model)
    assert.strictEqual(subscribe(model, renewal(sid), { now: 299_000 }).sid, sid)
    model.changeExternalAddress(undefined)
    assert.lengthOf(due(model, 598_000), 1)
    assert.strictEqual(subscribe(model, renewal(sid), { now: 599_000 }).status, 412)
    model.changeExternalAddress(ip("11.22.33.3"))
    assert.deepStrictEqual(due(model, 599_000), [])
  })

  it("does not say everything again when it is renewed", () => {
    const model = routerWith()
    const { sid } = subscribe(model)
    due(model)
    subscribe(model, renewal(sid))
    assert.deepStrictEqual(due(model), [])
  })

  it("is ended by who has it", () => {
    const model = routerWith()
    const { sid } = subscribe(model)
    assert.strictEqual(unsubscribe(model, Gena.encodeUnsubscribe("uuid:somebody")), 412)
    assert.strictEqual(unsubscribe(model, Gena.encodeUnsubscribe(sid)), 200)
    assert.strictEqual(unsubscribe(model, Gena.encodeUnsubscribe(sid)), 412)
    assert.deepStrictEqual(due(model), [])
  })

  it("is forgotten in a restart, and its name is not given again", () => {
    const model = routerWith("RestartKeepsTable")
    const { sid } = subscribe(model)
    model.reboot(0)
    assert.deepStrictEqual(due(model), [])
    assert.strictEqual(subscribe(model, renewal(sid)).status, 412)
    assert.notStrictEqual(subscribe(model).sid, sid)
  })

  it.each([
    ["no NT", [["CALLBACK", `<${callback}>`]], 412],
    ["no callback", [["NT", "upnp:event"]], 412],
    ["a name and a callback", [...newSubscription(), ["SID", "uuid:1"]], 400],
    ["an unknown name", renewal("uuid:1"), 412]
  ] as ReadonlyArray<readonly [string, Gena.HeaderList, number]>)("with %s is refused", (_, headers, status) => {
    assert.strictEqual(subscribe(routerWith(), headers).status, status)
  })

  it("is to one service, where that is", () => {
    const model = routerWith()
    assert.strictEqual(subscribe(model, newSubscription(), { path: "/evt/Nothing" }).status, 404)
    assert.strictEqual(subscribe(model, newSubscription(), { path: "/ctl/IPConn" }).status, 404)
    assert.strictEqual(subscribe(model, newSubscription(), { port: 5001 }).status, 404)
    subscribe(model, newSubscription(), { path: "/evt/CmnIfCfg" })
    subscribe(model, newSubscription(), { path: "/evt/L3F" })
    const [common, forwarding] = due(model)
    assert.deepStrictEqual(common?.properties, { PhysicalLinkStatus: "Up" })
    assert.deepStrictEqual(Object.keys(forwarding?.properties ?? {}), ["DefaultConnectionService"])
  })

  it("may be one of many, to a limit", () => {
    const model = routerWith()
    const sids = Array.from({ length: 32 }, () => subscribe(model).sid)
    assert.strictEqual(new Set(sids).size, 32)
    assert.strictEqual(subscribe(model).status, 503)
    assert.lengthOf(due(model), 32)
  })

  it("hears of the firewall, and of the table's state, on a gateway of the second version", () => {
    const model = new RouterModel.RouterModel({ igdVersion: 2 })
    subscribe(model, newSubscription(), { path: "/evt/IP6FwCtl" })
    assert.deepStrictEqual(due(model)[0]?.properties, { FirewallEnabled: "1", InboundPinholeAllowed: "1" })
    model.pinholes.isInboundPinholeAllowed = false
    assert.deepStrictEqual(due(model)[0]?.properties, { InboundPinholeAllowed: "0" })
    subscribe(model)
    assert.strictEqual(due(model)[0]?.properties["SystemUpdateID"], "0")
    map(model)
    assert.deepStrictEqual(due(model)[0]?.properties, { PortMappingNumberOfEntries: "1", SystemUpdateID: "1" })
  })

  it("hears nothing from a silent router, and all of it afterwards", () => {
    const model = routerWith()
    subscribe(model)
    model.goSilent()
    assert.deepStrictEqual(due(model), [])
    model.wake()
    assert.lengthOf(due(model), 1)
  })
})

describe("routers that are not good at events", () => {
  it("do not offer them", () => {
    assert.strictEqual(subscribe(routerWith("EventsNotOffered")).status, 404)
  })

  it("refuse subscriptions", () => {
    assert.strictEqual(subscribe(routerWith("SubscriptionsRefused")).status, 503)
  })

  it("grant subscriptions and never send an event", () => {
    const model = routerWith("EventsNeverSent")
    assert.strictEqual(subscribe(model).status, 200)
    model.changeExternalAddress(ip("11.22.33.2"))
    assert.deepStrictEqual(due(model), [])
  })
})
