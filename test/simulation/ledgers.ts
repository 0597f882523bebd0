/**
 * The ledgers of one host's processes, as files would keep them: what a killed process has written stays.
 */
import * as Ledger from "@effect-nat/core/Ledger"
import type * as SimulatedNetwork from "@effect-nat/testing/SimulatedNetwork"
import * as Effect from "effect/Effect"

export class Ledgers {
  readonly #written = new Map<SimulatedNetwork.Process, ReadonlyArray<Ledger.Entry>>()

  /** The ledger of a process. */
  of(process: SimulatedNetwork.Process): Effect.Effect<Ledger.Service> {
    return Ledger.make({
      write: (entries) => Effect.sync(() => this.#written.set(process, entries)),
      takeOver: (wanted) => Effect.sync(() => this.#takeOver(process, wanted)),
      others: Effect.sync(() => ({
        alive: this.#entries((other) => other !== process && other.isRunning),
        gone: this.#entries((other) => other !== process && !other.isRunning)
      }))
    })
  }

  #entries(of: (process: SimulatedNetwork.Process) => boolean): ReadonlyArray<Ledger.Entry> {
    return [...this.#written].flatMap(([process, entries]) => (of(process) ? entries : []))
  }

  #takeOver(by: SimulatedNetwork.Process, wanted: (entry: Ledger.Entry) => boolean): ReadonlyArray<Ledger.Entry> {
    const taken: Array<Ledger.Entry> = []
    for (const [process, entries] of this.#written) {
      if (process === by || process.isRunning) continue
      taken.push(...entries.filter(wanted))
      this.#written.set(
        process,
        entries.filter((entry) => !wanted(entry))
      )
    }
    this.#written.set(by, [...(this.#written.get(by) ?? []), ...taken])
    return taken
  }
}
