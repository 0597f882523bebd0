/** The last messages of a session, for members that come back: whole blocks as they went out, up to a limit in bytes. */
import * as Wire from "../Wire.ts"

interface Entry {
  readonly block: Uint8Array
  /** The numbers of the first and the last message in it. */
  readonly first: number
  readonly last: number
}

export class ReplayLog {
  private readonly maxBytes: number
  private entries: Array<Entry> = []
  private bytes = 0

  constructor(maxBytes: number) {
    this.maxBytes = maxBytes
  }

  push(block: Uint8Array, first: number, last: number): void {
    if (this.maxBytes === 0) return
    this.entries.push({ block, first, last })
    this.bytes += block.length
    let dropped = 0
    while (this.bytes > this.maxBytes) {
      this.bytes -= this.entries[dropped]?.block.length ?? 0
      dropped++
    }
    if (dropped > 0) this.entries.splice(0, dropped)
  }

  /** What came after a message, as far as `latest`; `undefined` where not all of it is here. */
  after(sequence: number, latest: number): ReadonlyArray<Uint8Array> | undefined {
    if (sequence === latest) return []
    const from = this.entries.findIndex(({ last }) => last > sequence)
    const entry = this.entries[from]
    if (entry === undefined || entry.first > sequence + 1) return undefined
    const rest = this.entries.slice(from + 1).map(({ block }) => block)
    return [skip(entry.block, sequence + 1 - entry.first), ...rest]
  }
}

const skip = (block: Uint8Array, frames: number): Uint8Array => {
  let start = 0
  for (let i = 0; i < frames; i++) {
    start = Wire.endOf(block, start)
  }
  return block.subarray(start)
}
