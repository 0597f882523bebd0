import * as Gena from "@effect-nat/upnp/Gena"
import { assert, describe, it } from "@effect/vitest"
import * as Result from "effect/Result"

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)

/** Headers as a server sees them. */
const received = (list: Gena.HeaderList): Gena.Headers =>
  Object.fromEntries(list.map(([name, value]) => [name.toLowerCase(), value]))

const sid = "uuid:5b9f4a3e-1dd2-11b2-8000-001122334455"

const refusal = <A>(result: Result.Result<A, Gena.GenaError>): number | undefined => {
  if (Result.isSuccess(result)) return undefined
  assert.instanceOf(result.failure, Gena.GenaError)
  assert.notStrictEqual(result.failure.message, "")
  return result.failure.status
}

describe("a subscription", () => {
  const fresh: Gena.Subscribe = { _tag: "New", callbacks: ["http://192.168.1.2:4004/a"], timeoutSeconds: 1800 }
  const renewal: Gena.Subscribe = { _tag: "Renewal", sid, timeoutSeconds: undefined }

  it("goes out with these headers [UDA 4.1.2-a, 4.1.3-a, 4.1.4-a]", () => {
    assert.deepStrictEqual(Gena.encodeSubscribe(fresh), [
      ["CALLBACK", "<http://192.168.1.2:4004/a>"],
      ["NT", "upnp:event"],
      ["TIMEOUT", "Second-1800"]
    ])
    assert.deepStrictEqual(Gena.encodeSubscribe(renewal), [
      ["SID", sid],
      ["TIMEOUT", "Second-infinite"]
    ])
    assert.deepStrictEqual(Gena.encodeUnsubscribe(sid), [["SID", sid]])
  })

  it("is read back as it was", () => {
    for (const one of [fresh, renewal, { ...fresh, callbacks: ["http://a/", "http://[fe80::1]:1/b?c=d"] }]) {
      assert.deepStrictEqual(Result.getOrThrow(Gena.decodeSubscribe(received(Gena.encodeSubscribe(one)))), one)
    }
    assert.strictEqual(Result.getOrThrow(Gena.decodeUnsubscribe(received(Gena.encodeUnsubscribe(sid)))), sid)
  })

  it("a value begins no other header", () => {
    for (const [, value] of [
      ...Gena.encodeUnsubscribe("a\r\nX-Evil: 1"),
      ...Gena.encodeUnsubscribe("\u0000\u{1f3ae}\u0100"),
      ...Gena.encodeSubscribe({ ...fresh, callbacks: ["http://a/\r\nX-Evil: 1"] }),
      ...Gena.encodeGranted({ sid: "a\nb", timeoutSeconds: 1 }),
      ...Gena.encodeEvent({ sid: "a\r\nb", sequence: 0, properties: [] }).headers
    ]) {
      assert.match(value, /^[\u0020-\u007e]*$/)
    }
  })

  it("only http URLs count, and not many of them", () => {
    const callback = "<ftp://a/> <http://b/><https://c/>, <HTTP://d/e>"
    const read = Gena.decodeSubscribe({ callback, nt: "upnp:event" })
    assert.deepStrictEqual(Result.getOrThrow(read), {
      _tag: "New",
      callbacks: ["http://b/", "HTTP://d/e"],
      timeoutSeconds: Gena.assumedTimeoutSeconds
    })
    const many = Gena.decodeSubscribe({ callback: "<http://a/>".repeat(100), nt: "upnp:event" })
    assert.strictEqual(Result.getOrThrow(Result.map(many, (one) => one._tag === "New" && one.callbacks.length)), 8)
  })

  it.each([
    ["nothing", {}, 412],
    ["no NT", { callback: "<http://a/>" }, 412],
    ["another NT", { callback: "<http://a/>", nt: "upnp:rootdevice" }, 412],
    ["no CALLBACK", { nt: "upnp:event" }, 412],
    ["a CALLBACK without brackets", { nt: "upnp:event", callback: "http://a/" }, 412],
    ["a CALLBACK without end", { nt: "upnp:event", callback: "<http://a/" }, 412],
    ["a CALLBACK of another kind", { nt: "upnp:event", callback: "<ftp://a/>" }, 412],
    ["a CALLBACK as long as a book", { nt: "upnp:event", callback: `<http://${"a".repeat(5000)}>` }, 412],
    ["a SID and an NT", { sid, nt: "upnp:event" }, 400],
    ["a SID and a CALLBACK", { sid, callback: "<http://a/>" }, 400],
    ["a SID as long as a book", { sid: "a".repeat(257) }, 412]
  ])("%s is refused", (_what, headers, status) => {
    assert.strictEqual(refusal(Gena.decodeSubscribe(headers)), status)
  })

  it("an end without a SID, or with more, is refused", () => {
    assert.strictEqual(refusal(Gena.decodeUnsubscribe({})), 412)
    assert.strictEqual(refusal(Gena.decodeUnsubscribe({ sid, nt: "upnp:event" })), 400)
  })
})

describe("what is granted", () => {
  it("goes out with these headers, and is read back as it was", () => {
    assert.deepStrictEqual(Gena.encodeGranted({ sid, timeoutSeconds: 300 }), [
      ["SID", sid],
      ["TIMEOUT", "Second-300"]
    ])
    for (const timeoutSeconds of [1, 300, 4294967295, undefined]) {
      const headers = received(Gena.encodeGranted({ sid, timeoutSeconds }))
      assert.deepStrictEqual(Result.getOrThrow(Gena.decodeGranted(headers)), { sid, timeoutSeconds })
    }
  })

  it.each([
    ["Second-1800", 1800],
    ["second-60", 60],
    ["  Second-infinite ", undefined],
    ["INFINITE", undefined],
    ["600", 600],
    ["Second-0", 1800],
    ["Second--1", 1800],
    ["Second-99999999999", 1800],
    ["", 1800],
    ["forever", 1800]
  ])("a time of %j", (timeout, timeoutSeconds) => {
    assert.strictEqual(Result.getOrThrow(Gena.decodeGranted({ sid, timeout })).timeoutSeconds, timeoutSeconds)
  })

  it("without a time it is half an hour, without a usable SID nothing", () => {
    assert.deepStrictEqual(Result.getOrThrow(Gena.decodeGranted({ sid })), { sid, timeoutSeconds: 1800 })
    assert.isDefined(refusal(Gena.decodeGranted({ timeout: "Second-1800" })))
    assert.isDefined(refusal(Gena.decodeGranted({ sid: "   " })))
    assert.isDefined(refusal(Gena.decodeGranted({ sid: "x".repeat(300) })))
  })

  it("an inherited name is no header", () => {
    const inherited = Object.create({ sid }) as Gena.Headers
    assert.isDefined(refusal(Gena.decodeGranted(inherited)))
  })
})

const headers: Gena.Headers = { nt: "upnp:event", nts: "upnp:propchange", sid, seq: "7" }

const propertySet = (inside: string) =>
  `<e:propertyset xmlns:e="urn:schemas-upnp-org:event-1-0">${inside}</e:propertyset>`

describe("an event", () => {
  const event: Gena.Event = {
    sid,
    sequence: 0,
    properties: [
      ["PossibleConnectionTypes", "Unconfigured,IP_Routed"],
      ["ConnectionStatus", "Connected"],
      ["ExternalIPAddress", "203.0.113.7"],
      ["PortMappingNumberOfEntries", "2"],
      ["X_Odd", `<&>"'`]
    ]
  }

  it("goes out with these bytes", () => {
    assert.deepStrictEqual(Gena.encodeEvent({ ...event, properties: event.properties.slice(2) }), {
      headers: [
        ["CONTENT-TYPE", 'text/xml; charset="utf-8"'],
        ["NT", "upnp:event"],
        ["NTS", "upnp:propchange"],
        ["SID", sid],
        ["SEQ", "0"]
      ],
      body:
        '<?xml version="1.0"?>\r\n' +
        '<e:propertyset xmlns:e="urn:schemas-upnp-org:event-1-0">' +
        "<e:property><ExternalIPAddress>203.0.113.7</ExternalIPAddress></e:property>" +
        "<e:property><PortMappingNumberOfEntries>2</PortMappingNumberOfEntries></e:property>" +
        "<e:property><X_Odd>&lt;&amp;&gt;&quot;&apos;</X_Odd></e:property>" +
        "</e:propertyset>\r\n"
    })
  })

  it("is read back as it was", () => {
    for (const sequence of [0, 1, 4294967295]) {
      const { body, headers } = Gena.encodeEvent({ ...event, sequence })
      const read = Gena.decodeEvent(received(headers), bytes(body))
      assert.deepStrictEqual(Result.getOrThrow(read), { ...event, sequence })
    }
  })

  it("is read as routers write it", () => {
    // Line ends and blanks between elements, another prefix, an empty value, several variables in one property.
    const body =
      '\ufeff<?xml version="1.0" encoding="utf-8"?>\n<s:propertySet xmlns:s="urn:schemas-upnp-org:event-1-0">\n' +
      "\t<s:Property>\n\t\t<ExternalIPAddress> 203.0.113.7\n</ExternalIPAddress>\n\t</s:Property>\n" +
      "\t<s:property><ConnectionStatus/><X_Name dt='string'><![CDATA[a<b]]></X_Name></s:property>\n" +
      "</s:propertySet>\n\u0000"
    const odd = { nt: "UPNP:Event", nts: " upnp:PropChange ", sid: ` ${sid} `, seq: " 007 " }
    assert.deepStrictEqual(Result.getOrThrow(Gena.decodeEvent(odd, bytes(body))), {
      sid,
      sequence: 7,
      properties: [
        ["ExternalIPAddress", "203.0.113.7"],
        ["ConnectionStatus", ""],
        ["X_Name", "a<b"]
      ]
    })
  })

  it.each([
    ["no NT", { ...headers, nt: "" }, 400],
    ["no NTS", { nt: "upnp:event", sid, seq: "7" }, 400],
    ["another NT", { ...headers, nt: "upnp:other" }, 412],
    ["another NTS", { ...headers, nts: "ssdp:alive" }, 412],
    ["no SID", { ...headers, sid: "" }, 412],
    ["a SID as long as a book", { ...headers, sid: "x".repeat(300) }, 412],
    ["no SEQ", { nt: "upnp:event", nts: "upnp:propchange", sid }, 400],
    ["a SEQ that is no number", { ...headers, seq: "x" }, 400],
    ["a SEQ of 33 bits", { ...headers, seq: "4294967296" }, 400],
    ["a negative SEQ", { ...headers, seq: "-1" }, 400]
  ] as ReadonlyArray<readonly [string, Gena.Headers, number]>)("%s is refused", (_what, wrong, status) => {
    assert.strictEqual(refusal(Gena.decodeEvent(wrong, bytes(propertySet("")))), status)
  })

  const property = (name: string, value = "") => `<e:property><${name}>${value}</${name}></e:property>`

  it.each([
    ["nothing", ""],
    ["no XML", "hello"],
    ["another document", "<root/>"],
    ["half of it", "<e:propertyset><e:property>"],
    ["a DOCTYPE", `<!DOCTYPE a [<!ENTITY b "c">]>${propertySet("")}`],
    ["too many variables", propertySet(property("A").repeat(65))],
    ["too many variables in one property", propertySet(`<e:property>${"<A/>".repeat(65)}</e:property>`)],
    ["a name as long as a book", propertySet(property("A".repeat(129)))],
    ["too many bytes", propertySet(property("A", "x".repeat(Gena.maximumBytes)))],
    ["a deep nest", propertySet(`<e:property>${"<a>".repeat(100)}${"</a>".repeat(100)}</e:property>`)]
  ])("%s is refused", (_what, body) => {
    assert.strictEqual(refusal(Gena.decodeEvent(headers, bytes(body))), 400)
  })

  it("as many variables as allowed are not", () => {
    const read = Gena.decodeEvent(headers, bytes(propertySet(property("A").repeat(64))))
    assert.lengthOf(Result.getOrThrow(read).properties, Gena.maximumProperties)
  })

  it("numbers go round without 0 [UDA 4.3.2-d]", () => {
    assert.deepStrictEqual([0, 1, 4294967294, 4294967295].map(Gena.nextSequence), [1, 2, 4294967295, 1])
  })
})
