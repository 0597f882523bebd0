/**
 * What `serve` shows on a terminal: the lines, and how they are kept at its foot.
 */
import * as PortMapping from "@effect-nat/core/PortMapping"
import { assert, describe, it } from "@effect/vitest"
import * as Console from "effect/Console"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as NetAddress from "effect/net/NetAddress"
import * as Ref from "effect/Ref"
import * as Terminal from "effect/Terminal"
import * as TestClock from "effect/testing/TestClock"
import * as LiveTerminal from "../../packages/nat/src/cli/LiveTerminal.ts"
import * as LiveView from "../../packages/nat/src/cli/LiveView.ts"

const mapping = new PortMapping.PortMapping({
  remoteHost: undefined,
  externalAddress: NetAddress.ipFromStringUnsafe("11.22.33.1"),
  externalPort: 12001,
  protocol: "tcp",
  internalPort: 12000,
  internalAddress: NetAddress.ipFromStringUnsafe("192.168.77.2"),
  enabled: true,
  description: "effect-nat",
  lifetime: Duration.hours(2),
  gateway: NetAddress.ipFromStringUnsafe("192.168.77.1"),
  method: "pcp",
  status: "mapped"
})

const totals = (messages: number, bytesIn: number, bytesOut: number): LiveView.Totals => ({
  messages,
  bytesIn,
  bytesOut
})

const scene: LiveView.SessionStatus = {
  id: "0123456789abcdef0123456789abcdef",
  role: "scene",
  members: 2,
  totals: totals(1000, 100_000, 200_000)
}

const content: LiveView.SessionStatus = { ...scene, id: "f".repeat(32), role: "", members: 1, totals: totals(0, 0, 0) }

const minute = 60_000

const status: LiveView.Status = {
  now: 10 * minute,
  contactPoint: "internal 192.168.77.2:12000; external 11.22.33.1:12001",
  mapping: { mapping, since: 7 * minute, leaseEnd: 97 * minute },
  connections: 4,
  totals: totals(1000, 100_000, 200_000),
  sessions: [scene, content]
}

/** The same two seconds later, with 25 messages more. */
const later: LiveView.Status = {
  ...status,
  now: status.now + 2000,
  totals: totals(1025, 102_500, 4_200_000),
  sessions: [{ ...scene, totals: totals(1025, 102_500, 4_200_000) }, content]
}

const wide = { columns: 120, rows: 24 }

const text = (...args: Parameters<typeof LiveView.lines>) => LiveView.lines(...args).join("\n")

describe("LiveView", () => {
  it("shows contact point, mapping, lease, members and rates", () => {
    assert.deepStrictEqual(LiveView.lines(status, later, wide), [
      "contact point  internal 192.168.77.2:12000; external 11.22.33.1:12001",
      "mapping        11.22.33.1:12001 by pcp via 192.168.77.1, for 0:03:02, lease left 1:26:58",
      "traffic        3 members in 2 sessions, 4 connections, 12.5 messages/s, 1.3 kB/s in, 2.0 MB/s out",
      "role   session                           members  messages  messages/s    in/s   out/s",
      `scene  ${scene.id}        2     1.0 k        12.5  1.3 kB  2.0 MB`,
      `-      ${content.id}        1         0           0     0 B     0 B`
    ])
  })

  it("has no rates at first, nor of a session that was not there before or began anew", () => {
    assert.include(text(undefined, status, wide), "- messages/s, -/s in, -/s out")
    assert.match(text({ ...status, sessions: [] }, later, wide), /^scene .* - +- +-$/m)
    const uncounted = { ...later, sessions: [{ ...scene, totals: undefined }] }
    assert.match(text(status, uncounted, wide), /^scene .* 2 +- +- +- +-$/m)
    const anew = { ...later, sessions: [{ ...scene, totals: totals(1, 1, 1) }] }
    assert.match(text(status, anew, wide), /^scene .* 1 +- +- +-$/m)
  })

  it("says that a mapping is not confirmed, lost, permanent, in doubt, or none", () => {
    const show = (change: Partial<PortMapping.PortMapping>, leaseEnd?: number) => {
      const changed = new PortMapping.PortMapping({ ...mapping, ...change })
      return text(undefined, { ...status, mapping: { mapping: changed, since: 0, leaseEnd } }, wide)
    }
    assert.include(show({ status: "lost" }), "mapping        LOST 0:10:00 ago: the gateway no longer renews it")
    assert.include(
      show({ status: "unconfirmed" }, 15 * minute),
      "by pcp via 192.168.77.1, NOT CONFIRMED for 0:10:00, lease left 0:05:00; asking again"
    )
    assert.include(show({ lifetime: Duration.infinity }), "for 0:10:00, permanent")
    assert.include(show({ lifetime: undefined }), "for 0:10:00, no lease")
    assert.include(
      show({ externalPort: undefined }),
      "mapping        not mapped: reachable on this network only by pcp"
    )
    const behind = show({ doubleNat: true, externalAddress: NetAddress.ipFromStringUnsafe("100.64.0.7") })
    assert.match(behind, /^ {15}in doubt: .*provider/m)
  })

  it("knows when a lease began anew, and since when a mapping is what it is", () => {
    const hour = 60 * minute
    const first = LiveView.follow(undefined, mapping, 0)
    assert.deepStrictEqual(first, { mapping, since: 0, leaseEnd: 2 * hour })
    assert.strictEqual(LiveView.follow(first, mapping, minute), first)
    const renewal = new PortMapping.PortMapping({ ...mapping })
    const renewed = LiveView.follow(first, renewal, hour)
    assert.deepStrictEqual(renewed, { mapping: renewal, since: 0, leaseEnd: 3 * hour })
    const unconfirmed = LiveView.follow(
      renewed,
      new PortMapping.PortMapping({ ...mapping, status: "unconfirmed" }),
      hour
    )
    assert.deepInclude(unconfirmed, { since: hour, leaseEnd: 3 * hour })
    const lost = LiveView.follow(renewed, new PortMapping.PortMapping({ ...mapping, status: "lost" }), 2 * hour)
    assert.deepInclude(lost, { since: 2 * hour, leaseEnd: undefined })
    const stillLost = LiveView.follow(lost, new PortMapping.PortMapping({ ...mapping, status: "lost" }), 3 * hour)
    assert.strictEqual(stillLost.since, 2 * hour)
    assert.deepInclude(LiveView.follow(lost, renewal, 3 * hour), { since: 3 * hour, leaseEnd: 5 * hour })
    for (const lifetime of [undefined, Duration.infinity]) {
      const endless = new PortMapping.PortMapping({ ...mapping, lifetime })
      assert.isUndefined(LiveView.follow(undefined, endless, 0).leaseEnd)
    }
  })

  it("stays within its width and height, whatever there is to show", () => {
    const hostile = { ...scene, role: `\u001b[2J${"日本語👩‍👩‍👧é".repeat(8)}` }
    const many = Array.from({ length: 100 }, (_, index) => ({ ...hostile, id: String(index).padStart(32, "0") }))
    const full = { ...later, contactPoint: `${"long words ".repeat(40)}${"x".repeat(300)}`, sessions: many }
    for (let columns = 0; columns <= 130; columns += 10) {
      for (let rows = 0; rows <= 30; rows++) {
        const lines = LiveView.lines(status, full, { columns, rows })
        assert.isAtMost(lines.length, rows)
        for (const line of lines) {
          assert.isAtMost(LiveView.width(line), columns)
          assert.notMatch(line, /\p{Cc}/u)
        }
      }
    }
  })

  it("counts the sessions for which there is no room", () => {
    const many = Array.from({ length: 100 }, (_, index) => ({ ...scene, id: String(index).padStart(32, "0") }))
    const lines = LiveView.lines(undefined, { ...status, sessions: many }, { columns: 120, rows: 10 })
    assert.lengthOf(lines, 10)
    assert.strictEqual(lines[9], "… and 95 more sessions")
    const fitting = LiveView.lines(undefined, { ...status, sessions: many.slice(0, 6) }, { columns: 120, rows: 10 })
    assert.lengthOf(fitting, 10)
    assert.include(fitting[9], many[5]?.id ?? "none")
  })

  it("says times and amounts briefly", () => {
    assert.deepStrictEqual([-5, 0, 59_999, 3_600_000, 100 * 3_600_000].map(LiveView.formatTime), [
      "0:00:00",
      "0:00:00",
      "0:00:59",
      "1:00:00",
      "100:00:00"
    ])
    const amounts = [0, 0.04, 1, 12.34, 99.96, 999.4, 999.6, 1000, 1234, 99_960, 1e6, 2.5e9, 1e18]
    assert.deepStrictEqual(
      amounts.map((amount) => LiveView.formatAmount(amount)),
      ["0", "0.0", "1", "12.3", "100", "999", "1.0 k", "1.0 k", "1.2 k", "100 k", "1.0 M", "2.5 G", "1000000 T"]
    )
  })
})

/** So much of a terminal as is used here: it does what it is told, line by line, and knows no other sequence. */
const makeScreen = (columns: number) => {
  const rows: Array<string> = [""]
  let [row, column] = [0, 0]
  const put = (character: string) => {
    if (column === columns) newLine()
    rows[row] = (rows[row] ?? "").slice(0, column).padEnd(column) + character
    column++
  }
  const newLine = () => {
    row++
    column = 0
    rows[row] ??= ""
  }
  const write = (text: string) => {
    for (let rest = text; rest !== "";) {
      // oxlint-disable-next-line no-control-regex -- what steers the terminal is looked for
      const sequence = /^\u001b\[(\d*)([AJ])/.exec(rest)
      if (sequence?.[2] === "A") row = Math.max(0, row - Number(sequence[1]))
      else if (sequence?.[2] === "J") rows.splice(row, Infinity, (rows[row] ?? "").slice(0, column))
      else if (rest.startsWith("\r")) column = 0
      else if (rest.startsWith("\n")) newLine()
      else put(rest.charAt(0))
      rest = rest.slice(sequence?.[0].length ?? 1)
    }
  }
  return { write, shown: () => rows.join("\n").trimEnd().split("\n") }
}

const makeConsole = (write: (text: string) => void): Console.Console => {
  const print = (...args: ReadonlyArray<unknown>) => write(`${args.map(String).join(" ")}\n`)
  return { ...console, log: print, error: print, warn: print, info: print, debug: print }
}

describe("lines that are to fit", () => {
  const count = (most: number) => Array.from({ length: most }, (_, index) => `${index + 1}`)

  it("are never more than there is room for, and say what is missing", () => {
    assert.deepStrictEqual(LiveView.fitting(count(5), { columns: 80, rows: 5 }).slice(-2), ["4", "5"])
    const cut = LiveView.fitting(count(9), { columns: 80, rows: 5 })
    assert.lengthOf(cut, 5)
    assert.deepStrictEqual(cut.slice(-2), ["4", "… and 5 more"])
    assert.lengthOf(LiveView.fitting(count(100), { columns: 80, rows: 0 }), 2)
  })

  it("are cut where they are too long", () => {
    assert.deepStrictEqual(LiveView.fitting(["12345678"], { columns: 5, rows: 5 }), ["1234…"])
  })
})

describe("LiveTerminal", () => {
  const onScreen = (columns: () => number = () => 40) => {
    const screen = makeScreen(40)
    return { screen, live: LiveTerminal.make(makeConsole(screen.write), columns, true) }
  }

  it.effect("writes its lines in place, and what is printed or logged above them", () =>
    Effect.gen(function* () {
      const { live, screen } = onScreen()
      live.console.log("before")
      yield* live.draw(["one", "two", "three"])
      assert.deepStrictEqual(screen.shown(), ["before", "one", "two", "three"])
      yield* live.draw(["ONE", "TWO"])
      assert.deepStrictEqual(screen.shown(), ["before", "ONE", "TWO"])
      yield* Effect.provideService(
        Effect.andThen(Console.log("a line"), Console.error("an error\nof two lines")),
        Console.Console,
        live.console
      )
      assert.deepStrictEqual(screen.shown(), ["before", "a line", "an error", "of two lines", "ONE", "TWO"])
      yield* live.erase
      live.console.log("after")
      assert.deepStrictEqual(screen.shown(), ["before", "a line", "an error", "of two lines", "after"])
    })
  )

  it.effect("leaves standard error alone where it goes elsewhere", () =>
    Effect.gen(function* () {
      const screen = makeScreen(40)
      const errors: Array<unknown> = []
      const underlying = { ...makeConsole(screen.write), error: (...args: ReadonlyArray<unknown>) => errors.push(args) }
      const live = LiveTerminal.make(underlying, () => 40, false)
      yield* live.draw(["one"])
      live.console.error("an error")
      assert.deepStrictEqual(screen.shown(), ["one"])
      assert.deepStrictEqual(errors, [["an error"]])
    })
  )

  it.effect("finds its lines again on a terminal that does not know its size", () =>
    Effect.gen(function* () {
      const { live, screen } = onScreen(() => 0)
      live.console.log("before")
      yield* live.draw(["one", "two"])
      yield* live.draw(["again"])
      assert.deepStrictEqual(screen.shown(), ["before", "again"])
    })
  )

  it.effect("finds its lines again when the terminal has become narrower and broke them", () =>
    Effect.gen(function* () {
      let columns = 60
      const screen = makeScreen(30)
      const live = LiveTerminal.make(makeConsole(screen.write), () => columns, true)
      live.console.log("before")
      // The screen breaks them as one that was made narrower does.
      yield* live.draw(["x".repeat(59), "y".repeat(31), "z"])
      columns = 30
      yield* live.draw(["again"])
      assert.deepStrictEqual(screen.shown(), ["before", "again"])
    })
  )

  it.effect("shows a dispatcher once a second, and goes away when it is interrupted", () =>
    Effect.gen(function* () {
      const { live, screen } = onScreen()
      const reads = yield* Ref.make(0)
      const read = Effect.map(
        Ref.getAndUpdate(reads, (count) => count + 1),
        (count) => (count === 0 ? status : later)
      )
      const terminal = Terminal.make({
        columns: Effect.succeed(41),
        rows: Effect.succeed(6),
        size: Effect.die("not used"),
        readInput: Effect.die("not used"),
        readLine: Effect.die("not used"),
        display: () => Effect.die("not used")
      })
      live.console.log("before")
      const showing = yield* LiveTerminal.show(live, read).pipe(
        Effect.provideService(Terminal.Terminal, terminal),
        Effect.forkChild
      )
      yield* Effect.yieldNow
      const first = screen.shown()
      assert.deepStrictEqual(first, ["before", ...LiveView.lines(undefined, status, { columns: 40, rows: 5 })])
      yield* TestClock.adjust("999 millis")
      assert.strictEqual(yield* Ref.get(reads), 1)
      yield* TestClock.adjust("1 millis")
      assert.strictEqual(yield* Ref.get(reads), 2)
      assert.deepStrictEqual(screen.shown(), ["before", ...LiveView.lines(status, later, { columns: 40, rows: 5 })])
      yield* Fiber.interrupt(showing)
      assert.deepStrictEqual(screen.shown(), ["before"])
    })
  )
})
