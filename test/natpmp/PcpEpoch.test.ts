import * as Epoch from "@effect-nat/natpmp/PcpEpoch"
import { assert, describe, it } from "@effect/vitest"

const at = (elapsedSeconds: number, seconds: number): Epoch.Epoch => ({
  seconds,
  receivedAt: BigInt(Math.round(elapsedSeconds * 1e9))
})

describe("PcpEpoch", () => {
  // RFC 6887 §8.5: not back by more than a second; neither clock slower than the other by more than a sixteenth and 2 seconds.
  it.each([
    ["keeps pace", 1000, 80, 1080, false],
    ["goes back by a second", 1000, 0, 999, false],
    ["goes back by 2 seconds", 1000, 0, 998, true],
    ["goes back by a second where the last answer is 3 seconds old", 1000, 3, 999, true],
    ["answers twice in one second", 1000, 0.4, 1000, false],
    ["stands still for 2 seconds", 1000, 2, 1000, false],
    ["stands still for 2.2 seconds", 1000, 2.2, 1000, true],
    ["is slow by a sixteenth", 1000, 80, 1075, false],
    ["is slow by a sixteenth and 2 seconds", 1000, 80, 1073, false],
    ["is slower than that", 1000, 80, 1072, true],
    ["is fast by a sixteenth", 1000, 75, 1080, false],
    ["is fast by a sixteenth and 2 seconds", 1000, 73, 1080, false],
    ["is faster than that", 1000, 72.9, 1080, true],
    ["jumps ahead", 1000, 1, 2000, true],
    ["started over", 1000, 80, 0, true],
    ["started over, at once", 1000, 0, 0, true],
    ["was itself just started", 0, 1, 0, false],
    ["started over long after, and has run longer than before", 10, 100, 80, true],
    ["has counted to the end", 0xffff_fff0, 15, 0xffff_ffff, false]
  ] as const)("a server that %s [RFC 6887 8.5-bc]", (_name, before, elapsed, now, expected) => {
    assert.strictEqual(Epoch.hasRestarted(at(50, before), at(50 + elapsed, now)), expected)
  })
})
