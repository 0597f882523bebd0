/**
 * One connection to the web server of a simulated router, and peers that do not behave.
 */
import * as UpnpResponder from "@effect-nat/testing/UpnpResponder"
import * as RouterModel from "@effect-nat/testing/RouterModel"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as NetAddress from "effect/net/NetAddress"
import * as TestClock from "effect/testing/TestClock"
import * as Net from "node:net"
import { RequestReader } from "../../packages/testing/src/internal/httpFraming.ts"
import * as NodeTcp from "../../packages/testing/src/internal/NodeTcp.ts"
import * as NodeWebConnection from "../../packages/testing/src/internal/NodeWebConnection.ts"

const encode = (text: string): Uint8Array => new TextEncoder().encode(text)

const post = (length: string, body = ""): Uint8Array =>
  encode(`POST /ctl/IPConn HTTP/1.1\r\nContent-Length: ${length}\r\n\r\n${body}`)

describe("requests", () => {
  it("are read from pieces of every size, one after the other", () => {
    const text = encode(
      `${"POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"}GET /b HTTP/1.1\n\nGET /c HTTP/1.0\r\n\r\n`
    )
    for (let size = 1; size <= text.length; size++) {
      const reader = new RequestReader()
      const read: Array<string> = []
      for (let at = 0; at < text.length; at += size) {
        reader.push(text.subarray(at, at + size))
        for (let request = reader.take(); request !== "Incomplete"; request = reader.take()) {
          assert.notStrictEqual(request, "Malformed")
          if (request !== "Malformed") read.push(`${request.path} ${new TextDecoder().decode(request.body)}`)
        }
      }
      assert.deepStrictEqual(read, ["/a abc", "/b ", "/c "], `${size}`)
    }
  })

  it("that come byte by byte cost no more than their bytes", () => {
    const reader = new RequestReader()
    const whole = post("60000", "x".repeat(60_000))
    const before = process.cpuUsage()
    for (const byte of whole.subarray(0, -1)) {
      reader.push(Uint8Array.of(byte))
      assert.strictEqual(reader.take(), "Incomplete")
    }
    for (let times = 0; times < 20; times++) {
      const head = new RequestReader()
      head.push(encode("GET / HTTP/1.1\r\n"))
      let read: ReturnType<RequestReader["take"]> = "Incomplete"
      for (let index = 0; index < 16_000 && read === "Incomplete"; index++) {
        head.push(Uint8Array.of(120))
        read = head.take()
      }
      assert.strictEqual(read, "Incomplete")
    }
    assert.isBelow(process.cpuUsage(before).user, 2_000_000)
  })

  it.each(["0x2", "1e0", "+2", "", "-1", "2.0", " ", "99999999999"])("are none with the length %j", (length) => {
    assert.strictEqual(UpnpResponder.decode(post(length, "ab")), "Malformed")
  })

  it("are none with two lengths that differ, and one with two that do not", () => {
    const twice = (one: string, other: string) =>
      UpnpResponder.decode(encode(`POST / HTTP/1.1\r\nContent-Length: ${one}\r\ncontent-length: ${other}\r\n\r\nab`))
    assert.strictEqual(twice("2", "1"), "Malformed")
    assert.notStrictEqual(twice("2", "2"), "Malformed")
  })
})

/** A server whose requests are never answered, unless told, and what runs in it. */
const servingWith = Effect.fnUntraced(function* (answer: Effect.Effect<NodeWebConnection.Answered | undefined>) {
  const fibers = yield* FiberSet.make<void>()
  const run = yield* FiberSet.runtime(fibers)()
  const model = new RouterModel.RouterModel()
  const port = yield* NodeTcp.listen(
    NetAddress.ipFromStringUnsafe("127.0.0.1"),
    0,
    (socket) =>
      NodeWebConnection.serve(socket, {
        model,
        run,
        answer: () => answer,
        answered: Effect.void
      }),
    NodeWebConnection.maximumConnections
  )
  return { fibers, port }
})

const serving = Effect.map(servingWith(Effect.succeed(undefined)), ({ port }) => port)

const connect = (port: number) =>
  Effect.acquireRelease(
    Effect.callback<Net.Socket>((resume) => {
      const socket = Net.connect({ host: "127.0.0.1", port })
      socket.on("error", () => {})
      socket.once("connect", () => resume(Effect.succeed(socket)))
    }),
    (socket) => Effect.sync(() => void socket.destroy())
  )

const live = (duration: "100 millis") => TestClock.withLive(Effect.sleep(duration))

/** Whether the other end has hung up; what it sends is thrown away. */
const isClosed = (socket: Net.Socket) => {
  let closed = false
  socket.resume()
  socket.once("close", () => (closed = true))
  return () => closed
}

describe("a connection", () => {
  it.effect("on which a request drips ends after a minute", () =>
    Effect.gen(function* () {
      const socket = yield* connect(yield* serving)
      const closed = isClosed(socket)
      yield* live("100 millis")
      for (const letter of "GET /r") {
        assert.isFalse(closed())
        socket.write(letter)
        yield* live("100 millis")
        yield* TestClock.adjust("10 seconds")
      }
      yield* live("100 millis")
      assert.isTrue(closed())
    }).pipe(Effect.scoped)
  )

  it.effect("whose request nobody answers ends after another minute", () =>
    Effect.gen(function* () {
      const socket = yield* connect(yield* serving)
      const closed = isClosed(socket)
      yield* live("100 millis")
      yield* TestClock.adjust("50 seconds")
      socket.write("GET / HTTP/1.1\r\n\r\n")
      yield* live("100 millis")
      yield* TestClock.adjust("50 seconds")
      yield* live("100 millis")
      assert.isFalse(closed())
      yield* TestClock.adjust("11 seconds")
      yield* live("100 millis")
      assert.isTrue(closed())
    }).pipe(Effect.scoped)
  )

  it.effect("that is gone before its answer leaves nothing running", () =>
    Effect.gen(function* () {
      const answer = { bytes: encode("HTTP/1.1 200 OK\r\n\r\n"), isKept: false }
      const { fibers, port } = yield* servingWith(Effect.delay(Effect.succeed(answer), "1 second"))
      const socket = yield* connect(port)
      socket.write("GET / HTTP/1.1\r\n\r\n")
      yield* live("100 millis")
      assert.strictEqual(yield* FiberSet.size(fibers), 2)
      socket.resetAndDestroy()
      yield* live("100 millis")
      yield* TestClock.adjust("1 second")
      yield* live("100 millis")
      assert.strictEqual(yield* FiberSet.size(fibers), 0)
    }).pipe(Effect.scoped)
  )

  it.effect("that brings more than any request has, while another one is answered, ends", () =>
    Effect.gen(function* () {
      const socket = yield* connect(yield* serving)
      const closed = isClosed(socket)
      socket.write("GET / HTTP/1.1\r\n\r\n")
      socket.write(new Uint8Array(200_000))
      yield* live("100 millis")
      assert.isTrue(closed())
    }).pipe(Effect.scoped)
  )

  it.effect("too many is closed as it comes", () =>
    Effect.gen(function* () {
      const port = yield* serving
      const open = yield* Effect.forEach(
        Array.from({ length: NodeWebConnection.maximumConnections }, (_, index) => index),
        () => Effect.map(connect(port), isClosed)
      )
      const last = isClosed(yield* connect(port))
      yield* live("100 millis")
      assert.isTrue(last())
      assert.isTrue(open.every((closed) => !closed()))
    }).pipe(Effect.scoped)
  )
})
