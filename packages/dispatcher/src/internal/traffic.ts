/** What a dispatcher's connections do, as plain numbers: they are counted for each message, and told once a second. */
import type * as CloseReason from "../CloseReason.ts"

export class Traffic {
  messages = 0
  bytesIn = 0
  bytesOut = 0
  droppedTicks = 0
  readonly closes = new Map<CloseReason.CloseReason, number>()

  closed(reason: CloseReason.CloseReason): void {
    this.closes.set(reason, (this.closes.get(reason) ?? 0) + 1)
  }
}
