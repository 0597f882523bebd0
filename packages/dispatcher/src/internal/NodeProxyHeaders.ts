/** Accepted connections that have to say first, by a header of the PROXY protocol, whose they are. */
import type * as Duration from "effect/Duration"
import type * as Net from "node:net"
import * as ProxyProtocol from "../ProxyProtocol.ts"
import * as Bytes from "./bytes.ts"
import type * as Timer from "./timer.ts"

export interface ProxyHeaders {
  readonly read: (socket: Net.Socket) => void
  /** Drops the connections whose header is not there yet. */
  readonly close: () => void
}

/** More than a forwarder in good health ever has before its headers are there. */
const mostWaiting = 1024

interface Waiting {
  bytes: Uint8Array
  readonly cancel: () => void
}

const nothing = new Uint8Array(0)

/** `accept` gets the connections that have said it, and after that their next bytes. */
export const make = (
  timeout: Duration.Duration,
  after: Timer.After,
  accept: (socket: Net.Socket, header: ProxyProtocol.Header) => void
): ProxyHeaders => {
  const waiting = new Map<Net.Socket, Waiting>()

  const forget = (socket: Net.Socket) => {
    waiting.get(socket)?.cancel()
    waiting.delete(socket)
    socket.off("data", onData)
    socket.off("end", onEnd)
    socket.off("close", onClose)
  }

  function onData(this: Net.Socket, chunk: Uint8Array) {
    const one = waiting.get(this)
    if (one === undefined) return
    const bytes = Bytes.concat([one.bytes, chunk])
    const decoded = ProxyProtocol.decode(bytes)
    switch (decoded._tag) {
      case "Invalid":
        this.destroy()
        return
      case "Incomplete":
        one.bytes = bytes
        return
      case "Complete":
        return handOn(this, decoded.value, bytes.subarray(decoded.length))
    }
  }
  function handOn(socket: Net.Socket, header: ProxyProtocol.Header, rest: Uint8Array) {
    forget(socket)
    accept(socket, header)
    // The owner may have dropped or paused it.
    if (rest.length > 0 && !socket.destroyed) socket.unshift(rest)
  }
  function onEnd(this: Net.Socket) {
    this.destroy()
  }
  function onClose(this: Net.Socket) {
    forget(this)
  }

  return {
    read: (socket) => {
      if (waiting.size >= mostWaiting) {
        socket.destroy()
        return
      }
      waiting.set(socket, { bytes: nothing, cancel: after(timeout, () => socket.destroy()) })
      socket.on("data", onData)
      socket.on("end", onEnd)
      socket.on("close", onClose)
    },
    close: () => {
      for (const socket of waiting.keys()) socket.destroy()
    }
  }
}
