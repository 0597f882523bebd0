/**
 * Somebody who speaks the dispatcher's wire by hand, for the lab: `ADDRESS PORT`. It reads jobs, one JSON a line, makes a
 * connection for each, and prints what came back until that was closed, in hexadecimal digits, as JSON lines.
 */
import * as CapabilityProof from "@effect-nat/dispatcher/CapabilityProof"
import * as Wire from "@effect-nat/dispatcher/Wire"
import * as Capability from "@effect-nat/core/Capability"
import { connect } from "node:net"
import { createInterface } from "node:readline"

const [address = "", port] = process.argv.slice(2)

/** What one connection is to do. */
export interface Job {
  readonly id: string
  /** The first bytes, in hexadecimal digits. */
  readonly send: string
  /** So many bytes of the right proof for a hello that was sent, once the challenge is there. */
  readonly prove?: { readonly capability: string; readonly bytes: number }
  /** Ends the connection after the last byte, rather than waiting for the dispatcher to end it. */
  readonly end?: boolean
}

/** What came of it. */
export interface Outcome {
  readonly id: string
  readonly received: string
  /** `false` when the connection was still open after the time that it had. */
  readonly closed: boolean
}

const proofOf = (capability: string, hello: Uint8Array, challenge: Uint8Array) =>
  CapabilityProof.prove(Capability.Capability.make(capability), {
    sessionId: hello.subarray(8, 24),
    clientNonce: hello.subarray(32, Wire.helloLength),
    routerNonce: challenge.subarray(8, 24),
    side: "client"
  })

const perform = ({ end = false, id, prove, send }: Job) =>
  new Promise<Outcome>((resolve) => {
    const hello = Buffer.from(send, "hex")
    const socket = connect(Number(port), address)
    let received = Buffer.alloc(0)
    let isProven = prove === undefined
    const finish = (closed: boolean) => {
      clearTimeout(timer)
      socket.destroy()
      resolve({ id, received: received.toString("hex"), closed })
    }
    const timer = setTimeout(() => finish(false), 3000)
    const sendProof = () => {
      if (isProven || prove === undefined || received.length < Wire.challengeLength) return
      isProven = true
      const proof = proofOf(prove.capability, hello, received).subarray(0, prove.bytes)
      if (end) socket.end(proof)
      else socket.write(proof)
    }
    socket.on("data", (chunk) => {
      received = Buffer.concat([received, chunk])
      sendProof()
    })
    socket.on("error", () => {})
    socket.on("close", () => finish(true))
    if (end && prove === undefined) socket.end(hello)
    else socket.write(hello)
  })

for await (const line of createInterface(process.stdin)) {
  const job: Job = JSON.parse(line)
  void perform(job).then((outcome) => console.log(JSON.stringify(outcome)))
}
