/** What goes out to one peer: at most one write under way, the rest waits here where it can be counted and dropped. */
import type * as TcpListener from "../TcpListener.ts"

export class Outbox {
  private readonly connection: TcpListener.Connection
  private readonly maxBacklogBytes: number
  private readonly onDrained: () => void
  private waiting: Array<Uint8Array> = []
  private _backlog = 0
  private inFlight = 0
  private ended = false

  constructor(connection: TcpListener.Connection, maxBacklogBytes: number, onDrained: () => void) {
    this.connection = connection
    this.maxBacklogBytes = maxBacklogBytes
    this.onDrained = onDrained
  }

  /** The bytes given to this peer that the kernel has not taken yet. */
  get backlog(): number {
    return this._backlog
  }

  /** Sends a block; `false` where the backlog would grow over its limit, and then the block is dropped. */
  send(block: Uint8Array): boolean {
    if (this.ended) return true
    // A peer without a backlog takes a block of any size: the limit is on what waits, not on what arrives at once.
    if (this.inFlight === 0) {
      this.write([block], block.length)
      return true
    }
    if (this._backlog + block.length > this.maxBacklogBytes) return false
    this.waiting.push(block)
    this._backlog += block.length
    return true
  }

  /** Sends what waits, then ends the connection. */
  end(): void {
    if (this.ended) return
    this.ended = true
    if (this.inFlight === 0) this.connection.end()
  }

  /** Drops what waits, sends this last block and ends the connection. Blocks hold whole frames: no frame is cut. */
  endWith(last: Uint8Array): void {
    if (this.ended) return
    this.ended = true
    if (this.inFlight === 0) {
      this.connection.write([last], ignore)
      this.connection.end()
      return
    }
    this.waiting = [last]
  }

  private write(blocks: ReadonlyArray<Uint8Array>, size: number): void {
    this.inFlight = size
    this._backlog = size
    this.connection.write(blocks, () => this.flushed())
  }

  private flushed(): void {
    this.inFlight = 0
    this._backlog = 0
    if (this.waiting.length > 0) {
      const blocks = this.waiting
      this.waiting = []
      this.write(
        blocks,
        blocks.reduce((total, block) => total + block.length, 0)
      )
    }
    if (this.inFlight > 0) return
    if (this.ended) this.connection.end()
    this.onDrained()
  }
}

const ignore = () => {}
