/**
 * The one error of the lab.
 */
import * as Data from "effect/Data"

/**
 * Something in the lab did not work: `step` says what was tried, `detail` what came of it, with the output of the
 * command or of the daemon where there is some.
 *
 * @category errors
 */
export class LabError extends Data.TaggedError("LabError")<{
  readonly step: string
  readonly detail: string
  readonly cause?: unknown
}> {
  override get message(): string {
    return `${this.step}: ${this.detail}`
  }
}
