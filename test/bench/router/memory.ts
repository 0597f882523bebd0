/** What an idle connection costs a server in memory: how much more of it is resident once so many have joined. */
import * as Effect from "effect/Effect"
import * as Processes from "./processes.ts"

export const connections = 10_000
const members = 250
/** These come and go before anything is measured: what the first connections cost once is no connection's. */
const warmUps = 250

/** In bytes for each connection. */
export interface Memory {
  /** As they have just joined, with the garbage of that. */
  readonly joined: number
  /** Of what is in use. */
  readonly used: number
}

export const measure = Effect.fnUntraced(function* (kind: Processes.Kind) {
  const sessions = connections / members
  const { pid, port, protocol, session } = yield* Processes.serve(kind, sessions + 1)
  const join = (first: number, count: number, clients: number) =>
    Processes.idle(kind.name, {
      protocol,
      port,
      sessions: Array.from({ length: count }, (_, index) => session(first + index)),
      clients
    })
  yield* Effect.scoped(join(0, 1, warmUps))
  yield* Processes.giveBack(pid)
  const before = yield* Processes.residentBytes(pid)
  yield* join(1, sessions, members)
  const joined = yield* Processes.residentBytes(pid)
  yield* Processes.giveBack(pid)
  const used = yield* Processes.residentBytes(pid)
  const memory: Memory = { joined: (joined - before) / connections, used: (used - before) / connections }
  return memory
}, Effect.scoped)
