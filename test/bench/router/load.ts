/**
 * The load: all clients of one server, in one process. One member of each session sends; every member gets every
 * message, and each is checked: its length, and that none is missing, doubled or out of order; of one member, drawn by
 * lot, every byte.
 *
 * `load.ts JSON`, a `Task`; prints an `Outcome` as JSON, or why the run counts for nothing, and ends with status 1.
 */
import * as Fs from "node:fs"
import * as Timers from "node:timers/promises"
import * as Drivers from "./drivers/all.ts"
import * as Latencies from "./latencies.ts"
import * as Member from "./member.ts"
import * as Payload from "./payload.ts"
import type * as Task from "./task.ts"

/** How long the last messages may take to come, and the members to join, in milliseconds. */
const patience = 20_000
/** Connections that are being made at once. */
const atOnce = 100
/** Ticks of the clock that /proc counts in, per second. */
const ticksPerSecond = 100

const fail = (message: string): never => {
  console.error(message)
  process.exit(1)
}

/** The time that a process has been at work, all its threads together, in seconds. */
const cpuSeconds = (pid: number): number => {
  const [, fields = ""] = Fs.readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")
  const [user, system] = fields.split(" ").slice(11, 13).map(Number)
  return ((user ?? NaN) + (system ?? NaN)) / ticksPerSecond
}

const until = async (what: string, isDone: () => boolean) => {
  const end = performance.now() + patience
  while (!isDone()) {
    if (performance.now() > end) fail(`after ${patience / 1000} s: ${what}`)
    await Timers.setTimeout(5)
  }
}

/** A session: the first member sends. */
class Group {
  readonly members: ReadonlyArray<Member.Member>
  readonly sender: Member.Member
  sent = 0

  constructor(members: ReadonlyArray<Member.Member>) {
    this.members = members
    this.sender = members[0] ?? fail("a session without members")
  }

  send(count: number): void {
    this.sender.send(this.sent + 1, count)
    this.sent += count
  }

  /** Keeps so many under way, by what came back to the sender. */
  keepUnderWay(window: number): void {
    const room = window - (this.sent - this.sender.received)
    if (room >= window / 4) this.send(room)
  }

  isThrough(): boolean {
    return this.members.every(({ received }) => received === this.sent)
  }
}

const connect = async (task: Task.Task, run: Member.Run): Promise<ReadonlyArray<Group>> => {
  let ready = 0
  const join = (session: string) => {
    const member = new Member.Member(run, task.port, session, Drivers.makers[task.protocol])
    member.onReady = () => ready++
    return member
  }
  const groups: Array<Group> = []
  let asked = 0
  for (const session of task.sessions) {
    groups.push(new Group(Array.from({ length: task.clients }, () => join(session))))
    asked += task.clients
    await until("not all have joined", () => ready >= asked - atOnce)
  }
  await until("not all have joined", () => ready === asked)
  return groups
}

/** So many a second, each at its own time. */
const paceFor = async (group: Group, perSecond: number, seconds: number) => {
  const start = performance.now()
  const total = Math.round(perSecond * seconds)
  for (let sent = 0; sent < total;) {
    await Timers.setTimeout(1)
    const due = Math.min(total, Math.floor(((performance.now() - start) / 1000) * perSecond))
    for (; sent < due; sent++) group.send(1)
  }
}

const windowFor = async (groups: ReadonlyArray<Group>, window: number, seconds: number) => {
  for (const group of groups) {
    group.sender.afterRead = () => group.keepUnderWay(window)
    group.keepUnderWay(window)
  }
  await Timers.setTimeout(seconds * 1000)
}

const main = async () => {
  const task = JSON.parse(process.argv[2] ?? "{}") as Task.Task
  const { pace, pid, seconds, size, warmUp, window } = task
  const isPaced = pace > 0
  const latencies = isPaced ? new Latencies.Latencies(pace * seconds * task.clients * 2) : undefined
  const groups = await connect(task, { template: Payload.template(size), latencies, fail })
  const members = groups.flatMap(({ members }) => members)
  const decoded = members[Math.floor(Math.random() * members.length)]
  if (decoded !== undefined) decoded.isDecoded = true
  const [first] = groups

  const load = (seconds: number) =>
    isPaced && first !== undefined ? paceFor(first, pace, seconds) : windowFor(groups, window, seconds)
  const reading = () => ({
    at: performance.now(),
    deliveries: members.reduce((sum, { received }) => sum + received, 0),
    server: cpuSeconds(pid),
    own: cpuSeconds(process.pid)
  })

  await load(warmUp)
  const before = reading()
  if (latencies !== undefined) latencies.isOpen = true
  await load(seconds)
  const after = reading()
  for (const { sender } of groups) sender.afterRead = () => {}
  await until("messages are missing", () => groups.every((group) => group.isThrough()))
  for (const member of members) member.leave()
  const outcome: Task.Outcome = {
    deliveries: after.deliveries - before.deliveries,
    seconds: (after.at - before.at) / 1000,
    serverCpu: after.server - before.server,
    ownCpu: after.own - before.own,
    latency: latencies?.percentiles()
  }
  process.stdout.write(JSON.stringify(outcome))
}

await main()
