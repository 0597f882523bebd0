/**
 * Which process a file of the ledger belongs to, and whether that process is gone, from what the system says of it.
 */

/** A process: its id, and what tells it from another one with that id. */
export interface Owner {
  readonly id: number
  readonly started: string
}

/** What ids of processes are good for: one start of the system on one machine, and one namespace. */
export interface Surroundings {
  /** Letters and digits; empty where nothing names the machine. */
  readonly machine: string
  readonly bootId: string
  readonly namespace: string
}

const pattern = /^(\d{1,10})\.([0-9a-z-]{1,80})\.[0-9a-f]{12}\.json(?:\.tmp)?$/

/** A file's name: whose it is, and a part that makes it another than all others. */
export const fileName = ({ id, started }: Owner, unique: string): string => `${id}.${started}.${unique}.json`

/** Whose a file is, by its name; `undefined` for a file that is not the ledger's. */
export const ownerOf = (name: string): Owner | undefined => {
  const [, id, started] = pattern.exec(name) ?? []
  return id === undefined || started === undefined ? undefined : { id: Number(id), started }
}

interface Stat {
  readonly state: string
  readonly startTicks: string
}

/** `/proc/<id>/stat`: the name in brackets may contain anything (proc_pid_stat(5)). */
const parseStat = (text: string): Stat | undefined => {
  const fields = text
    .slice(text.lastIndexOf(")") + 1)
    .trim()
    .split(/\s+/)
  const [state, startTicks] = [fields[0], fields[19]]
  return state === undefined || startTicks === undefined || !/^\d+$/.test(startTicks)
    ? undefined
    : { state, startTicks }
}

const digitsOf = (namespace: string): string => namespace.replace(/\D/g, "")

/** When a process started: which start of the system, which namespace, after how many ticks of the clock, and where. */
export const linuxStart = (
  stat: string | undefined,
  { bootId, machine, namespace }: Surroundings
): string | undefined => {
  const parsed = stat === undefined ? undefined : parseStat(stat)
  if (parsed === undefined) return undefined
  const start = `${bootId.slice(0, 8)}-${digitsOf(namespace)}-${parsed.startTicks}`
  return machine === "" ? start : `${start}-${machine}`
}

/** What is dead and not yet buried by its parent: it runs no more. */
const isDead = ({ state }: Stat): boolean => state === "Z" || state === "X"

/** What the system says of the process that has an id now. */
interface Now {
  /** Some systems show it to its own user only. */
  readonly stat: string | undefined
  readonly exists: boolean
}

/**
 * Of another namespace nothing is known, nor of another machine that shares the directory, nor of a name that another
 * system gave. A name without a machine is of this one.
 */
export const isGoneOnLinux = (
  started: string,
  { exists, stat }: Now,
  { bootId, machine, namespace }: Surroundings
): boolean => {
  const [boot, itsNamespace, ticks, itsMachine = machine] = started.split("-")
  if (ticks === undefined || itsMachine !== machine) return false
  if (boot !== bootId.slice(0, 8)) return true
  if (itsNamespace !== digitsOf(namespace)) return false
  const now = stat === undefined ? undefined : parseStat(stat)
  return now === undefined ? !exists : now.startTicks !== ticks || isDead(now)
}

/** Seconds: one clock is asked for when a process began, and the other for how long it has run. */
const tolerance = 3

/** What `ps -o lstart=` says, in seconds since 1970. */
export const parseStart = (text: string): number | undefined => {
  const millis = Date.parse(text.trim())
  return Number.isNaN(millis) ? undefined : millis / 1000
}

/** Whether the process that has the id now began at another time. What is not known is no other time. */
export const isOtherStart = (started: string, now: number | undefined): boolean =>
  now !== undefined && Math.abs(Number(started) - now) > tolerance
