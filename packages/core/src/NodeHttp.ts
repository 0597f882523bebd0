/**
 * HTTP to home routers, on Node's own client.
 *
 * Node's lenient parser is used on purpose: many routers end header lines with a bare line feed, which the strict
 * parser and `fetch` refuse.
 *
 * Where a router keeps a connection open, the next requests to it use it too, one after the other. That must never have
 * a request carried out twice, nor have it take the answer to another:
 *
 * - A connection is used again only after it has been quiet for 5 milliseconds, and after a turn of the event loop, in
 *   which a process that was busy reads what came meanwhile: a router that answers twice, or more than its length says,
 *   shows it then. It is closed when a byte comes unasked.
 * - Unused it is closed after a second, before a router does so by itself: a request may cross with that. It keeps no
 *   process alive.
 * - Only a `GET` is sent again, once, where the router closes the connection as it comes. Any other fails with
 *   `"Closed"`: the router may have done what it asks for.
 * - A router that has broken a connection so, says something unasked or leaves a second request without an answer is
 *   asked to close each of its connections from then on.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import * as Semaphore from "effect/Semaphore"
import * as NodeHttpClient from "node:http"
import type * as Net from "node:net"
import * as Os from "node:os"
import * as Http from "./Http.ts"

/** Bytes. */
const maxHeaderSize = 16 * 1024

/** Answers with a status of 1xx before the answer itself: more than a few of them is a flood. */
const maxInterims = 16

/** At a time, to one router: most of them serve few. Further requests wait. */
const maxConnections = 4

/** How long an unused connection is kept, in milliseconds: few routers close theirs as soon. */
const idleTime = 1_000

/** How long a connection is quiet before it is used again, in milliseconds. */
const quietTime = 5

/** A host has few routers; whoever makes it up to more than this is forgotten first. */
const maxRemembered = 64

const kinds: Readonly<Record<string, Http.HttpError["kind"]>> = {
  ECONNREFUSED: "Refused",
  EHOSTUNREACH: "Unreachable",
  ENETUNREACH: "Unreachable",
  EHOSTDOWN: "Unreachable",
  ENETDOWN: "Unreachable",
  ETIMEDOUT: "Unreachable",
  EADDRNOTAVAIL: "Unreachable",
  HPE_HEADER_OVERFLOW: "TooLarge"
}

const httpError = (kind: Http.HttpError["kind"], detail: string) => new Http.HttpError({ kind, detail })

const toHttpError = (error: NodeJS.ErrnoException): Http.HttpError => {
  const code = error.code ?? ""
  return httpError(kinds[code] ?? (code.startsWith("HPE_") ? "Malformed" : "Closed"), error.message)
}

/** Where to connect to, as the operating system writes it: a link-local address with its interface. */
const hostOf = (address: NetAddress.InetAddress): string => {
  const isScoped = NetAddress.isInetAddressV6(address) && address.scopeId !== 0
  const scopeIds = isScoped ? NetAddress.scopeIdsFromInterfaces(Object.entries(Os.networkInterfaces())) : new Map()
  return NetAddress.formatNativeHost(address, scopeIds, process.platform)
}

const headersOf = ({ address, body, headers = [] }: Http.HttpRequest): Record<string, string> => {
  const isMissing = (name: string) => headers.every(([given]) => given.toLowerCase() !== name)
  const host = NetAddress.formatUrlHost(address.address)
  return {
    ...(isMissing("host") ? { Host: address.port === 80 ? host : `${host}:${address.port}` } : {}),
    ...Object.fromEntries(headers),
    ...(body !== undefined && isMissing("content-length") ? { "Content-Length": String(Buffer.byteLength(body)) } : {})
  }
}

const joined = (headers: NodeHttpClient.IncomingHttpHeaders): Record<string, string> => {
  const flat: Record<string, string> = {}
  for (const [name, value] of Object.entries(headers)) {
    if (value !== undefined) flat[name] = Array.isArray(value) ? value.join(", ") : value
  }
  return flat
}

/** A link-local address is reported with its interface (fe80::1%eth0). */
const localAddressOf = (socket: Net.Socket) => {
  const [address = ""] = (socket.localAddress ?? "").split("%")
  return NetAddress.ipFromString(address)
}

/** What connections to a host are found by. */
type Peer = Pick<NodeHttpClient.ClientRequestArgs, "host" | "port">

/** What was read of an unused connection when it became so. */
interface Idle {
  /** In milliseconds of the monotonic clock. */
  readonly since: number
  readonly bytesRead: number
}

/** Node closes the ones that are unused as soon as anything comes: nobody's words are taken for the next answer. */
class Agent extends NodeHttpClient.Agent {
  private readonly idle = new WeakMap<object, Idle>()
  private readonly heardUnasked = new WeakMap<object, () => void>()

  constructor() {
    // No more are asked for at once than are allowed, so none waits here: it would get the next connection unproved.
    super({ keepAlive: true, maxFreeSockets: 2, timeout: idleTime })
  }

  /** Says where something comes on a connection that nobody uses. */
  onUnasked(socket: Net.Socket, listener: () => void): void {
    if (!this.heardUnasked.has(socket)) {
      socket.once("close", () => {
        const idle = this.idle.get(socket)
        if (idle !== undefined && socket.bytesRead > idle.bytesRead) this.heardUnasked.get(socket)?.()
      })
    }
    this.heardUnasked.set(socket, listener)
  }

  override keepSocketAlive(socket: Net.Socket): boolean {
    this.idle.set(socket, { since: performance.now(), bytesRead: socket.bytesRead })
    // Declared without a result, which it has: `false` where the router said that it closes at once.
    const isKept: unknown = super.keepSocketAlive(socket)
    return isKept !== false
  }

  override reuseSocket(socket: Net.Socket, request: NodeHttpClient.ClientRequest): void {
    this.idle.delete(socket)
    super.reuseSocket(socket, request)
  }

  private age(socket: Net.Socket): number {
    const now = performance.now()
    return now - (this.idle.get(socket)?.since ?? now)
  }

  /**
   * The unused connections to a host. One that is too old is none: a process that was busy or asleep closes it late.
   */
  private unused(peer: Peer): ReadonlyArray<Net.Socket> {
    const free = this.freeSockets[this.getName(peer)] ?? []
    for (const socket of free.filter((one) => this.age(one) >= idleTime)) {
      // It leaves the list by itself only when it has closed.
      free.splice(free.indexOf(socket), 1)
      socket.destroy()
    }
    return free
  }

  hasUnused(peer: Peer): boolean {
    return this.unused(peer).length > 0
  }

  /** How long the next request to a host has to wait until no unused connection could still say something, at least. */
  wait(peer: Peer): number {
    return Math.max(0, ...this.unused(peer).map((socket) => quietTime - this.age(socket)))
  }
}

/** Why an exchange failed, and whether it was only that the router closed the kept connection as the request came. */
interface Failure {
  readonly error: Http.HttpError
  readonly isStale: boolean
}

const failure = (error: Http.HttpError): Failure => ({ error, isStale: false })

const stillOpen = ({ headers }: NodeHttpClient.IncomingMessage): boolean =>
  headers["content-length"] === undefined && headers["transfer-encoding"] === undefined

interface Attempt {
  readonly agent: Agent | false
  /** Told where the router does not do with a kept connection what HTTP asks for. */
  readonly onMisuse: () => void
}

const exchange = (options: Http.HttpRequest, { agent, onMisuse }: Attempt) =>
  Effect.callback<Http.HttpResponse, Failure>((resume) => {
    const fail = (error: Http.HttpError) => resume(Effect.fail(failure(error)))
    if (!options.path.startsWith("/")) return fail(httpError("Malformed", "the path does not begin with a slash"))
    let clientRequest: NodeHttpClient.ClientRequest
    try {
      clientRequest = NodeHttpClient.request({
        method: options.method,
        host: hostOf(options.address),
        port: options.address.port,
        path: options.path,
        headers: headersOf(options),
        agent,
        insecureHTTPParser: true,
        maxHeaderSize
      })
    } catch (error) {
      // Node checks method, path and headers here; they may come from what a router said.
      return fail(httpError("Malformed", error instanceof Error ? error.message : String(error)))
    }
    const stop = (error: Http.HttpError) => {
      fail(error)
      clientRequest.destroy()
    }
    let answer: NodeHttpClient.IncomingMessage | undefined
    let interims = 0
    let socket: Net.Socket | undefined
    let readBefore = 0
    clientRequest.on("socket", (given) => {
      socket = given
      if (agent !== false) agent.onUnasked(given, onMisuse)
      readBefore = given.bytesRead
    })
    const isStale = (code: string | undefined) =>
      clientRequest.reusedSocket && socket?.bytesRead === readBefore && (code === "ECONNRESET" || code === "EPIPE")
    clientRequest.on("information", () => {
      interims += 1
      if (interims > maxInterims) stop(httpError("Malformed", "interim answers without end"))
    })
    clientRequest.on("upgrade", (_response, socket) => {
      socket.destroy()
      fail(httpError("Malformed", "the answer switches to another protocol"))
    })
    clientRequest.on("error", (error: NodeJS.ErrnoException) => {
      // The caller's time limit comes here, too, as the end of a connection without an answer.
      if (clientRequest.reusedSocket || answer?.complete === true) onMisuse()
      // Some routers count their own answer wrong: what comes after its end is no reason to lose it.
      if (answer?.complete === true) return
      resume(Effect.fail({ error: toHttpError(error), isStale: isStale(error.code) }))
    })
    // Whatever else ends a connection: a request must end with it. Once a response has begun, its own end comes later.
    clientRequest.on("close", () => {
      if (answer === undefined) fail(httpError("Closed", "the connection was closed without an answer"))
    })
    clientRequest.on("response", (response) => {
      answer = response
      const local = localAddressOf(response.socket)
      const chunks: Array<Buffer> = []
      let size = 0
      response.on("data", (chunk: Buffer) => {
        size += chunk.length
        if (size > options.maxBytes) return stop(httpError("TooLarge", `more than ${options.maxBytes} bytes`))
        chunks.push(chunk)
      })
      response.on("error", (error) => fail(toHttpError(error)))
      response.on("close", () => {
        if (response.readableEnded) return
        if (clientRequest.reusedSocket) onMisuse()
        fail(httpError("Closed", "the connection was closed before the end of the answer"))
      })
      response.on("end", () => {
        if (Result.isFailure(local)) return fail(httpError("Closed", "the connection has no local address"))
        const result: Http.HttpResponse = {
          status: response.statusCode ?? 0,
          headers: joined(response.headers),
          body: new Uint8Array(Buffer.concat(chunks)),
          localAddress: local.success
        }
        // Node puts the connection back at the end of this turn; whoever asks again at once shall get it.
        process.nextTick(() => resume(Effect.succeed(result)))
      })
    })
    clientRequest.end(options.body)
    return Effect.sync(() => {
      if (answer !== undefined && stillOpen(answer)) onMisuse()
      clientRequest.destroy()
    })
  })

/** Routers that cannot keep a connection: they are asked to close. */
const makeClosing = () => {
  const hosts = new Set<string>()
  return {
    has: (host: string) => hosts.has(host),
    add: (host: string) => {
      const [oldest] = hosts
      if (hosts.size >= maxRemembered && oldest !== undefined) hosts.delete(oldest)
      hosts.add(host)
    }
  }
}

/** By the clock of the operating system, as what it waits for is no part of a program's time. */
const sleep = (millis: number) =>
  Effect.sleep(millis).pipe(Effect.provideService(Clock.Clock, Clock.Clock.defaultValue()))

/** What has come in while this process was busy is read in the meantime: a whole turn of its event loop. */
const nextTurn = Effect.callback<void>((resume) => {
  let handle = setImmediate(() => {
    handle = setImmediate(() => resume(Effect.void))
  })
  return Effect.sync(() => clearImmediate(handle))
})

/** Turns at a host. Nobody has to remember those that nobody waits for. */
const makeTurns = () => {
  const turns = new Map<string, { readonly semaphore: Semaphore.Semaphore; users: number }>()
  return <A, E>(host: string, effect: Effect.Effect<A, E>) =>
    Effect.acquireUseRelease(
      Effect.sync(() => {
        const turn = turns.get(host) ?? { semaphore: Semaphore.makeUnsafe(maxConnections), users: 0 }
        turn.users += 1
        turns.set(host, turn)
        return turn
      }),
      ({ semaphore }) => semaphore.withPermit(effect),
      (turn) =>
        Effect.sync(() => {
          turn.users -= 1
          if (turn.users === 0) turns.delete(host)
        })
    )
}

const make = Effect.gen(function* () {
  const connections = yield* Effect.acquireRelease(
    Effect.sync(() => new Agent()),
    (agent) => Effect.sync(() => agent.destroy())
  )
  const closing = makeClosing()
  const inTurn = makeTurns()
  const request = (options: Http.HttpRequest) => {
    const host = NetAddress.formatInet(options.address)
    const peer = { host: hostOf(options.address), port: options.address.port }
    const attempt = (agent: Attempt["agent"]) => exchange(options, { agent, onMisuse: () => closing.add(host) })
    const isOwn = () => options.ownConnection === true || closing.has(host)
    /** Until no unused connection could still say something. */
    const quiet: Effect.Effect<void> = Effect.suspend(() => {
      if (isOwn() || !connections.hasUnused(peer)) return Effect.void
      return sleep(connections.wait(peer)).pipe(
        Effect.andThen(nextTurn),
        Effect.andThen(Effect.suspend(() => (connections.wait(peer) === 0 ? Effect.void : quiet)))
      )
    })
    const attemptKept = Effect.andThen(
      quiet,
      Effect.suspend(() => attempt(isOwn() ? false : connections))
    )
    const attempts = attemptKept.pipe(
      Effect.catch((first) => (first.isStale && options.method === "GET" ? attempt(false) : Effect.fail(first))),
      Effect.mapError(({ error }) => error)
    )
    return inTurn(host, attempts)
  }
  return Http.Http.of({ request })
})

/**
 * The real network. Kept connections are closed with the layer.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<Http.Http> = Layer.effect(Http.Http, make)
