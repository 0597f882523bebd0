/** What an idle connection costs a server in memory: how much more of it is resident once so many have joined. */
import * as Effect from "effect/Effect"
import * as Processes from "./processes.ts"

export const connections = 10_000
const members = 250
/** These come and go before anything is measured: what the first connections cost once is no connection's. */
const warmUps = 250

/** In bytes for each connection. */
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
  yield* Processes.collectGarbage(pid)
  const before = yield* Processes.residentBytes(pid)
  yield* join(1, sessions, members)
  yield* Processes.collectGarbage(pid)
  return ((yield* Processes.residentBytes(pid)) - before) / connections
}, Effect.scoped)
