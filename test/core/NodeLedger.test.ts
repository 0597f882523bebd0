import * as Ledger from "@effect-nat/core/Ledger"
import * as NodeLedger from "@effect-nat/core/NodeLedger"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as NetAddress from "effect/net/NetAddress"
import { execFileSync, spawn } from "node:child_process"
import * as Fs from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

const entry = (internalPort: number, gateway = "192.168.77.1:5351"): Ledger.Entry =>
  new Ledger.Entry({
    method: "natpmp",
    gateway,
    key: `tcp 192.168.77.2:${internalPort}`,
    protocol: "tcp",
    internalAddress: NetAddress.ipFromStringUnsafe("192.168.77.2"),
    internalPort,
    externalPort: 12001,
    description: "effect-nat",
    nonce: undefined
  })

const directory = Effect.acquireRelease(
  Effect.sync(() => Fs.mkdtempSync(join(tmpdir(), "effect-nat-ledger-"))),
  (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true, force: true }))
)

const open = (path: string) => Ledger.Ledger.pipe(Effect.provide(NodeLedger.layerIn(path)))

const files = (path: string) => Fs.readdirSync(path)

/** Another process: it does nothing, and can be killed. */
const another = Effect.acquireRelease(
  Effect.sync(() => spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)"], { stdio: "ignore" })),
  (child) => Effect.sync(() => child.kill("SIGKILL"))
)

const killed = (child: ReturnType<typeof spawn>) =>
  Effect.callback<void>((resume) => {
    child.on("exit", () => resume(Effect.void))
    child.kill("SIGKILL")
  })

/** Our own file becomes another process's by its name, as that process would have written it. */
const giveTo = (path: string, id: number) => {
  const [name = ""] = files(path)
  const [, started = "", ...rest] = name.split(".")
  const [boot, namespace, , ...machine] = started.split("-")
  const ticks = Fs.readFileSync(`/proc/${id}/stat`, "utf8").split(") ")[1]?.split(" ")[19]
  Fs.renameSync(join(path, name), join(path, [id, [boot, namespace, ticks, ...machine].join("-"), ...rest].join(".")))
}

/** Our own file becomes that of a process of an earlier start of the system. */
const giveToTheDead = (path: string) => {
  const [name = ""] = files(path)
  Fs.renameSync(join(path, name), join(path, name.replace(/\.[0-9a-z]+-/, ".00000000-")))
}

const sweep = Effect.fnUntraced(function* (path: string, gateway?: string) {
  return yield* sweepBy(yield* open(path), gateway)
})

const sweepBy = Effect.fnUntraced(function* (ledger: Ledger.Service, gateway?: string) {
  const page = yield* ledger.open
  yield* page.note(entry(1, gateway))
  const swept: Array<number> = []
  yield* page.sweep((one) => Effect.sync(() => swept.push(one.internalPort)))
  yield* page.strike
  return swept
})

const leave = Effect.fnUntraced(function* (path: string, ...entries: ReadonlyArray<Ledger.Entry>) {
  const ledger = yield* open(path)
  for (const one of entries) yield* (yield* ledger.open).note(one)
})

const warningsOf = Effect.fnUntraced(function* <A, E, R>(effect: Effect.Effect<A, E, R>) {
  const warnings: Array<string> = []
  const logger = Logger.make<unknown, void>(({ logLevel, message }) => {
    if (logLevel === "Warn") warnings.push(String(message))
  })
  yield* Effect.provide(effect, Logger.layer([logger]))
  return warnings
})

const isLinux = process.platform === "linux"

describe("a ledger in a directory", () => {
  it.effect("is one file, for the user only, and none when nothing is mapped", () =>
    Effect.gen(function* () {
      const path = join(yield* directory, "made", "when", "needed")
      const page = yield* (yield* open(path)).open
      yield* page.note(entry(12000))
      const [name = ""] = files(path)
      assert.lengthOf(files(path), 1)
      assert.strictEqual(Fs.statSync(join(path, name)).mode & 0o777, 0o600)
      assert.strictEqual(Fs.statSync(path).mode & 0o777, 0o700)
      assert.isTrue(name.startsWith(`${process.pid}.`))
      yield* page.strike
      assert.deepStrictEqual(files(path), [])
    })
  )

  it.effect("is nobody else's while its process lives", () =>
    Effect.gen(function* () {
      const path = yield* directory
      yield* leave(path, entry(12000))
      assert.deepStrictEqual(yield* sweep(path), [])
      assert.lengthOf(files(path), 1)
    })
  )

  it.effect("is not another's of the same process either", () =>
    Effect.gen(function* () {
      const path = yield* directory
      const [one, other] = [yield* open(path), yield* open(path)]
      // What the other could not delete is mapped again by the first.
      const unconfirmed = yield* other.open
      yield* unconfirmed.note(entry(12000))
      yield* unconfirmed.leave
      yield* (yield* one.open).note(entry(12000))
      assert.deepStrictEqual(yield* sweepBy(other), [])
    })
  )

  it.live.skipIf(!isLinux)("is taken over by the next start once its process is killed (needs Linux)", () =>
    Effect.gen(function* () {
      const path = yield* directory
      const child = yield* another
      yield* leave(path, entry(12000), entry(9000, "10.0.0.1:5351"))
      giveTo(path, child.pid ?? 0)
      assert.deepStrictEqual(yield* sweep(path), [])
      yield* killed(child)
      assert.deepStrictEqual(yield* sweep(path), [12000])
      // What is on another network waits for that network.
      assert.lengthOf(files(path), 1)
      assert.deepStrictEqual(yield* sweep(path, "10.0.0.1:5351"), [9000])
      assert.deepStrictEqual(files(path), [])
    })
  )

  it.live.skipIf(!isLinux)("knows that a process id has been used again (needs Linux)", () =>
    Effect.gen(function* () {
      const path = yield* directory
      const child = yield* another
      yield* leave(path, entry(12000))
      giveTo(path, child.pid ?? 0)
      const [name = ""] = files(path)
      // Its process began a tick earlier than the one that has the id now.
      const parts = name.split(".")
      const [boot, namespace, ticks, ...machine] = (parts[1] ?? "").split("-")
      parts[1] = [boot, namespace, Number(ticks) - 1, ...machine].join("-")
      Fs.renameSync(join(path, name), join(path, parts.join(".")))
      assert.deepStrictEqual(yield* sweep(path), [12000])
    })
  )

  it.effect.skipIf(!isLinux)(
    "takes over what was left before the system started, whatever runs now (needs Linux)",
    () =>
      Effect.gen(function* () {
        const path = yield* directory
        yield* leave(path, entry(12000))
        const [name = ""] = files(path)
        const parts = name.split(".")
        parts[1] = `00000000-${parts[1]?.split("-").slice(1).join("-")}`
        Fs.renameSync(join(path, name), join(path, parts.join(".")))
        assert.deepStrictEqual(yield* sweep(path), [12000])
      })
  )

  it.effect.skipIf(!isLinux)("leaves alone what it cannot tell from a living process (needs Linux)", () =>
    Effect.gen(function* () {
      const path = yield* directory
      yield* leave(path, entry(12000))
      const [name = ""] = files(path)
      const parts = name.split(".")
      const [boot, , ticks, ...machine] = (parts[1] ?? "").split("-")
      // A process of another container, say, which shares the directory.
      parts[1] = [boot, "1", ticks, ...machine].join("-")
      Fs.renameSync(join(path, name), join(path, parts.join(".")))
      assert.deepStrictEqual(yield* sweep(path), [])
      assert.lengthOf(files(path), 1)
    })
  )

  it.effect.skipIf(!isLinux)("leaves alone what is another machine's (needs Linux)", () =>
    Effect.gen(function* () {
      const path = yield* directory
      yield* leave(path, entry(12000))
      const [name = ""] = files(path)
      const parts = name.split(".")
      // It shares the home directory, say.
      parts[1] = `00000000-${(parts[1] ?? "").split("-").slice(1, 3).join("-")}-99999999`
      Fs.renameSync(join(path, name), join(path, parts.join(".")))
      assert.deepStrictEqual(yield* sweep(path), [])
      assert.lengthOf(files(path), 1)
    })
  )

  it.effect.skipIf(!isLinux)("says so of a file that is not readable, and goes on (needs Linux)", () =>
    Effect.gen(function* () {
      const path = yield* directory
      for (const text of ["", "{", '{"version":1,"entries":[{}]}', '{"version":2,"entries":[]}']) {
        yield* leave(path, entry(12000))
        const [name = ""] = files(path)
        Fs.rmSync(join(path, name))
        Fs.writeFileSync(join(path, name.replace(/\.[0-9a-z]+-/, ".00000000-")), text)
        const warnings = yield* warningsOf(
          Effect.gen(function* () {
            assert.deepStrictEqual(yield* sweep(path), [])
          })
        )
        assert.lengthOf(warnings, 1, text)
        assert.include(warnings[0], "not readable")
        assert.deepStrictEqual(files(path), [])
      }
    })
  )

  it.effect.skipIf(!isLinux)("passes over what it may not read (needs Linux)", () =>
    Effect.gen(function* () {
      const path = yield* directory
      yield* leave(path, entry(12000))
      const [name = ""] = files(path)
      const ofTheDead = (unique: string) => name.replace(/\.[0-9a-z]+-(.*)\.[0-9a-f]+\./, `.00000000-$1.${unique}.`)
      Fs.renameSync(join(path, name), join(path, ofTheDead("00112233aabb")))
      Fs.mkdirSync(join(path, ofTheDead("000000000000")))
      assert.deepStrictEqual(yield* sweep(path), [12000])
    })
  )

  it.live.skipIf(!isLinux)("drops what nobody has wanted for 90 days, and takes what is wanted (needs Linux)", () =>
    Effect.gen(function* () {
      const path = yield* directory
      yield* leave(path, entry(12000), entry(9000, "10.0.0.1:5351"))
      giveToTheDead(path)
      const [gone = ""] = files(path)
      const longAgo = new Date(Date.now() - 91 * 86_400_000)
      Fs.utimesSync(join(path, gone), longAgo, longAgo)
      assert.deepStrictEqual(yield* sweep(path), [12000])
      assert.lengthOf(files(path), 1)
      assert.deepStrictEqual(yield* sweep(path, "172.16.0.1:5351"), [])
      assert.deepStrictEqual(files(path), [])
    })
  )

  it.effect.skipIf(!isLinux)("loses nothing of one file where another cannot be taken (needs Linux)", () =>
    Effect.gen(function* () {
      const path = yield* directory
      yield* leave(path, entry(12000))
      giveToTheDead(path)
      // It is not deleted as a file would be, and stands behind the other one.
      Fs.mkdirSync(join(path, "999999.00000000-1-1.ffffffffffff.json.tmp"))
      assert.deepStrictEqual(yield* sweep(path), [12000])
    })
  )

  it.effect("has nothing to do with other files", () =>
    Effect.gen(function* () {
      const path = yield* directory
      Fs.writeFileSync(join(path, "notes.txt"), "none of yours")
      Fs.mkdirSync(join(path, "1.a.000000000000.json.d"))
      assert.deepStrictEqual(yield* sweep(path), [])
      assert.sameMembers(files(path), ["notes.txt", "1.a.000000000000.json.d"])
    })
  )

  it.effect("that cannot be made is warned of once, and mapping goes on", () =>
    Effect.gen(function* () {
      const path = join(yield* directory, "file")
      Fs.writeFileSync(path, "")
      const warnings = yield* warningsOf(sweep(path))
      assert.lengthOf(warnings, 1)
      assert.include(warnings[0], "cannot be written down")
    })
  )

  const isRoot = isLinux && process.getuid?.() === 0
  const onDisk = (path: string) =>
    Effect.acquireRelease(
      Effect.sync(() => execFileSync("mount", ["-t", "tmpfs", "-o", "size=8k", "tmpfs", path])),
      () => Effect.sync(() => execFileSync("umount", ["-l", path]))
    )
  it.effect.skipIf(!isLinux)("below what makes no directories is given up at once (needs Linux)", () =>
    Effect.gen(function* () {
      assert.lengthOf(yield* warningsOf(sweep("/proc/effect-nat/ledger")), 1)
    })
  )

  it.effect.skipIf(!isRoot)("on a full disk keeps what it had, and leaves no half-written file (needs root)", () =>
    Effect.gen(function* () {
      const path = yield* directory
      yield* onDisk(path)
      const ledger = yield* open(path)
      yield* (yield* ledger.open).note(entry(1))
      const before = files(path)
      const warnings = yield* warningsOf(
        Effect.gen(function* () {
          for (let port = 2; port < 40; port++) yield* (yield* ledger.open).note(entry(port))
        })
      )
      assert.lengthOf(warnings, 1)
      assert.include(warnings[0], "ENOSPC")
      assert.deepStrictEqual(files(path), before)
      assert.include(Fs.readFileSync(join(path, before[0] ?? ""), "utf8"), '192.168.77.2:1"')
    })
  )

  it.effect.skipIf(!isRoot)("on a full disk takes nothing that it has no place for (needs root)", () =>
    Effect.gen(function* () {
      const path = yield* directory
      yield* onDisk(path)
      yield* leave(path, entry(12000), entry(9000, "10.0.0.1:5351"))
      giveToTheDead(path)
      Fs.writeFileSync(join(path, "filler"), Buffer.alloc(4096))
      const before = files(path)
      yield* warningsOf(sweep(path))
      assert.deepStrictEqual(files(path), before)
      execFileSync("mount", ["-o", "remount,size=64k", path])
      assert.deepStrictEqual(yield* sweep(path), [12000])
      assert.deepStrictEqual(yield* sweep(path, "10.0.0.1:5351"), [9000])
    })
  )
})
