import * as HttpListener from "@effect-nat/core/HttpListener"
import * as NodeHttpListener from "@effect-nat/core/NodeHttpListener"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as NetAddress from "effect/net/NetAddress"
import * as Scope from "effect/Scope"
import * as Net from "node:net"
import * as SeededRandom from "../../packages/testing/src/internal/seededRandom.ts"

const loopback = NetAddress.ipFromStringUnsafe("127.0.0.1")

const listen = (differences: Partial<HttpListener.ListenOptions> = {}) =>
  HttpListener.HttpListener.use((listener) =>
    listener.listen({
      address: loopback,
      maxBytes: 100,
      accepts: () => true,
      answer: () => Effect.succeed(200),
      ...differences
    })
  ).pipe(Effect.provide(NodeHttpListener.layer))

/** A listener that keeps what it is asked. */
const recording = Effect.fnUntraced(function* (differences: Partial<HttpListener.ListenOptions> = {}) {
  const requests: Array<HttpListener.IncomingRequest> = []
  const address = yield* listen({
    answer: (request) =>
      Effect.sync(() => {
        requests.push(request)
        return 200
      }),
    ...differences
  })
  return { address, requests }
})

interface Client {
  readonly socket: Net.Socket
  /** All that came back. */
  readonly received: () => string
  readonly isClosed: () => boolean
}

const open = (address: NetAddress.InetAddress): Effect.Effect<Client, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.callback<Client>((resume) => {
      let received = ""
      let isClosed = false
      const socket = Net.connect({ host: NetAddress.formatIp(address.address), port: address.port })
      const client: Client = { socket, received: () => received, isClosed: () => isClosed }
      socket.on("data", (chunk) => (received += chunk.toString("latin1")))
      // A reset is one way to be refused.
      socket.on("error", () => {})
      socket.on("close", () => {
        isClosed = true
        resume(Effect.succeed(client))
      })
      socket.on("connect", () => resume(Effect.succeed(client)))
    }),
    ({ socket }) => Effect.sync(() => socket.destroy())
  )

const until = (condition: () => boolean, limit: `${number} seconds` = "4 seconds") =>
  Effect.sleep("5 millis").pipe(Effect.repeat({ until: () => condition() }), Effect.timeout(limit))

/** Sends and waits until the connection is closed; what came back. */
const say = Effect.fnUntraced(function* (address: NetAddress.InetAddress, text: string, then: "end" | "stay" = "stay") {
  const client = yield* open(address)
  if (then === "end") client.socket.end(text, "latin1")
  else client.socket.write(text, "latin1")
  yield* until(client.isClosed)
  return client.received()
})

const statusOf = (answer: string): number => Number(/^HTTP\/1\.1 (\d{3}) /.exec(answer)?.[1])

const notify =
  "NOTIFY /events?x=y HTTP/1.1\r\nHOST: 127.0.0.1\r\nSid: uuid:1\r\nCONTENT-LENGTH: 5\r\nCONNECTION: keep-alive\r\n\r\nhello"

describe("NodeHttpListener", () => {
  it.live("hands a request over and answers with the status, without a body, and closes", () =>
    Effect.gen(function* () {
      const { address, requests } = yield* recording()
      assert.strictEqual(NetAddress.formatIp(address.address), "127.0.0.1")
      assert.isAbove(address.port, 0)
      const answer = yield* say(address, notify)
      assert.strictEqual(statusOf(answer), 200)
      assert.match(answer, /\r\nContent-Length: 0\r\nConnection: close\r\n/)
      assert.isTrue(answer.endsWith("\r\n\r\n"))
      const [request] = requests
      assert.lengthOf(requests, 1)
      assert.strictEqual(request?.method, "NOTIFY")
      assert.strictEqual(request?.path, "/events?x=y")
      assert.strictEqual(request?.headers["sid"], "uuid:1")
      assert.strictEqual(new TextDecoder().decode(request?.body), "hello")
      assert.strictEqual(NetAddress.formatIp(request?.from.address ?? address.address), "127.0.0.1")
      assert.notStrictEqual(request?.from.port, address.port)
    })
  )

  it.live.each([
    ["bare line feeds", "NOTIFY /a HTTP/1.1\nHost: a\nSID: 1\nContent-Length: 5\n\nhello"],
    ["HTTP/1.0", "NOTIFY /a HTTP/1.0\r\nSID: 1\r\nContent-Length: 5\r\n\r\nhello"],
    ["chunks", "NOTIFY /a HTTP/1.1\r\nHost: a\r\nSID: 1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"],
    ["odd case", "NOTIFY /a HTTP/1.1\r\nhOST: a\r\nsId: 1\r\ncontent-LENGTH:5\r\n\r\nhello"],
    ["a whole URL", "NOTIFY http://127.0.0.1:80/a HTTP/1.1\r\nHost: a\r\nSID: 1\r\nContent-Length: 5\r\n\r\nhello"],
    [
      "a question whether to send",
      "NOTIFY /a HTTP/1.1\r\nHost: a\r\nSID: 1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello"
    ]
  ] as const)("takes requests as routers make them: %s", ([_what, text]) =>
    Effect.gen(function* () {
      const { address, requests } = yield* recording()
      const answer = yield* say(address, text)
      assert.include(answer, "200 OK")
      assert.strictEqual(requests[0]?.path, "/a")
      assert.strictEqual(requests[0]?.headers["sid"], "1")
      assert.strictEqual(new TextDecoder().decode(requests[0]?.body), "hello")
    })
  )

  it.live("answers what it is told to", () =>
    Effect.gen(function* () {
      const address = yield* listen({ answer: ({ path }) => Effect.succeed(Number(path.slice(1))) })
      for (const status of [200, 404, 412, 503]) {
        assert.strictEqual(statusOf(yield* say(address, `GET /${status} HTTP/1.1\r\nHost: a\r\n\r\n`)), status)
      }
      for (const none of ["99", "1000", "x", "101"]) {
        assert.strictEqual(statusOf(yield* say(address, `GET /${none} HTTP/1.1\r\nHost: a\r\n\r\n`)), 500)
      }
    })
  )

  it.live("a defect of the one who answers ends that one request with 500", () =>
    Effect.gen(function* () {
      let times = 0
      const address = yield* listen({
        answer: () => {
          times += 1
          if (times === 1) return Effect.die("on purpose")
          if (times === 2) throw new Error("on purpose")
          return Effect.succeed(200)
        }
      })
      assert.strictEqual(statusOf(yield* say(address, notify)), 500)
      assert.strictEqual(statusOf(yield* say(address, notify)), 500)
      assert.strictEqual(statusOf(yield* say(address, notify)), 200)
    })
  )

  describe("limits", () => {
    it.live("nothing is read from an address that is not accepted", () =>
      Effect.gen(function* () {
        const asked: Array<string> = []
        const { address, requests } = yield* recording({
          accepts: (from) => {
            asked.push(NetAddress.formatIp(from))
            return false
          }
        })
        assert.strictEqual(yield* say(address, notify), "")
        assert.deepStrictEqual(asked, ["127.0.0.1"])
        assert.isEmpty(requests)
      })
    )

    it.live("a body of exactly the limit", () =>
      Effect.gen(function* () {
        const { address, requests } = yield* recording()
        const text = `NOTIFY /a HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n${"x".repeat(100)}`
        assert.strictEqual(statusOf(yield* say(address, text)), 200)
        assert.lengthOf(requests[0]?.body ?? [], 100)
      })
    )

    it.live("a larger body is refused by its length before it comes, and by what comes", () =>
      Effect.gen(function* () {
        const { address, requests } = yield* recording()
        const announced = "NOTIFY /a HTTP/1.1\r\nHost: a\r\nContent-Length: 101\r\n\r\n"
        assert.strictEqual(statusOf(yield* say(address, announced)), 413)
        const chunks = `NOTIFY /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n${"x".repeat(101)}\r\n`
        assert.strictEqual(statusOf(yield* say(address, chunks)), 413)
        assert.isEmpty(requests)
      })
    )

    it.live.each([
      ["one header over 16 KiB", `GET / HTTP/1.1\r\nHost: a\r\nX: ${"x".repeat(17_000)}\r\n\r\n`, 431],
      ["many headers over 16 KiB", `GET / HTTP/1.1\r\nHost: a\r\n${"X: yyyyyyyy\r\n".repeat(2000)}\r\n`, 431],
      ["a path over 16 KiB", `GET /${"x".repeat(17_000)} HTTP/1.1\r\nHost: a\r\n\r\n`, 431],
      ["garbage", "\u0000\u0001\u0002\u0003garbage\r\n\r\n", 400],
      ["an answer", "HTTP/1.1 200 OK\r\n\r\n", 400],
      ["a method that is none", "NONSENSE / HTTP/1.1\r\nHost: a\r\n\r\n", 400],
      ["no path", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 400],
      ["a URL of another kind", "GET file:///etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n", 400],
      ["a length that is none", "NOTIFY / HTTP/1.1\r\nHost: a\r\nContent-Length: five\r\n\r\nhello", 400],
      ["an expectation of another kind", "NOTIFY / HTTP/1.1\r\nHost: a\r\nExpect: miracles\r\n\r\n", 417]
    ] as const)("%s", ([_what, text, status]) =>
      Effect.gen(function* () {
        const { address, requests } = yield* recording()
        assert.strictEqual(statusOf(yield* say(address, text)), status)
        assert.isEmpty(requests)
      })
    )

    it.live.each([
      ["a tunnel", "CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n"],
      ["half a request, and the end", "NOTIFY /a HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello"],
      ["half a header, and the end", "NOTIFY /a HTTP/1.1\r\nHo"]
    ] as const)("%s is closed without an answer to it", ([_what, text]) =>
      Effect.gen(function* () {
        const { address, requests } = yield* recording()
        assert.notInclude(yield* say(address, text, "end"), "200")
        assert.isEmpty(requests)
      })
    )

    it.live("a change of protocols is not made", () =>
      Effect.gen(function* () {
        const { address } = yield* recording()
        const text = "GET /a HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
        assert.notInclude(yield* say(address, text), "101")
      })
    )

    it.live("one request for each connection", () =>
      Effect.gen(function* () {
        const { address, requests } = yield* recording()
        yield* say(address, notify.repeat(3))
        assert.lengthOf(requests, 1)
      })
    )

    it.live("32 connections, and one again when another has gone", () =>
      Effect.gen(function* () {
        const { address } = yield* recording()
        const clients = yield* Effect.forEach(Array.from({ length: 40 }), () => open(address))
        yield* until(() => clients.filter((client) => client.isClosed()).length === 8)
        clients.find((client) => !client.isClosed())?.socket.destroy()
        yield* Effect.sleep("50 millis")
        assert.strictEqual(statusOf(yield* say(address, notify)), 200)
      })
    )

    it.live("16 requests at a time, and 503 for the next", () =>
      Effect.gen(function* () {
        let answering = 0
        const address = yield* listen({
          answer: () =>
            Effect.andThen(
              Effect.sync(() => (answering += 1)),
              Effect.never
            )
        })
        const clients = yield* Effect.forEach(Array.from({ length: 16 }), () => open(address))
        for (const { socket } of clients) socket.write(notify)
        yield* until(() => answering === 16)
        assert.strictEqual(statusOf(yield* say(address, notify)), 503)
        for (const { socket } of clients) socket.destroy()
        yield* Effect.sleep("50 millis")
        const again = yield* open(address)
        again.socket.write(notify)
        yield* until(() => answering === 17)
      })
    )

    it.live(
      "silence and a slow drip are cut after 5 seconds",
      () =>
        Effect.gen(function* () {
          const { address, requests } = yield* recording()
          const starts = [
            "",
            "NOTIFY /a HTTP/1.1\r\nHos",
            "NOTIFY /a HTTP/1.1\r\nHost: a\r\nContent-Length: 90\r\n\r\n"
          ]
          const clients = yield* Effect.forEach(starts, () => open(address))
          const drip = setInterval(() => {
            for (const [index, { socket }] of clients.entries()) if (starts[index] !== "") socket.write("x")
          }, 200)
          yield* Effect.addFinalizer(() => Effect.sync(() => clearInterval(drip)))
          for (const [index, { socket }] of clients.entries()) socket.write(starts[index] ?? "")
          yield* Effect.sleep("3 seconds")
          assert.isFalse(clients.some((client) => client.isClosed()))
          yield* until(() => clients.every((client) => client.isClosed()))
          assert.isEmpty(requests)
        }),
      15_000
    )
  })

  it.live("an answer is interrupted when its connection is gone", () =>
    Effect.gen(function* () {
      let state = "none"
      const address = yield* listen({
        answer: () =>
          Effect.sync(() => (state = "begun")).pipe(
            Effect.andThen(Effect.never),
            Effect.onInterrupt(() => Effect.sync(() => (state = "interrupted")))
          )
      })
      const client = yield* open(address)
      client.socket.write(notify)
      yield* until(() => state === "begun")
      client.socket.destroy()
      yield* until(() => state === "interrupted")
    })
  )

  describe("the end", () => {
    const isListening = (address: NetAddress.InetAddress) =>
      Effect.callback<boolean>((resume) => {
        const socket = Net.connect({ host: "127.0.0.1", port: address.port })
        socket.on("connect", () => {
          socket.destroy()
          resume(Effect.succeed(true))
        })
        socket.on("error", () => resume(Effect.succeed(false)))
      })

    it.live("everything closes with the scope, a connection in the middle of its answer, too", () =>
      Effect.gen(function* () {
        const scope = yield* Scope.make()
        let answering = 0
        let interrupted = 0
        const address = yield* Scope.provide(
          listen({
            answer: () =>
              Effect.sync(() => (answering += 1)).pipe(
                Effect.andThen(Effect.never),
                Effect.onInterrupt(() => Effect.sync(() => (interrupted += 1)))
              )
          }),
          scope
        )
        const [idle, asking] = [yield* open(address), yield* open(address)]
        asking.socket.write(notify)
        yield* until(() => answering === 1)
        assert.isTrue(yield* isListening(address))
        yield* Effect.timeout(Scope.close(scope, Exit.void), "1 second")
        yield* until(() => idle.isClosed() && asking.isClosed())
        assert.strictEqual(interrupted, 1)
        assert.strictEqual(asking.received(), "")
        assert.isFalse(yield* isListening(address))
      })
    )

    it.live("after a failure and an interruption, too", () =>
      Effect.gen(function* () {
        const addresses: Array<NetAddress.InetAddress> = []
        const begin = Effect.tap(listen(), (address) => Effect.sync(() => addresses.push(address)))
        yield* Effect.exit(Effect.scoped(Effect.andThen(begin, Effect.fail("on purpose"))))
        const fiber = yield* Effect.forkChild(Effect.scoped(Effect.andThen(begin, Effect.never)))
        yield* until(() => addresses.length === 2)
        yield* Fiber.interrupt(fiber)
        for (const address of addresses) assert.isFalse(yield* isListening(address))
      })
    )

    it.live("an address that is none of this host's is an error", () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(listen({ address: NetAddress.ipFromStringUnsafe("192.0.2.1") }))
        assert.instanceOf(error, HttpListener.HttpListenError)
        assert.notStrictEqual(error.message, "")
      })
    )
  })

  it.live(
    "nothing that arrives does any harm",
    () =>
      Effect.gen(function* () {
        const { address } = yield* recording()
        const parts = [
          "NOTIFY /a HTTP/1.1\r\n",
          "GET http://[ HTTP/1.1\r\n",
          "Host: a\r\n",
          "Content-Length: 5\r\n",
          "Content-Length: 99999999999999999999\r\n",
          "Transfer-Encoding: chunked\r\n",
          "Expect: 100-continue\r\n",
          "Upgrade: x\r\nConnection: upgrade\r\n",
          "__proto__: x\r\n",
          "\r\n",
          "hello",
          "ffffffff\r\n",
          "\n",
          "\u0000",
          "é".repeat(3000)
        ] as const
        const one = Effect.fnUntraced(function* (number: number) {
          const random = SeededRandom.make(1, `listener ${number}`)
          const client = yield* open(address)
          const length = random.between(0, 12)
          for (let index = 0; index < length; index++) {
            client.socket.write(random.pick(parts), "latin1")
            if (random.chance(0.2)) yield* Effect.sleep(1)
          }
          if (random.chance(0.3)) client.socket.resetAndDestroy()
          else client.socket.end()
          yield* until(client.isClosed, "9 seconds")
        }, Effect.scoped)
        yield* Effect.forEach(Array.from({ length: 500 }).keys(), one, { concurrency: 16, discard: true })
        assert.strictEqual(statusOf(yield* say(address, notify)), 200)
      }),
    60_000
  )
})
