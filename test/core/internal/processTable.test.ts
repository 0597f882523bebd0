import { assert, describe, it } from "@effect/vitest"
import * as ProcessTable from "../../../packages/core/src/internal/processTable.ts"

const here: ProcessTable.Surroundings = {
  machine: "0a1b2c3d",
  bootId: "5c6d138d-5e2c-4b0e",
  namespace: "pid:[4026531836]"
}

const statOf = (state: string, ticks: number) =>
  `77 (a) name) ${state} 1 77 77 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 11 0 ${ticks} 10 2 18446744073709551615`

const started = ProcessTable.linuxStart(statOf("S", 699_537), here) ?? ""

describe("whether a process is gone (Linux)", () => {
  it.each([
    ["it runs", { stat: statOf("R", 699_537), exists: true }, here, false],
    ["there is none with its id", { stat: undefined, exists: false }, here, true],
    ["its table of processes is hidden from this user", { stat: undefined, exists: true }, here, false],
    ["another one has its id", { stat: statOf("S", 699_538), exists: true }, here, true],
    ["its parent has not noticed that it is dead", { stat: statOf("Z", 699_537), exists: true }, here, true],
    ["the system has started again", { stat: statOf("S", 699_537), exists: true }, { ...here, bootId: "other" }, true],
    [
      "it is of another machine",
      { stat: undefined, exists: false },
      { ...here, machine: "99999999", bootId: "other" },
      false
    ],
    ["nothing names this machine", { stat: undefined, exists: false }, { ...here, machine: "" }, false],
    ["it is of another namespace", { stat: undefined, exists: false }, { ...here, namespace: "pid:[1]" }, false]
  ] as const)("where %s", (_, now, surroundings, expected) => {
    assert.strictEqual(started, "5c6d138d-4026531836-699537-0a1b2c3d")
    assert.strictEqual(ProcessTable.isGoneOnLinux(started, now, surroundings), expected)
  })

  it("is known where its start was noted without a machine", () => {
    const now = { stat: undefined, exists: false }
    const withoutMachine = ProcessTable.linuxStart(statOf("S", 699_537), { ...here, machine: "" }) ?? ""
    assert.strictEqual(withoutMachine, "5c6d138d-4026531836-699537")
    assert.isTrue(ProcessTable.isGoneOnLinux(withoutMachine, now, here))
  })

  it("is not known of a start that another system has noted", () => {
    assert.isFalse(ProcessTable.isGoneOnLinux("1764151200", { stat: undefined, exists: false }, here))
  })
})

describe("a file's name", () => {
  it("says whose it is", () => {
    const name = ProcessTable.fileName({ id: 77, started }, "00112233aabb")
    assert.deepStrictEqual(ProcessTable.ownerOf(name), { id: 77, started })
    assert.deepStrictEqual(ProcessTable.ownerOf(`${name}.tmp`), { id: 77, started })
  })

  it.each(["notes.txt", "77.json", `77.${started}.json`, `../77.${started}.00112233aabb.json`])(
    "%s is none of the ledger's",
    (name) => {
      assert.isUndefined(ProcessTable.ownerOf(name))
    }
  )
})

describe("a start as macOS tells it", () => {
  it("is the same within a few seconds, and another one otherwise", () => {
    const now = ProcessTable.parseStart("Thu Nov 26 10:00:00 2026\n") ?? 0
    assert.isFalse(ProcessTable.isOtherStart(String(now + 2), now))
    assert.isTrue(ProcessTable.isOtherStart(String(now - 60), now))
    assert.isFalse(ProcessTable.isOtherStart(String(now), ProcessTable.parseStart("")))
  })
})
