/**
 * One connection of the load: what it has got, and that nothing of it is missing, doubled or out of order.
 */
import * as Net from "node:net"
import type * as Driver from "./drivers/driver.ts"
import * as Inlet from "./inlet.ts"
import type * as Latencies from "./latencies.ts"
import * as Payload from "./payload.ts"

/** What the members of one run have in common. */
export interface Run {
  readonly template: Uint8Array
  readonly latencies: Latencies.Latencies | undefined
  readonly fail: (message: string) => void
}

const nothing = new Uint8Array(0)

export class Member {
  readonly run: Run
  readonly session: string
  /** The messages that came. */
  received = 0
  /** What the number of the next one is. */
  next = 1
  /** Whether every byte is looked at. */
  isDecoded = false
  /** When the bytes that are read now came. */
  readAt = 0
  afterRead: () => void = () => {}
  onReady: () => void = () => {}
  private readonly driver: Driver.Driver
  private readonly socket: Net.Socket
  private left: Uint8Array = nothing
  private isLeaving = false

  constructor(run: Run, port: number, session: string, makeDriver: (member: Member) => Driver.Driver) {
    this.run = run
    this.session = session
    this.driver = makeDriver(this)
    this.socket = Net.connect(
      { host: "127.0.0.1", port, noDelay: true, onread: { buffer: Inlet.inlet, callback: (read) => this.read(read) } },
      () => this.driver.open()
    )
    this.socket.on("error", (error) => this.fail(error.message))
    this.socket.on("close", () => {
      if (!this.isLeaving) this.fail("the server closed the connection")
    })
  }

  write(bytes: Uint8Array): void {
    this.socket.write(bytes)
  }

  send(first: number, count: number): void {
    this.socket.write(this.driver.encode(first, count, performance.now()))
  }

  /** A message of the right length, as far as the protocol goes: its number, and where its data is. */
  take(number: number, at: number): void {
    if (number !== this.next) return this.fail(`message ${number} came where ${this.next} was to come`)
    this.next++
    this.received++
    if (this.isDecoded) this.decode(at)
    this.run.latencies?.add(this.readAt - Payload.sentAt(Inlet.view, at))
  }

  fail(detail: string): void {
    this.run.fail(`a member of ${this.session}: ${detail}`)
  }

  /** Leaves no trace in the kernel, where the next run needs the ports. */
  leave(): void {
    this.isLeaving = true
    this.socket.resetAndDestroy()
  }

  private decode(at: number): void {
    const counter = Payload.counterAt(Inlet.view, at)
    if (counter !== this.received) this.fail(`message ${this.received} has the content of ${counter}`)
    if (!Payload.isWhole(Inlet.bytes, at, this.run.template)) this.fail(`message ${this.received} is damaged`)
  }

  private read(read: number): boolean {
    this.readAt = performance.now()
    const [from, to] = Inlet.join(this.left, read)
    const rest = this.driver.read(from, to)
    this.left = rest === to ? nothing : Inlet.bytes.slice(rest, to)
    this.afterRead()
    return true
  }
}
