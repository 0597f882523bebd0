/** Many messages in one piece of memory, each a copy of one. */

export type Fill = (bytes: Uint8Array, view: DataView, at: number, index: number) => void

export class Batch {
  private readonly unit: Uint8Array
  private copies: Uint8Array = new Uint8Array(0)

  constructor(unit: Uint8Array) {
    this.unit = unit
  }

  /** So many of them, each with what is its own written in. */
  make(count: number, fill: Fill): Uint8Array {
    const { length } = this.unit
    if (this.copies.length < count * length) this.grow(count)
    const bytes = this.copies.slice(0, count * length)
    const view = new DataView(bytes.buffer)
    for (let index = 0; index < count; index++) fill(bytes, view, index * length, index)
    return bytes
  }

  private grow(count: number): void {
    const { length } = this.unit
    this.copies = new Uint8Array(count * length)
    for (let at = 0; at < this.copies.length; at += length) this.copies.set(this.unit, at)
  }
}
