/** A router in memory that does the handshake, and after that says what the test wants. */
import type * as CloseReason from "@effect-nat/dispatcher/CloseReason"
import * as Connector from "@effect-nat/dispatcher/Connector"
import * as Facet from "@effect-nat/dispatcher/Facet"
import type * as Invitation from "@effect-nat/dispatcher/Invitation"
import * as Wire from "@effect-nat/dispatcher/Wire"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Queue from "effect/Queue"
import * as Socket from "effect/socket/Socket"
import { hex, proofOf } from "./support.ts"

export interface Request {
  /** Which facet, or its bytes in hexadecimal digits where it is none that was granted. */
  readonly facet: string
  readonly data: Uint8Array
}

/** The router's end of one connection. */
export interface ScriptedConnection {
  readonly address: NetAddress.InetAddress
  readonly say: (...frames: ReadonlyArray<Uint8Array>) => Effect.Effect<void>
  /** Breaks the connection. */
  readonly cut: Effect.Effect<void>
  /** The client's next request. */
  readonly next: Effect.Effect<Request>
  /** How many requests nobody has asked for yet. */
  readonly waiting: Effect.Effect<number>
  readonly isOpen: () => boolean
}

export interface Script {
  readonly invitation: Invitation.Invitation
  /** What it knows, where that is not the capability of the invitation. */
  readonly capability?: string
  readonly facets?: ReadonlyArray<Facet.Facet>
  readonly maxDataBytes?: number
  /** Says nothing at all. */
  readonly isMute?: boolean
}

export const life = new Uint8Array(8).fill(0xaa)

const facetBytes = (facet: Facet.Facet) => new Uint8Array(16).fill(Facet.all.indexOf(facet) + 1)

export const address = NetAddress.inetAddressFromIpStringUnsafe("192.0.2.1", 12000)

const broken = new Socket.SocketError({ reason: new Socket.SocketCloseError({ code: 1000 }) })

/** A frame with its number and its time. */
export const frame = (tag: keyof typeof Wire.frameTypes, sequence: number, data?: Uint8Array) =>
  Wire.encodeFrame(Wire.frameTypes[tag], { sequence, stamp: sequence * 1000 }, data)

export const joined = (sequence: number, isResumed = false) =>
  frame("Joined", sequence, Uint8Array.of(isResumed ? 1 : 0))

export const makeScriptedRouter = Effect.fnUntraced(function* (script: Script) {
  const connections = yield* Queue.unbounded<ScriptedConnection>()
  let currentLife = life
  let isReachable = true
  let refusal: CloseReason.Refusal | undefined
  let attempts = 0
  /** What every client has said in its handshakes, to see that it told no secret. */
  const said: Array<Uint8Array> = []

  const connect = (to: NetAddress.InetAddress) =>
    Effect.gen(function* () {
      attempts++
      const toClient = yield* Queue.unbounded<Uint8Array, Socket.SocketError>()
      const requests = yield* Queue.unbounded<Request>()
      let isOpen = false
      let phase: "hello" | "proof" | "member" = "hello"
      let held = new Uint8Array(0)
      const decoder = new Wire.FrameDecoder(0x7fffffff)
      const connection: ScriptedConnection = {
        address: to,
        say: (...frames) => Effect.sync(() => frames.forEach((bytes) => Queue.offerUnsafe(toClient, bytes))),
        cut: Effect.asVoid(Queue.fail(toClient, broken)),
        next: Queue.take(requests),
        waiting: Queue.size(requests),
        isOpen: () => isOpen
      }
      const welcome = () => {
        const granted: { [F in Facet.Facet]?: Uint8Array } = {}
        for (const facet of script.facets ?? Facet.all) {
          granted[facet] = facetBytes(facet)
        }
        return Wire.encodeWelcome(
          { sequence: 0, stamp: 0 },
          granted,
          currentLife,
          script.maxDataBytes ?? Wire.defaultMaxDataBytes
        )
      }
      const take = (bytes: Uint8Array) => {
        if (script.isMute === true) return
        if (refusal !== undefined) {
          Queue.offerUnsafe(toClient, Wire.encodeRefused(refusal))
          return
        }
        if (phase === "member") {
          decoder.push(bytes, (all, start, end) => {
            const request = all.subarray(start, end)
            const named = hex(request.subarray(8, 24))
            const facet = Facet.all.find((one) => hex(facetBytes(one)) === named) ?? named
            Queue.offerUnsafe(requests, { facet, data: request.slice(24) })
          })
          return
        }
        said.push(bytes)
        held = new Uint8Array(Buffer.concat([held, bytes]))
        if (phase === "hello" && held.length >= Wire.helloLength) {
          const hello = Wire.decodeHello(held)
          if (hello._tag !== "Complete") throw new Error(hello._tag)
          held = held.slice(hello.length)
          phase = "proof"
          const nonce = new Uint8Array(16).fill(0xcc)
          const capability = script.capability ?? script.invitation.capability
          const proof = proofOf(capability, "router", hello.value.sessionId, hello.value.nonce, nonce)
          Queue.offerUnsafe(toClient, Wire.encodeChallenge(new Wire.Challenge({ nonce, proof, extensions: [] })))
        }
        if (phase === "proof" && held.length >= 16) {
          phase = "member"
          Queue.offerUnsafe(toClient, welcome())
          Queue.offerUnsafe(connections, connection)
        }
      }
      const reader = Effect.acquireRelease(
        Effect.suspend(() => {
          if (!isReachable) return Effect.fail(broken)
          isOpen = true
          return Effect.succeed({ pull: Queue.takeAll(toClient), upgrade: () => Effect.void })
        }),
        () =>
          Effect.sync(() => {
            isOpen = false
          })
      )
      const write = (bytes: Uint8Array | string | Socket.CloseEvent) =>
        isOpen ? Effect.sync(() => (bytes instanceof Uint8Array ? take(bytes) : undefined)) : Effect.fail(broken)
      return Socket.make({
        reader,
        writer: Effect.succeed({ write, writeAll: (all) => Effect.forEach(all, write, { discard: true }) })
      })
    })

  return {
    layer: Layer.succeed(Connector.Connector, { connect }),
    /** The next connection whose handshake is through. */
    accept: Queue.take(connections),
    said: () => new Uint8Array(Buffer.concat(said)),
    attempts: () => attempts,
    setReachable: (value: boolean) =>
      Effect.sync(() => {
        isReachable = value
      }),
    /** Answers every hello from now on so; `undefined` for a challenge. */
    setRefusal: (reason: CloseReason.Refusal | undefined) =>
      Effect.sync(() => {
        refusal = reason
      }),
    /** The session begins anew. */
    beginNewLife: Effect.sync(() => {
      currentLife = currentLife.map((byte) => byte + 1)
    })
  }
})
