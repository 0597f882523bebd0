import * as Ledger from "@effect-nat/core/Ledger"
import * as NatError from "@effect-nat/core/NatError"
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as NetAddress from "effect/net/NetAddress"
import * as Scheduler from "effect/Scheduler"
import * as TestClock from "effect/testing/TestClock"

const entry = (differences: Partial<Ledger.Entry> = {}): Ledger.Entry => {
  const internalPort = differences.internalPort ?? 12000
  return new Ledger.Entry({
    method: "natpmp",
    gateway: "192.168.77.1:5351",
    key: `tcp 192.168.77.2:${internalPort}`,
    protocol: "tcp",
    internalAddress: NetAddress.ipFromStringUnsafe("192.168.77.2"),
    externalPort: 12001,
    description: "effect-nat",
    nonce: undefined,
    ...differences,
    internalPort
  })
}

const elsewhere = "10.0.0.1:5351"

interface Disk {
  written: ReadonlyArray<Ledger.Entry>
  alive: Array<Ledger.Entry>
  gone: Array<Ledger.Entry>
  writes: number
  fails: boolean
}

const makeDisk = (differences: Partial<Disk> = {}): Disk => ({
  written: [],
  alive: [],
  gone: [],
  writes: 0,
  fails: false,
  ...differences
})

const full = new Ledger.StorageError({ message: "no space left on the device" })

const on = (disk: Disk) =>
  Ledger.make({
    write: (entries) =>
      Effect.suspend(() => {
        disk.writes += 1
        if (disk.fails) return Effect.fail(full)
        disk.written = entries
        return Effect.void
      }),
    takeOver: (wanted) =>
      Effect.sync(() => {
        const taken = disk.gone.filter(wanted)
        disk.gone = disk.gone.filter((one) => !wanted(one))
        return taken
      }),
    others: Effect.sync(() => ({ alive: disk.alive, gone: disk.gone }))
  })

const ports = (entries: ReadonlyArray<Ledger.Entry>) => entries.map((one) => one.internalPort)

/** Deletes what it is given, and says what that was. */
const discarding = (failure?: NatError.NatError) => {
  const discarded: Array<number> = []
  const discard = (one: Ledger.Entry) =>
    Effect.suspend(() => {
      discarded.push(one.internalPort)
      return failure === undefined ? Effect.void : Effect.fail(failure)
    })
  return { discard, discarded }
}

const timedOut = NatError.fromReason(new NatError.TimedOut({ detail: "no answer" }))
const refused = NatError.fromReason(new NatError.NotAuthorized({ detail: "not yours" }))

describe("a page", () => {
  it.effect("is written when something is noted, and cleared when that is deleted", () =>
    Effect.gen(function* () {
      const disk = makeDisk()
      const page = yield* (yield* on(disk)).open
      yield* page.note(entry())
      assert.deepStrictEqual(disk.written, [entry()])
      yield* page.note(entry())
      assert.strictEqual(disk.writes, 1)
      yield* page.strike
      assert.deepStrictEqual(disk.written, [])
    })
  )

  it.effect("keeps what nobody has confirmed, and what is on another gateway than the last", () =>
    Effect.gen(function* () {
      const disk = makeDisk()
      const ledger = yield* on(disk)
      const page = yield* ledger.open
      yield* page.note(entry())
      yield* page.note(entry({ gateway: elsewhere }))
      yield* page.strike
      assert.deepStrictEqual(disk.written, [entry({ leftAt: 0 })])
      const other = yield* ledger.open
      yield* other.note(entry({ internalPort: 9000 }))
      yield* other.leave
      assert.deepStrictEqual(ports(disk.written), [12000, 9000])
    })
  )

  it.effect("keeps what led to another address of this host: that this one is deleted says nothing of it", () =>
    Effect.gen(function* () {
      const disk = makeDisk()
      const page = yield* (yield* on(disk)).open
      yield* page.note(entry())
      const moved = { key: "tcp 192.168.77.9:12000", internalAddress: NetAddress.ipFromStringUnsafe("192.168.77.9") }
      yield* page.note(entry(moved))
      assert.sameDeepMembers([...disk.written], [entry(moved), entry({ leftAt: 0 })])
      yield* page.strike
      assert.deepStrictEqual(disk.written, [entry({ leftAt: 0 })])
    })
  )

  it.effect("goes on with what an earlier run left, and gives it back when that is refused", () =>
    Effect.gen(function* () {
      const earlier = entry({ nonce: "00112233445566778899aabb", leftAt: -1000 })
      const disk = makeDisk({ gone: [earlier, entry({ internalPort: 9000 })] })
      const page = yield* (yield* on(disk)).open
      assert.deepStrictEqual(yield* page.earlier(entry()), earlier)
      yield* page.note(entry({ nonce: "00112233445566778899aabb", externalPort: 5000 }))
      yield* page.withdraw
      assert.sameDeepMembers([...disk.written], [earlier, entry({ internalPort: 9000, leftAt: 0 })])
    })
  )

  it.effect("has nothing of another gateway or of another port to go on with", () =>
    Effect.gen(function* () {
      const disk = makeDisk({ gone: [entry({ gateway: elsewhere }), entry({ internalPort: 9000 })] })
      const page = yield* (yield* on(disk)).open
      assert.isUndefined(yield* page.earlier(entry()))
      assert.lengthOf(disk.gone, 1)
    })
  )

  it.effect("has nothing to strike out, leave or sweep before anything is noted", () =>
    Effect.gen(function* () {
      const disk = makeDisk({ gone: [entry()] })
      const page = yield* (yield* on(disk)).open
      const { discard, discarded } = discarding()
      yield* page.strike
      yield* page.leave
      yield* page.withdraw
      yield* page.sweep(discard)
      assert.strictEqual(disk.writes, 0)
      assert.deepStrictEqual(discarded, [])
    })
  )
})

describe("sweeping", () => {
  it.effect("deletes what is left on this gateway, and nothing that anybody has", () =>
    Effect.gen(function* () {
      const disk = makeDisk({
        gone: [
          entry({ internalPort: 1 }),
          entry({ internalPort: 2 }),
          entry({ internalPort: 3 }),
          entry({ internalPort: 4, gateway: elsewhere }),
          entry({ internalPort: 5, method: "pcp" })
        ],
        alive: [entry({ internalPort: 2 })]
      })
      const page = yield* (yield* on(disk)).open
      yield* page.note(entry({ internalPort: 3 }))
      const { discard, discarded } = discarding()
      yield* page.sweep(discard)
      assert.deepStrictEqual(discarded, [1])
      assert.deepStrictEqual(ports(disk.written), [3])
      assert.deepStrictEqual(ports(disk.gone), [4, 5])
    })
  )

  it.effect("spares what somebody has by another protocol: one that knows no nonces would delete it all the same", () =>
    Effect.gen(function* () {
      const disk = makeDisk({
        gone: [entry({ internalPort: 1 }), entry({ internalPort: 2 }), entry({ internalPort: 3 })],
        alive: [entry({ internalPort: 2, method: "pcp" })]
      })
      const ledger = yield* on(disk)
      yield* (yield* ledger.open).note(entry({ internalPort: 3, method: "pcp" }))
      const page = yield* ledger.open
      yield* page.note(entry())
      const { discard, discarded } = discarding()
      yield* page.sweep(discard)
      assert.deepStrictEqual(discarded, [1])
      assert.sameMembers(ports(disk.written), [12000, 3])
    })
  )

  it.effect("keeps what the gateway has no answer for, and not what it refuses", () =>
    Effect.gen(function* () {
      const disk = makeDisk({ gone: [entry({ internalPort: 1 })] })
      const page = yield* (yield* on(disk)).open
      yield* page.note(entry())
      yield* page.sweep(discarding(timedOut).discard)
      assert.sameMembers(ports(disk.written), [12000, 1])
      yield* page.sweep(discarding(refused).discard)
      assert.deepStrictEqual(ports(disk.written), [12000])
    })
  )

  it.effect("hands over what is left as it was noted", () =>
    Effect.gen(function* () {
      const disk = makeDisk({ gone: [entry({ internalPort: 1 })] })
      const page = yield* (yield* on(disk)).open
      yield* page.note(entry())
      const handed: Array<Ledger.Entry> = []
      yield* page.sweep((one) => Effect.sync(() => handed.push(one)))
      assert.deepStrictEqual(handed, [entry({ internalPort: 1 })])
    })
  )

  it.effect("gives up what has no answer once its lease is long over, and after 90 days where it has no end", () =>
    Effect.gen(function* () {
      const twoHours = 7200
      const disk = makeDisk({ gone: [entry({ internalPort: 1, lifetime: twoHours }), entry({ internalPort: 2 })] })
      const sweep = Effect.gen(function* () {
        const page = yield* (yield* on(disk)).open
        yield* page.note(entry())
        yield* page.sweep(discarding(timedOut).discard)
        yield* page.strike
        // This process ends, and the next one finds what it has left.
        disk.gone = [...disk.written]
        return ports(disk.gone)
      })
      assert.deepStrictEqual(yield* sweep, [1, 2])
      yield* TestClock.adjust("1 day")
      assert.deepStrictEqual(yield* sweep, [1, 2])
      yield* TestClock.adjust("3 hours")
      assert.deepStrictEqual(yield* sweep, [2])
      yield* TestClock.adjust("90 days")
      assert.deepStrictEqual(yield* sweep, [])
    })
  )

  it.effect("counts from when something is left, not from when it was mapped", () =>
    Effect.gen(function* () {
      const disk = makeDisk()
      const ledger = yield* on(disk)
      const page = yield* ledger.open
      yield* page.note(entry({ lifetime: 7200 }))
      yield* TestClock.adjust("100 days")
      yield* page.leave
      assert.deepStrictEqual(ports(disk.written), [12000])
    })
  )

  it.effect("deletes what this process itself could not, once the gateway answers again", () =>
    Effect.gen(function* () {
      const disk = makeDisk()
      const ledger = yield* on(disk)
      const lost = yield* ledger.open
      yield* lost.note(entry({ internalPort: 1 }))
      yield* lost.leave
      const page = yield* ledger.open
      yield* page.note(entry())
      const { discard, discarded } = discarding()
      yield* page.sweep(discard)
      assert.deepStrictEqual(discarded, [1])
    })
  )
})

describe("where nothing can be written", () => {
  it.effect("mapping goes on, and that is said once", () =>
    Effect.gen(function* () {
      const warnings: Array<unknown> = []
      const logger = Logger.make<unknown, void>(({ logLevel, message }) => {
        if (logLevel === "Warn") warnings.push(message)
      })
      const disk = makeDisk({ fails: true })
      yield* Effect.gen(function* () {
        const page = yield* (yield* on(disk)).open
        yield* page.note(entry())
        yield* page.note(entry({ externalPort: 5000 }))
        yield* page.strike
      }).pipe(Effect.provide(Logger.layer([logger])))
      assert.lengthOf(warnings, 1)
      assert.include(String(warnings[0]), "no space left on the device")
    })
  )
})

describe("by default", () => {
  it.effect("nothing is written down", () =>
    Effect.gen(function* () {
      const ledger = yield* Ledger.Ledger
      const page = yield* ledger.open
      yield* page.note(entry())
      assert.deepStrictEqual(yield* ledger.entries("natpmp"), [])
      assert.isUndefined(yield* page.earlier(entry()))
    })
  )

  it.effect("a ledger names what a protocol has noted, whoever it was", () =>
    Effect.gen(function* () {
      const disk = makeDisk({
        alive: [entry({ internalPort: 1 })],
        gone: [entry({ internalPort: 2 }), entry({ internalPort: 3, method: "upnp" })]
      })
      const ledger = yield* on(disk)
      yield* (yield* ledger.open).note(entry())
      assert.deepStrictEqual(ports(yield* ledger.entries("natpmp")), [12000, 1, 2])
    })
  )

  it.effect("has whoever asks for the same meanwhile wait, so that it is not deleted after it was granted", () =>
    Effect.gen(function* () {
      const ledger = yield* on(makeDisk({ gone: [entry({ internalPort: 1 })] }))
      const page = yield* ledger.open
      yield* page.note(entry())
      const isDeleted = yield* Deferred.make<void>()
      const options = { startImmediately: true }
      const sweeping = yield* Effect.forkChild(
        page.sweep(() => Deferred.await(isDeleted)),
        options
      )
      const asked = Effect.flatMap(ledger.open, ({ note }) => note(entry({ internalPort: 1 })))
      const same = yield* Effect.forkChild(asked, options)
      const askedOtherwise = Effect.flatMap(ledger.open, ({ note }) => note(entry({ internalPort: 1, method: "pcp" })))
      const sameOtherwise = yield* Effect.forkChild(askedOtherwise, options)
      yield* Effect.flatMap(ledger.open, ({ note }) => note(entry({ internalPort: 2 })))
      assert.isUndefined(same.pollUnsafe())
      assert.isUndefined(sameOtherwise.pollUnsafe())
      yield* Deferred.succeed(isDeleted, undefined)
      yield* Fiber.join(same)
      yield* Fiber.join(sameOtherwise)
      yield* Fiber.join(sweeping)
    })
  )
})

it.effect("what is noted is not deleted after that, whatever the moment", () =>
  Effect.gen(function* () {
    const turns = (count: number) => Effect.repeat(Effect.yieldNow, { times: count })
    let deletions = 0
    for (let turn = 0; turn < 300; turn++) {
      const ledger = yield* on(makeDisk({ gone: [entry()] }))
      const first = yield* ledger.open
      yield* first.note(entry({ internalPort: 12001 }))
      let isNoted = false
      let isDeletedAfter = false
      const discard = () =>
        Effect.andThen(
          turns(5),
          Effect.sync(() => {
            deletions += 1
            isDeletedAfter = isNoted
          })
        )
      const sweeping = yield* first
        .sweep(discard)
        .pipe(Effect.provideService(Scheduler.MaxOpsBeforeYield, 3 + (turn % 3)), Effect.forkChild)
      yield* turns(Math.floor(turn / 3))
      yield* (yield* ledger.open).note(entry())
      isNoted = true
      yield* Fiber.join(sweeping)
      assert.isFalse(isDeletedAfter, `noted at ${turn}`)
    }
    assert.isAbove(deletions, 50)
    assert.isBelow(deletions, 290)
  })
)

describe("a mapping that is another process's as well", () => {
  const held = (disk: Disk, alive: ReadonlyArray<Ledger.Entry>) =>
    Effect.gen(function* () {
      const page = yield* (yield* on(disk)).open
      yield* page.note(entry())
      disk.alive.push(...alive)
      return page
    })

  it.effect("is not to be deleted while that one lives, by whichever protocol", () =>
    Effect.gen(function* () {
      for (const method of ["natpmp", "pcp"]) {
        const disk = makeDisk()
        const page = yield* held(disk, [entry({ method })])
        assert.isTrue(yield* page.giveUp)
        yield* page.strike
        assert.deepStrictEqual(disk.written, [])
      }
    })
  )

  it.effect("is to be deleted where that one is another, is gone, or ends as well", () =>
    Effect.gen(function* () {
      const others: ReadonlyArray<ReadonlyArray<Ledger.Entry>> = [
        [],
        [entry({ internalPort: 12001 })],
        [entry({ gateway: elsewhere })],
        [entry({ internalAddress: NetAddress.ipFromStringUnsafe("192.168.77.3") })],
        [entry({ leftAt: 1 })]
      ]
      for (const alive of others) {
        const disk = makeDisk({ gone: [entry()] })
        const page = yield* held(disk, alive)
        assert.isFalse(yield* page.giveUp)
      }
    })
  )

  it.effect("is deleted by one of two that end at one time: each has said so before it looks", () =>
    Effect.gen(function* () {
      const disk = makeDisk()
      const page = yield* held(disk, [entry()])
      const ledger = yield* Ledger.make({
        write: (entries) =>
          Effect.sync(() => {
            disk.written = entries
            // The other one ends just then.
            disk.alive = [entry({ leftAt: 1 })]
          }),
        takeOver: () => Effect.succeed([]),
        others: Effect.sync(() => ({ alive: disk.alive, gone: [] }))
      })
      const second = yield* ledger.open
      yield* second.note(entry())
      disk.alive = [entry()]
      assert.isFalse(yield* second.giveUp)
      assert.isDefined(disk.written[0]?.leftAt)
      yield* page.strike
    })
  )

  it.effect("is to be deleted where it cannot be written that this one ends: the other one may end as well", () =>
    Effect.gen(function* () {
      const disk = makeDisk()
      const page = yield* held(disk, [entry()])
      disk.fails = true
      assert.isFalse(yield* page.giveUp)
    })
  )

  it.effect("is asked for as that one has asked for it, and stays that one's", () =>
    Effect.gen(function* () {
      const disk = makeDisk({ alive: [entry({ method: "pcp", nonce: "00112233445566778899aabb" })] })
      const page = yield* (yield* on(disk)).open
      assert.strictEqual((yield* page.earlier(entry({ method: "pcp" })))?.nonce, "00112233445566778899aabb")
      assert.isUndefined(yield* page.earlier(entry({ method: "pcp", internalPort: 5 })))
      yield* page.withdraw
      assert.deepStrictEqual([disk.written, disk.alive.length], [[], 1])
    })
  )

  it.effect("stays noted until it is known to be deleted", () =>
    Effect.gen(function* () {
      const disk = makeDisk()
      const page = yield* held(disk, [entry()])
      yield* page.giveUp
      assert.lengthOf(disk.written, 1)
      yield* page.leave
      assert.lengthOf(disk.written, 1)
    })
  )

  it.effect("is to be deleted where that one has gone to another gateway, and not when it has come back", () =>
    Effect.gen(function* () {
      const theirs = makeDisk()
      const their = yield* (yield* on(theirs)).open
      const disk = makeDisk()
      const page = yield* held(disk, [])
      const isAnothers = Effect.suspend(() => {
        disk.alive = [...theirs.written]
        return page.giveUp
      })
      yield* their.note(entry())
      yield* their.note(entry({ gateway: elsewhere }))
      assert.isFalse(yield* isAnothers)
      yield* their.note(entry())
      assert.isTrue(yield* isAnothers)
    })
  )

  it.effect("counts for nobody who has noted nothing", () =>
    Effect.gen(function* () {
      const disk = makeDisk({ alive: [entry()] })
      const page = yield* (yield* on(disk)).open
      assert.isFalse(yield* page.giveUp)
      yield* page.note(entry())
      yield* page.strike
      assert.isFalse(yield* page.giveUp)
    })
  )
})
