/** What the servers are put through. */

export interface Scenario {
  /** The head of its column. */
  readonly name: string
  readonly sessions: number
  /** In each session. */
  readonly clients: number
  readonly size: number
  readonly window: number
  readonly pace: number
}

/** As much under way as a sender may have that does not wait: 256 KiB, and at least eight messages. */
const windowOf = (size: number): number => Math.min(2048, Math.max(8, Math.floor(262_144 / size)))

const flow = (name: string, clients: number, size: number): Scenario => ({
  name,
  sessions: 1,
  clients,
  size,
  window: windowOf(size),
  pace: 0
})

export const ten = flow("10", 10, 100)
export const fifty = flow("50", 50, 100)
export const hundred = flow("100", 100, 100)
export const byClients = [ten, fifty, hundred]

export const manySessions: Scenario = { ...flow("1,000 x 4", 4, 100), sessions: 1000, window: 16 }
export const oneSession = flow("1 x 4", 4, 100)
export const bySessions = [oneSession, manySessions]

export const bySize = [
  flow("16 B", 10, 16),
  { ...ten, name: "100 B" },
  flow("1 KiB", 10, 1024),
  flow("16 KiB", 10, 16_384),
  flow("64 KiB", 10, 65_536)
]

export const paced: Scenario = { ...flow("500/s", 50, 100), pace: 500 }
