/**
 * How the program fails: one line on standard error that says what to do, and an exit status.
 */
import * as Console from "effect/Console"
import * as Data from "effect/Data"
import * as Predicate from "effect/Predicate"
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

const tagOf = (error: unknown): string => {
  if (error instanceof Failure) return error.status === 2 ? "InvalidRequest" : "Failure"
  const named = Predicate.hasProperty(error, "reason") ? error.reason : error
  return Predicate.hasProperty(named, "_tag") ? String(named._tag) : "Failure"
}

/** Prints that a command has failed as one line of JSON, besides the line on standard error. */
export const printJson = (error: Error) =>
  Console.log(JSON.stringify({ event: "failed", error: tagOf(error), message: oneLine(error.message) }))
