/**
 * Many clients that join and then do nothing. Prints a line when all have, and stays until its standard input ends.
 *
 * `idle.ts JSON`, an `IdleTask`.
 */
import * as Timers from "node:timers/promises"
import * as Drivers from "./drivers/all.ts"
import * as Member from "./member.ts"
import * as Payload from "./payload.ts"
import type * as Task from "./task.ts"

/** Connections that are being made at once. */
const atOnce = 200

const fail = (message: string): never => {
  console.error(message)
  process.exit(1)
}

const main = async () => {
  const { clients, port, protocol, sessions } = JSON.parse(process.argv[2] ?? "{}") as Task.IdleTask
  const run: Member.Run = { template: Payload.template(16), latencies: undefined, fail }
  const members: Array<Member.Member> = []
  let ready = 0
  for (const session of sessions) {
    for (let i = 0; i < clients; i++) {
      const member = new Member.Member(run, port, session, Drivers.makers[protocol])
      member.onReady = () => ready++
      members.push(member)
      while (members.length - ready >= atOnce) await Timers.setTimeout(1)
    }
  }
  while (ready < members.length) await Timers.setTimeout(1)
  process.stdout.write("joined\n")
  process.stdin.on("end", () => {
    for (const member of members) member.leave()
  })
  process.stdin.resume()
}

await main()
