/** What the load is told, and what it tells. */
import type * as Drivers from "./drivers/all.ts"
import type * as Latencies from "./latencies.ts"

export interface Task {
  readonly protocol: Drivers.Protocol
  readonly port: number
  /** The process of the server. */
  readonly pid: number
  /** How the server calls them; the router's are invitations. */
  readonly sessions: ReadonlyArray<string>
  /** In each session. */
  readonly clients: number
  /** Of a message, in bytes. */
  readonly size: number
  /** The most messages of a session under way, where there is no pace. */
  readonly window: number
  /** Messages a second; 0 for as many as it takes. */
  readonly pace: number
  readonly warmUp: number
  readonly seconds: number
}

export interface Outcome {
  readonly deliveries: number
  readonly seconds: number
  /** In seconds, of all processors together. */
  readonly serverCpu: number
  readonly ownCpu: number
  readonly latency: Latencies.Percentiles | undefined
}

export interface IdleTask {
  readonly protocol: Drivers.Protocol
  readonly port: number
  readonly sessions: ReadonlyArray<string>
  /** In each session. */
  readonly clients: number
}
