/**
 * How the program fails: one line on standard error that says what to do, and an exit status.
 */
import * as Data from "effect/Data"
import * as Runtime from "effect/Runtime"

/** A failure that has been put into words: status 1 for what went wrong, 2 for a wrong call. */
export class Failure extends Data.TaggedError("Failure")<{ readonly message: string; readonly status: 1 | 2 }> {
  override readonly [Runtime.errorReported] = false
  override get [Runtime.errorExitCode](): number {
    return this.status
  }
}

/** Keeps a message on one line, whatever it quotes. */
export const oneLine = (message: string): string => message.replaceAll(/\s*\n\s*/g, " ").trim()
