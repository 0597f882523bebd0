import * as Ssdp from "@effect-nat/upnp/Ssdp"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { bytes } from "./network.ts"

const decode = (text: string) => Ssdp.decode(bytes(text))

const text = (message: Ssdp.Message) => new TextDecoder().decode(Ssdp.encode(message))

const answer = (more: Partial<ConstructorParameters<typeof Ssdp.SearchAnswer>[0]> = {}) =>
  new Ssdp.SearchAnswer({
    searchTarget: "upnp:rootdevice",
    usn: "uuid:a::upnp:rootdevice",
    location: "http://192.168.1.1:5000/desc.xml",
    server: "Box/1",
    maxAge: 120,
    bootId: undefined,
    configId: undefined,
    ...more
  })

describe("encoding", () => {
  it("writes a search as the architecture document has it [UDA 1.1.1-a, 1.1.2-b, 1.3.2-a]", () => {
    const search = new Ssdp.SearchRequest({ host: "239.255.255.250:1900", searchTarget: "ssdp:all", mx: 1 })
    assert.strictEqual(
      text(search),
      'M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: "ssdp:discover"\r\nMX: 1\r\nST: ssdp:all\r\n\r\n'
    )
  })

  it("lets no value begin another header", () => {
    const message = answer({ server: "Box\r\nLOCATION: http://6.6.6.6/" })
    assert.deepStrictEqual(
      Result.getOrThrow(Ssdp.decode(Ssdp.encode(message))),
      answer({ server: "Box LOCATION: http://6.6.6.6/" })
    )
    assert.notMatch(text(message), /\nLOCATION: http:\/\/6/)
  })

  it.each([
    new Ssdp.SearchRequest({ host: "192.168.1.1:1900", searchTarget: "upnp:rootdevice", mx: undefined }),
    answer({ bootId: 7, configId: 9 }),
    new Ssdp.Notify({
      kind: "update",
      notificationType: "upnp:rootdevice",
      usn: "uuid:a",
      location: "http://192.168.1.1/",
      server: "",
      maxAge: undefined,
      bootId: 3,
      nextBootId: 4,
      configId: undefined
    }),
    new Ssdp.Notify({
      kind: "byebye",
      notificationType: "upnp:rootdevice",
      usn: "uuid:a",
      location: undefined,
      server: "Box/1",
      maxAge: undefined,
      bootId: 3,
      nextBootId: undefined,
      configId: 1
    })
  ])("is read back as it was: $_tag", (message) => {
    assert.deepStrictEqual(Result.getOrThrow(Ssdp.decode(Ssdp.encode(message))), message)
  })
})

describe("decoding", () => {
  const location = "http://192.168.1.1:5000/desc.xml"

  it.each([
    ["lines that end in LF", `HTTP/1.1 200 OK\nLOCATION: ${location}\nST: a\n\n`],
    ["odd case", `http/1.0 200 ok\r\nlocation: ${location}\r\nst: a\r\n\r\n`],
    ["odd spacing", `HTTP/1.1  200\r\n Location :${location}  \r\nST:\ta\r\n\r\n`],
    ["a value on its own line", `HTTP/1.1 200 OK\r\nLOCATION:\r\n ${location}\r\nST: a\r\n\r\n`],
    ["no empty line at the end", `HTTP/1.1 200 OK\r\nLOCATION: ${location}\r\nST: a`],
    ["a header twice", `HTTP/1.1 200 OK\r\nLOCATION: ${location}\r\nLOCATION: http://6.6.6.6/\r\nST: a\r\n\r\n`],
    ["a line that is no header", `HTTP/1.1 200 OK\r\nhello\r\nLOCATION: ${location}\r\nST: a\r\n\r\n`]
  ])("understands an answer with %s [UDA 1.1.2-a]", (_, datagram) => {
    const message = Result.getOrThrow(decode(datagram))
    assert.strictEqual(message._tag, "SearchAnswer")
    assert.nestedPropertyVal(message, "location", location)
    assert.nestedPropertyVal(message, "searchTarget", "a")
  })

  it("reads lifetime and boot id, and leaves out what is no number [UDA 1.2.2-b]", () => {
    const message = Result.getOrThrow(
      decode(
        `HTTP/1.1 200 OK\r\nCache-Control: no-cache="Ext", max-age = 1800\r\nLOCATION: ${location}\r\nBOOTID.UPNP.ORG: 12\r\nCONFIGID.UPNP.ORG: 99999999999\r\n\r\n`
      )
    )
    assert.nestedPropertyVal(message, "maxAge", 1800)
    assert.nestedPropertyVal(message, "bootId", 12)
    assert.nestedPropertyVal(message, "configId", undefined)
  })

  it.each([
    ["no location", "HTTP/1.1 200 OK\r\nST: a\r\n\r\n"],
    ["another status", `HTTP/1.1 2000 OK\r\nLOCATION: ${location}\r\n\r\n`],
    ["an error status", `HTTP/1.1 404 Not Found\r\nLOCATION: ${location}\r\n\r\n`],
    ["a web request", "GET / HTTP/1.1\r\n\r\n"],
    ["a search without MAN", "M-SEARCH * HTTP/1.1\r\nST: ssdp:all\r\n\r\n"],
    ["an announcement of nothing", "NOTIFY * HTTP/1.1\r\nNTS: ssdp:hello\r\nLOCATION: http://a/\r\n\r\n"],
    ["nothing", ""],
    ["too much", `HTTP/1.1 200 OK\r\nLOCATION: ${location}\r\nX: ${"x".repeat(9000)}\r\n\r\n`]
  ])("refuses %s [UDA 1.1.1-b, 1.1.5-a]", (_, datagram) => {
    assert.isTrue(Result.isFailure(decode(datagram)))
  })

  it("takes control characters out of what may be printed", () => {
    const message = Result.getOrThrow(
      decode(`HTTP/1.1 200 OK\r\nLOCATION: ${location}\r\nSERVER: a\u001b[31mb\r\n\r\n`)
    )
    assert.nestedPropertyVal(message, "server", "a\ufffd[31mb")
  })

  it.effect.prop(
    "never throws",
    [Schema.Uint8Array, Schema.String],
    ([noise, value]) =>
      Effect.sync(() => {
        Ssdp.decode(noise)
        decode(`HTTP/1.1 200 OK\r\n${value}`)
        decode(`NOTIFY * HTTP/1.1\r\nNTS: ssdp:alive\r\nLOCATION:${value}`)
        Ssdp.decode(Ssdp.encode(answer({ location: `http://a/${value}`, server: value })))
      }),
    { arbitrary: { runs: 300 } }
  )
})
