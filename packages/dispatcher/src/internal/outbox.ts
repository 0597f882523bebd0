/** What goes out to one peer: at most one write under way, the rest waits here where it can be counted and dropped. */
import type * as TcpListener from "../TcpListener.ts"

/**
 * The most bytes of one write: each that the kernel has taken shows that the peer reads, so a peer that is behind
 * shows it at least this often, however large the blocks are.
 */
const pieceBytes = 65_536

/** What the owner hears of the way out. */
export interface Listener {
  /** The kernel has taken a piece. */
  readonly onProgress: () => void
  /** Nothing waits any more. */
  readonly onDrained: () => void
}

const nothing = new Uint8Array(0)

export class Outbox {
  private readonly connection: TcpListener.Connection
  private readonly maxBacklogBytes: number
  private readonly listener: Listener
  private readonly traffic: { bytesOut: number }
  /** What is left of a block that has been written in part. */
  private rest: Uint8Array = nothing
  private waiting: Array<Uint8Array> = []
  private _backlog = 0
  private inFlight = 0
  private ended = false

  constructor(
    connection: TcpListener.Connection,
    maxBacklogBytes: number,
    listener: Listener,
    traffic: { bytesOut: number }
  ) {
    this.traffic = traffic
    this.connection = connection
    this.maxBacklogBytes = maxBacklogBytes
    this.listener = listener
  }

  /** The bytes given to this peer that the kernel has not taken yet. */
  get backlog(): number {
    return this._backlog
  }

  /** Sends a block; `false` where the backlog would grow over its limit, and then the block is dropped. */
  send(block: Uint8Array): boolean {
    if (this.ended) return true
    // A peer without a backlog takes a block of any size: the limit is on what waits, not on what arrives at once.
    if (this.inFlight > 0 && this._backlog + block.length > this.maxBacklogBytes) return false
    this._backlog += block.length
    if (this.inFlight > 0) {
      this.waiting.push(block)
      return true
    }
    // Where nothing is under way nothing waits, and most blocks are one piece.
    if (block.length <= pieceBytes) {
      this.write([block], block.length)
      return true
    }
    this.rest = block
    this.writeNext()
    return true
  }

  /** Sends what waits, then ends the connection. */
  end(): void {
    if (this.ended) return
    this.ended = true
    if (this.inFlight === 0) this.connection.end()
  }

  /**
   * Drops what waits, sends this last block and ends the connection. Blocks hold whole frames, and one that has been
   * written in part is written to its end: no frame is cut.
   */
  endWith(last: Uint8Array): void {
    if (this.ended) return
    this.ended = true
    if (this.inFlight === 0) {
      this.connection.write([last], ignore)
      this.connection.end()
      return
    }
    this.waiting = [last]
    this._backlog = this.inFlight + this.rest.length + last.length
  }

  private writeNext(): void {
    const first = this.rest.length <= pieceBytes ? this.rest : this.rest.subarray(0, pieceBytes)
    this.rest = first === this.rest ? nothing : this.rest.subarray(first.length)
    const blocks = first.length === 0 ? [] : [first]
    let size = first.length
    let whole = 0
    for (const block of this.waiting) {
      const room = pieceBytes - size
      if (room === 0) break
      whole++
      const piece = block.length > room ? block.subarray(0, room) : block
      if (piece !== block) this.rest = block.subarray(room)
      blocks.push(piece)
      size += piece.length
    }
    this.waiting.splice(0, whole)
    this.write(blocks, size)
  }

  private write(blocks: ReadonlyArray<Uint8Array>, size: number): void {
    this.inFlight = size
    this.connection.write(blocks, () => this.flushed())
  }

  private flushed(): void {
    this._backlog -= this.inFlight
    this.traffic.bytesOut += this.inFlight
    this.inFlight = 0
    // Before the owner hears of it, who may send at once: there is one write under way, never two.
    if (this.rest.length > 0 || this.waiting.length > 0) this.writeNext()
    else if (this.ended) this.connection.end()
    this.listener.onProgress()
    if (this.inFlight === 0) this.listener.onDrained()
  }
}

const ignore = () => {}
