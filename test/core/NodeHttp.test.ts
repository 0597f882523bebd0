import * as Http from "@effect-nat/core/Http"
import * as NodeHttp from "@effect-nat/core/NodeHttp"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as NetAddress from "effect/net/NetAddress"
import type * as Scope from "effect/Scope"
import * as Net from "node:net"

/** A server that the test writes byte by byte, on loopback. */
interface RawServer {
  readonly address: NetAddress.InetAddress
  /** What came in, of all connections. */
  readonly received: () => string
  /** How many connections are open on the server's side. */
  readonly open: () => number
  readonly connections: () => number
  readonly close: Effect.Effect<void>
}

const rawServer = (
  onRequest: (socket: Net.Socket, head: string) => void,
  host = "127.0.0.1"
): Effect.Effect<RawServer, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.callback<RawServer & { readonly shutDown: () => void }>((resume) => {
      const sockets = new Set<Net.Socket>()
      let connections = 0
      let received = ""
      const server = Net.createServer((socket) => {
        connections += 1
        sockets.add(socket)
        let head = ""
        socket.on("close", () => sockets.delete(socket))
        // The client may go away at any time: that is what some of these tests are about.
        socket.on("error", () => {})
        socket.on("data", (chunk) => {
          received += chunk.toString("latin1")
          const before = head.includes("\r\n\r\n")
          head += chunk.toString("latin1")
          if (!before && head.includes("\r\n\r\n")) onRequest(socket, head)
        })
      })
      server.listen(0, host, () => {
        const { port } = server.address() as Net.AddressInfo
        const shutDown = () => {
          for (const socket of sockets) socket.destroy()
          server.close()
        }
        resume(
          Effect.succeed({
            address: NetAddress.inetAddressUnsafe(NetAddress.ipFromStringUnsafe(host), port),
            received: () => received,
            open: () => sockets.size,
            connections: () => connections,
            close: Effect.callback<void>((done) => {
              server.close(() => done(Effect.void))
            }),
            shutDown
          })
        )
      })
    }),
    (server) => Effect.sync(server.shutDown)
  )

const ask = (address: NetAddress.InetAddress, differences: Partial<Http.HttpRequest> = {}) =>
  Http.Http.use((http) => http.request({ method: "GET", address, path: "/", maxBytes: 1000, ...differences })).pipe(
    Effect.provide(NodeHttp.layer)
  )

const text = (response: Http.HttpResponse) => new TextDecoder().decode(response.body)

/** The answer to one request that gets these bytes, after which the server ends its side or not. */
const answered = Effect.fnUntraced(function* (bytes: string, then: "end" | "stay" = "stay") {
  const server = yield* rawServer((socket) => {
    if (then === "end") socket.end(bytes, "latin1")
    else socket.write(bytes, "latin1")
  })
  return yield* ask(server.address).pipe(Effect.timeout("5 seconds"))
})

const failure = (bytes: string, then: "end" | "stay" = "stay") =>
  Effect.map(Effect.flip(answered(bytes, then)), (error) => (error._tag === "HttpError" ? error.kind : error._tag))

/** Waits until it is so; a test that waits in vain fails by its time limit. */
const until = (condition: () => boolean) =>
  Effect.sleep("5 millis").pipe(Effect.repeat({ until: () => condition() }), Effect.timeout("5 seconds"))

describe("NodeHttp", () => {
  describe("answers as routers give them [UDA 2.1-bcd]", () => {
    it.live.each([
      ["an ordinary one", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Test: yes\r\n\r\nhello", "stay"],
      ["bare line feeds", "HTTP/1.1 200 OK\nContent-Length: 5\nX-Test: yes\n\nhello", "stay"],
      ["HTTP/1.0 without a length", "HTTP/1.0 200 OK\r\nX-Test: yes\r\n\r\nhello", "end"],
      ["Connection: close without a length", "HTTP/1.1 200 OK\r\nConnection: close\r\nX-Test: yes\r\n\r\nhello", "end"],
      [
        "chunks",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Test: yes\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n",
        "stay"
      ],
      ["odd case", "HTTP/1.1 200 OK\r\ncontent-LENGTH: 5\r\nx-tEST:yes\r\n\r\nhello", "stay"],
      ["no reason phrase", "HTTP/1.1 200\r\nContent-Length: 5\r\nX-Test: yes\r\n\r\nhello", "stay"],
      [
        "an interim answer before",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Test: yes\r\n\r\nhello",
        "stay"
      ],
      ["a line end after the body", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Test: yes\r\n\r\nhello\r\n", "stay"],
      [
        "more than the length says, and the end",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Test: yes\r\n\r\nhello world",
        "end"
      ],
      ["more than the length says", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Test: yes\r\n\r\nhello world", "stay"]
    ] as const)("%s", ([_what, bytes, then]) =>
      Effect.gen(function* () {
        const response = yield* answered(bytes, then)
        assert.strictEqual(response.status, 200)
        assert.strictEqual(response.headers["x-test"], "yes")
        assert.strictEqual(text(response), "hello")
        assert.strictEqual(NetAddress.formatIp(response.localAddress), "127.0.0.1")
      })
    )

    it.live("an answer in single bytes", () =>
      Effect.gen(function* () {
        const bytes = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 5\r\n\r\nhello"
        const server = yield* rawServer((socket) => {
          socket.setNoDelay(true)
          let sent = 0
          const timer = setInterval(() => {
            const byte = bytes[sent]
            sent += 1
            if (byte === undefined || socket.destroyed) clearInterval(timer)
            else socket.write(byte)
          }, 1)
        })
        const response = yield* ask(server.address)
        assert.strictEqual(response.status, 500)
        assert.strictEqual(text(response), "hello")
      })
    )

    it.live("a redirect is an answer, and nobody follows it", () =>
      Effect.gen(function* () {
        const other = yield* rawServer((socket) => socket.end("HTTP/1.0 200 OK\r\n\r\nthere"))
        const server = yield* rawServer((socket) => {
          socket.end(
            `HTTP/1.1 302 Found\r\nLocation: http://${NetAddress.formatInet(other.address)}/\r\nContent-Length: 0\r\n\r\n`
          )
        })
        const response = yield* ask(server.address)
        assert.strictEqual(response.status, 302)
        yield* Effect.sleep("50 millis")
        assert.strictEqual(other.connections(), 0)
        assert.strictEqual(server.connections(), 1)
      })
    )

    it.live("headers given more than once are joined", () =>
      Effect.gen(function* () {
        const response = yield* answered(
          "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n__proto__: x\r\n\r\n"
        )
        assert.strictEqual(response.headers["set-cookie"], "a=1, b=2")
        assert.isUndefined(response.headers["x"])
        assert.isEmpty(response.body)
      })
    )

    it.live("exactly as many bytes as allowed", () =>
      Effect.gen(function* () {
        const response = yield* answered(`HTTP/1.1 200 OK\r\n\r\n${"x".repeat(1000)}`, "end")
        assert.lengthOf(response.body, 1000)
      })
    )
  })

  describe("answers as nobody should give them", () => {
    it.live.each([
      [
        "a body beyond the limit, with its length",
        "TooLarge",
        `HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n${"x".repeat(1001)}`,
        "stay"
      ],
      ["a body beyond the limit, without length", "TooLarge", `HTTP/1.0 200 OK\r\n\r\n${"x".repeat(5000)}`, "end"],
      [
        "a body beyond the limit, in chunks",
        "TooLarge",
        `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n${`64\r\n${"x".repeat(100)}\r\n`.repeat(11)}`,
        "stay"
      ],
      ["one header over 16 KiB", "TooLarge", `HTTP/1.1 200 OK\r\nX: ${"x".repeat(17_000)}\r\n\r\n`, "stay"],
      ["many headers over 16 KiB", "TooLarge", `HTTP/1.1 200 OK\r\n${"X: yyyyyyyy\r\n".repeat(2000)}\r\n`, "stay"],
      ["a header without end", "TooLarge", `HTTP/1.1 200 OK\r\nX: ${"x".repeat(40_000)}`, "stay"],
      ["garbage", "Malformed", "220 smtp.example.org ESMTP\r\n", "stay"],
      ["garbage, and the end", "Malformed", "\u0000\u0001\u0002\u0003", "end"],
      ["a page without a header", "Malformed", "<html><body>hello</body></html>\r\n\r\n", "end"],
      ["a length that is none", "Malformed", "HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\nhello", "stay"],
      ["a chunk size that is none", "Malformed", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "stay"],
      [
        "a switch of protocols",
        "Malformed",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
        "stay"
      ],
      [
        "a switch of protocols, and the end",
        "Malformed",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
        "end"
      ],
      ["interim answers without end", "Malformed", "HTTP/1.1 102 Processing\r\n\r\n".repeat(1000), "stay"],
      ["nothing", "Closed", "", "end"],
      ["half a status line", "Closed", "HTTP/1.1 200", "end"],
      ["half a header", "Closed", "HTTP/1.1 200 OK\r\nContent-Le", "end"],
      ["half a body", "Closed", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", "end"],
      ["half of the chunks", "Closed", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "end"],
      ["an interim answer only", "Closed", "HTTP/1.1 100 Continue\r\n\r\n", "end"]
    ] as const)("%s: %s", ([_what, kind, bytes, then]) =>
      Effect.gen(function* () {
        assert.strictEqual(yield* failure(bytes, then), kind)
      })
    )

    it.live("after each of them the connection is closed from this side", () =>
      Effect.gen(function* () {
        for (const bytes of [
          `HTTP/1.0 200 OK\r\n\r\n${"x".repeat(5000)}`,
          `HTTP/1.1 200 OK\r\nX: ${"x".repeat(17_000)}`,
          "garbage\r\n\r\n",
          "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
          "HTTP/1.1 102 Processing\r\n\r\n".repeat(1000),
          "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
        ]) {
          const server = yield* rawServer((socket) => socket.write(bytes))
          yield* Effect.exit(ask(server.address))
          assert.strictEqual(server.connections(), 1)
          yield* until(() => server.open() === 0)
        }
      })
    )

    it.live("a connection that is reset", () =>
      Effect.gen(function* () {
        const server = yield* rawServer((socket) => socket.resetAndDestroy())
        assert.strictEqual((yield* Effect.flip(ask(server.address))).kind, "Closed")
      })
    )

    it.live("a closed port refuses", () =>
      Effect.gen(function* () {
        const server = yield* rawServer(() => {})
        yield* server.close
        const error = yield* Effect.flip(ask(server.address))
        assert.strictEqual(error.kind, "Refused")
        assert.match(error.message, /^Refused: /)
      })
    )
  })

  describe("time", () => {
    it.live("a slow drip is cut by the caller's time limit, and the socket with it", () =>
      Effect.gen(function* () {
        const server = yield* rawServer((socket) => {
          socket.write("HTTP/1.1 200 OK\r\n\r\n")
          const timer = setInterval(() => (socket.destroyed ? clearInterval(timer) : socket.write("x")), 10)
        })
        const error = yield* Effect.flip(ask(server.address).pipe(Effect.timeout("200 millis")))
        assert.strictEqual(error._tag, "TimeoutError")
        yield* until(() => server.open() === 0)
      })
    )

    it.live("a header that never ends is cut, too", () =>
      Effect.gen(function* () {
        const server = yield* rawServer((socket) => socket.write("HTTP/1.1 200 OK\r\nX-Slow: "))
        const error = yield* Effect.flip(ask(server.address).pipe(Effect.timeout("100 millis")))
        assert.strictEqual(error._tag, "TimeoutError")
        yield* until(() => server.open() === 0)
      })
    )

    it.live("an interruption closes the connection", () =>
      Effect.gen(function* () {
        const server = yield* rawServer(() => {})
        const fiber = yield* Effect.forkChild(ask(server.address))
        yield* until(() => server.open() === 1)
        yield* Fiber.interrupt(fiber)
        yield* until(() => server.open() === 0)
      })
    )
  })

  describe("what goes out", () => {
    const wire = Effect.fnUntraced(function* (differences: Partial<Http.HttpRequest>) {
      const server = yield* rawServer((socket) => socket.end("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
      yield* ask(server.address, differences)
      return server.received().replace(NetAddress.formatInet(server.address), "ADDRESS")
    })

    it.live("headers in the order and case they were given in, and what HTTP needs beside [UDA 2.1-a, 3.2.1-a]", () =>
      Effect.gen(function* () {
        const sent = yield* wire({
          method: "POST",
          path: "/ctl/IPConn?x=y",
          headers: [
            ["SOAPAction", '"urn:schemas-upnp-org:service:WANIPConnection:1#GetExternalIPAddress"'],
            ["Content-Type", 'text/xml; charset="utf-8"'],
            ["x-ODD-case", "1"]
          ],
          body: "<größe/>"
        })
        assert.strictEqual(
          Buffer.from(sent, "latin1").toString("utf8"),
          [
            "POST /ctl/IPConn?x=y HTTP/1.1",
            "Host: ADDRESS",
            'SOAPAction: "urn:schemas-upnp-org:service:WANIPConnection:1#GetExternalIPAddress"',
            'Content-Type: text/xml; charset="utf-8"',
            "x-ODD-case: 1",
            "Content-Length: 10",
            "Connection: keep-alive",
            "",
            "<größe/>"
          ].join("\r\n")
        )
      })
    )

    it.live("without a body there is no length", () =>
      Effect.gen(function* () {
        assert.strictEqual(yield* wire({}), "GET / HTTP/1.1\r\nHost: ADDRESS\r\nConnection: keep-alive\r\n\r\n")
      })
    )

    it.live("what the caller gives is not given twice", () =>
      Effect.gen(function* () {
        const sent = yield* wire({
          method: "POST",
          headers: [
            ["HOST", "router"],
            ["content-length", "2"],
            ["connection", "Close"]
          ],
          body: "ab"
        })
        assert.strictEqual(sent, "POST / HTTP/1.1\r\nHOST: router\r\ncontent-length: 2\r\nconnection: Close\r\n\r\nab")
      })
    )

    it.live("an IPv6 host stands in brackets", () =>
      Effect.gen(function* () {
        const server = yield* rawServer((socket) => socket.end("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), "::1")
        const response = yield* ask(server.address)
        assert.strictEqual(NetAddress.formatIp(response.localAddress), "::1")
        assert.include(server.received(), `Host: [::1]:${server.address.port}\r\n`)
      })
    )

    it.live.each([
      ["a line end in the path", { path: "/a\r\nX-Evil: 1" }],
      ["a space in the path", { path: "/a b" }],
      ["a character beyond Latin-1 in the path", { path: "/\u{1f3ae}" }],
      ["a path without a slash", { path: "evil" }],
      ["no path", { path: "" }],
      ["a line end in a header", { headers: [["X", "a\r\nX-Evil: 1"]] }],
      ["a line end in a header's name", { headers: [["X\r\nX-Evil", "1"]] }],
      ["a header without a name", { headers: [["", "1"]] }],
      ["a line end in the method", { method: "GET / HTTP/1.1\r\nX-Evil: 1" }]
    ] as ReadonlyArray<readonly [string, Partial<Http.HttpRequest>]>)(
      "%s is an error and sends nothing",
      ([_what, differences]) =>
        Effect.gen(function* () {
          const server = yield* rawServer((socket) => socket.end("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
          const error = yield* Effect.flip(ask(server.address, differences))
          assert.strictEqual(error.kind, "Malformed")
          assert.strictEqual(server.received(), "")
        })
    )
  })

  describe("connections that are kept", () => {
    /** Asks on one layer, and so with one store of connections, as often as it likes. */
    const request = (address: NetAddress.InetAddress, differences: Partial<Http.HttpRequest> = {}) =>
      Http.Http.use((http) => http.request({ method: "GET", address, path: "/", maxBytes: 1000, ...differences }))

    const ok = (body = "hello") => `HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${body}`

    /** A server that is told of every request of every connection, and how many came before it on its own. */
    const keeper = (onRequest: (socket: Net.Socket, before: number, head: string) => void) => {
      const counts = new WeakMap<Net.Socket, number>()
      const count = (socket: Net.Socket, head: string) => {
        const before = counts.get(socket) ?? 0
        counts.set(socket, before + 1)
        onRequest(socket, before, head)
      }
      return rawServer((socket, first) => {
        count(socket, first)
        // Each request fits into one packet here.
        socket.on("data", (chunk) => count(socket, chunk.toString("latin1")))
      })
    }

    const requestsOf = (server: RawServer) => server.received().split("HTTP/1.1\r\n").length - 1

    it.live("ten requests have one connection, which closes with the layer", () =>
      Effect.gen(function* () {
        const server = yield* keeper((socket, before) => socket.write(ok(`number ${before}`)))
        yield* Effect.gen(function* () {
          for (let number = 0; number < 10; number++) {
            const response = yield* request(server.address, number % 2 === 0 ? {} : { method: "POST", body: "<a/>" })
            assert.strictEqual(text(response), `number ${number}`)
            assert.strictEqual(NetAddress.formatIp(response.localAddress), "127.0.0.1")
          }
          assert.strictEqual(server.connections(), 1)
          assert.strictEqual(server.open(), 1)
        }).pipe(Effect.provide(NodeHttp.layer))
        yield* until(() => server.open() === 0)
      })
    )

    it.live("a failing and an interrupted program close theirs, too", () =>
      Effect.gen(function* () {
        const server = yield* keeper((socket) => socket.write(ok()))
        const failing = Effect.andThen(request(server.address), Effect.fail("on purpose"))
        yield* Effect.exit(Effect.provide(failing, NodeHttp.layer))
        yield* until(() => server.open() === 0)
        const staying = Effect.andThen(request(server.address), Effect.never)
        const fiber = yield* Effect.forkChild(Effect.provide(staying, NodeHttp.layer))
        yield* until(() => server.open() === 1)
        yield* Fiber.interrupt(fiber)
        yield* until(() => server.open() === 0)
      })
    )

    it.live.each([
      ["Connection: close", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello"],
      ["HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello"],
      ["no length", "HTTP/1.1 200 OK\r\n\r\nhello"],
      ["a length, and closes all the same", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"]
    ] as const)("a router that closes after each request: %s", ([_what, bytes]) =>
      Effect.gen(function* () {
        const server = yield* rawServer((socket) => socket.end(bytes))
        for (let number = 0; number < 5; number++) assert.strictEqual(text(yield* request(server.address)), "hello")
      }).pipe(Effect.provide(NodeHttp.layer))
    )

    it.live("a router that closes the kept connection as the next request comes is asked once more, afresh", () =>
      Effect.gen(function* () {
        const server = yield* keeper((socket, before) => {
          if (before === 0) socket.write(ok())
          else socket.resetAndDestroy()
        })
        yield* request(server.address)
        assert.strictEqual(text(yield* request(server.address)), "hello")
        assert.strictEqual(server.connections(), 2)
        assert.strictEqual(requestsOf(server), 3)
      }).pipe(Effect.provide(NodeHttp.layer))
    )

    it.live.each(["POST", "SUBSCRIBE", "UNSUBSCRIBE"])(
      "but no %s, which the router may have carried out; and its connections are not used again any more",
      (method) =>
        Effect.gen(function* () {
          const server = yield* keeper((socket, before) => {
            if (before === 0) socket.write(ok())
            else socket.resetAndDestroy()
          })
          yield* request(server.address)
          const error = yield* Effect.flip(request(server.address, { method, body: "<a/>" }))
          assert.strictEqual(error.kind, "Closed")
          assert.strictEqual(server.connections(), 1)
          assert.strictEqual(requestsOf(server), 2)
          for (let number = 0; number < 3; number++) {
            assert.strictEqual(text(yield* request(server.address, { method, body: "<a/>" })), "hello")
          }
          assert.strictEqual(server.connections(), 4)
          assert.strictEqual(server.received().split("Connection: close").length, 4)
        }).pipe(Effect.provide(NodeHttp.layer))
    )

    // What comes late must come before the connection has been quiet for long enough, which a busy machine may miss.
    const inTime = { retry: 5 }

    it.live(
      "an answer that comes twice, the second time late, is no answer to the next request",
      () =>
        Effect.gen(function* () {
          let requests = 0
          const server = yield* keeper((socket) => {
            requests += 1
            const answer = ok(`to ${requests}`)
            socket.write(answer)
            setTimeout(() => socket.destroyed || socket.write(answer), 2)
          })
          for (let number = 1; number <= 3; number++) {
            assert.strictEqual(text(yield* request(server.address, { method: "POST", body: "<a/>" })), `to ${number}`)
          }
          assert.strictEqual(server.connections(), 3)
          assert.strictEqual(server.received().split("Connection: keep-alive").length, 2)
        }).pipe(Effect.provide(NodeHttp.layer)),
      inTime
    )

    it.live(
      "the rest of an answer that is longer than it says fails no later request",
      () =>
        Effect.gen(function* () {
          const server = yield* keeper((socket) => {
            socket.setNoDelay(true)
            socket.write(ok())
            setTimeout(() => socket.destroyed || socket.write("</rest>"), 2)
          })
          for (let number = 0; number < 3; number++) {
            assert.strictEqual(text(yield* request(server.address, { method: "POST", body: "<a/>" })), "hello")
          }
          assert.strictEqual(server.received().split("Connection: keep-alive").length, 2)
        }).pipe(Effect.provide(NodeHttp.layer)),
      inTime
    )

    it.live("the rest of an answer that comes while this process is busy fails no later request", () =>
      Effect.gen(function* () {
        const server = yield* keeper((socket) => {
          socket.setNoDelay(true)
          socket.write(ok())
          setTimeout(() => socket.destroyed || socket.write("</rest>"), 2)
        })
        for (let number = 0; number < 3; number++) {
          assert.strictEqual(text(yield* request(server.address, { method: "POST", body: "<a/>" })), "hello")
          const end = performance.now() + 30
          while (performance.now() < end);
        }
        assert.strictEqual(server.received().split("Connection: keep-alive").length, 2)
      }).pipe(Effect.provide(NodeHttp.layer))
    )

    it.live("what no HTTP is on a connection used again is so once", () =>
      Effect.gen(function* () {
        const server = yield* keeper((socket, before) => socket.write(before === 0 ? ok() : `</rest>${ok()}`))
        yield* request(server.address)
        assert.strictEqual((yield* Effect.flip(request(server.address))).kind, "Malformed")
        for (let number = 0; number < 3; number++) assert.strictEqual(text(yield* request(server.address)), "hello")
      }).pipe(Effect.provide(NodeHttp.layer))
    )

    it.live("a router that keeps the connection and serves one request on it costs one time limit", () =>
      Effect.gen(function* () {
        const server = yield* keeper((socket, before) => {
          if (before === 0) socket.write(ok())
        })
        const outcomes: Array<string> = []
        for (let number = 0; number < 6; number++) {
          const outcome = yield* Effect.result(Effect.timeout(request(server.address), "100 millis"))
          outcomes.push(outcome._tag)
        }
        assert.deepStrictEqual(outcomes, ["Success", "Failure", "Success", "Success", "Success", "Success"])
      }).pipe(Effect.provide(NodeHttp.layer))
    )

    it.live("a connection that a busy process could not close in time is not used again", () =>
      Effect.gen(function* () {
        const server = yield* keeper((socket) => socket.write(ok()))
        yield* request(server.address)
        const until = performance.now() + 1100
        while (performance.now() < until);
        yield* request(server.address, { method: "POST", body: "<a/>" })
        assert.strictEqual(server.connections(), 2)
      }).pipe(Effect.provide(NodeHttp.layer))
    )

    it.live("only once", () =>
      Effect.gen(function* () {
        let requests = 0
        const server = yield* keeper((socket) => {
          requests += 1
          if (requests === 1) socket.write(ok())
          else socket.resetAndDestroy()
        })
        yield* request(server.address)
        assert.strictEqual((yield* Effect.flip(request(server.address))).kind, "Closed")
        assert.strictEqual(requests, 3)
        assert.strictEqual(server.connections(), 2)
      }).pipe(Effect.provide(NodeHttp.layer))
    )

    it.live("not on a fresh connection", () =>
      Effect.gen(function* () {
        const server = yield* rawServer((socket) => socket.resetAndDestroy())
        assert.strictEqual((yield* Effect.flip(request(server.address))).kind, "Closed")
        assert.strictEqual(server.connections(), 1)
      }).pipe(Effect.provide(NodeHttp.layer))
    )

    it.live.each([
      ["a byte of the answer", "H"],
      ["a header", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"],
      ["an interim answer", "HTTP/1.1 100 Continue\r\n\r\n"]
    ] as const)("not after %s: the request had arrived", ([_what, bytes]) =>
      Effect.gen(function* () {
        const server = yield* keeper((socket, before) => {
          if (before === 0) socket.write(ok())
          else socket.end(bytes)
        })
        yield* request(server.address)
        const error = yield* Effect.flip(request(server.address, { method: "POST", body: "<a/>" }))
        assert.strictEqual(error.kind, "Closed")
        assert.strictEqual(server.connections(), 1)
        assert.strictEqual(requestsOf(server), 2)
        for (let number = 0; number < 2; number++) assert.strictEqual(text(yield* request(server.address)), "hello")
      }).pipe(Effect.provide(NodeHttp.layer))
    )

    it.live.each([
      ["an answer", ok("not yours")],
      ["the beginning of one", "HTTP/1.1 200 OK\r\nContent-Length: 9"],
      ["one byte of it", "H"],
      ["garbage", "220 smtp.example.org ESMTP\r\n"],
      ["a line end", "\r\n"]
    ] as const)("what comes unasked is no part of the next answer: %s", ([_what, bytes]) =>
      Effect.gen(function* () {
        let kept: Net.Socket | undefined
        const server = yield* keeper((socket) => {
          kept = socket
          socket.write(ok())
        })
        yield* request(server.address)
        kept?.write(bytes)
        yield* until(() => server.open() === 0)
        assert.strictEqual(text(yield* request(server.address)), "hello")
        assert.strictEqual(server.connections(), 2)
      }).pipe(Effect.provide(NodeHttp.layer))
    )

    it.live("two answers at once are no answer to the next request", () =>
      Effect.gen(function* () {
        const server = yield* keeper((socket) => socket.write(`${ok()}${ok("not yours")}`))
        for (let number = 0; number < 3; number++) {
          const outcome = yield* Effect.result(request(server.address))
          if (outcome._tag === "Success") assert.strictEqual(text(outcome.success), "hello")
        }
      }).pipe(Effect.provide(NodeHttp.layer))
    )

    it.live("an interruption closes a kept connection, and the next request has another", () =>
      Effect.gen(function* () {
        const server = yield* keeper((socket, before) => {
          if (before === 0) socket.write(ok())
        })
        yield* request(server.address)
        const error = yield* Effect.flip(Effect.timeout(request(server.address), "50 millis"))
        assert.strictEqual(error._tag, "TimeoutError")
        yield* until(() => server.open() === 0)
        assert.strictEqual(text(yield* request(server.address)), "hello")
        assert.strictEqual(server.connections(), 2)
      }).pipe(Effect.provide(NodeHttp.layer))
    )

    it.live("a router that keeps the connection after an answer without length is asked to close it", () =>
      Effect.gen(function* () {
        const server = yield* keeper((socket, _before, head) => {
          socket.write("HTTP/1.1 200 OK\r\n\r\nhello")
          if (/^connection: close/im.test(head)) socket.end()
        })
        const error = yield* Effect.flip(Effect.timeout(request(server.address), "100 millis"))
        assert.strictEqual(error._tag, "TimeoutError")
        assert.strictEqual(text(yield* request(server.address)), "hello")
      }).pipe(Effect.provide(NodeHttp.layer))
    )

    it.live("four connections to one router at a time, and the rest wait", () =>
      Effect.gen(function* () {
        let most = 0
        const server = yield* keeper((socket) => {
          most = Math.max(most, server.open())
          setTimeout(() => socket.write(ok()), 20)
        })
        const answers = yield* Effect.forEach(Array.from({ length: 12 }), () => request(server.address), {
          concurrency: "unbounded"
        })
        assert.lengthOf(answers, 12)
        assert.strictEqual(most, 4)
      }).pipe(Effect.provide(NodeHttp.layer))
    )

    it.live("an unused connection keeps no process alive", () =>
      Effect.gen(function* () {
        // The server's sides do not count here.
        const server = yield* keeper((socket) => socket.unref().write(ok()))
        const sockets = () => process.getActiveResourcesInfo().filter((one) => one === "TCPSocketWrap").length
        yield* until(() => sockets() === 0)
        yield* request(server.address)
        assert.strictEqual(server.open(), 1)
        assert.strictEqual(sockets(), 0)
      }).pipe(Effect.provide(NodeHttp.layer))
    )

    it.live("an unused connection is closed after a second", () =>
      Effect.gen(function* () {
        const server = yield* keeper((socket) => socket.write(ok()))
        yield* request(server.address)
        yield* Effect.sleep("600 millis")
        assert.strictEqual(server.open(), 1)
        yield* Effect.sleep("900 millis")
        assert.strictEqual(server.open(), 0)
      }).pipe(Effect.provide(NodeHttp.layer))
    )
  })
})
