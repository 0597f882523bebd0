/** Times from send to receipt, in milliseconds. */

export interface Percentiles {
  readonly p50: number
  readonly p99: number
  readonly p999: number
}

export class Latencies {
  private readonly values: Float64Array
  private count = 0
  isOpen = false

  constructor(most: number) {
    this.values = new Float64Array(most)
  }

  add(value: number): void {
    if (this.isOpen && this.count < this.values.length) this.values[this.count++] = value
  }

  percentiles(): Percentiles {
    const sorted = this.values.subarray(0, this.count).sort()
    const at = (part: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? NaN
    return { p50: at(0.5), p99: at(0.99), p999: at(0.999) }
  }
}
