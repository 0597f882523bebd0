import * as Epoch from "@effect-nat/natpmp/NatPmpEpoch"
import { assert, describe, it } from "@effect/vitest"

const at = (elapsedSeconds: number, seconds: number): Epoch.Epoch => ({
  seconds,
  receivedAt: BigInt(Math.round(elapsedSeconds * 1e9))
})

describe("NatPmpEpoch", () => {
  // RFC 6886 §3.6: less than the last value plus 7/8 of the time since, by more than 2 seconds.
  it.each([
    ["keeps pace", 1000, 80, 1080, false],
    ["is fast", 1000, 80, 2000, false],
    ["is slow by an eighth", 1000, 80, 1070, false],
    ["is slow by an eighth and 2 seconds", 1000, 80, 1068, false],
    ["is slower than that", 1000, 80, 1067, true],
    ["started over", 1000, 80, 0, true],
    ["started over, at once", 1000, 0, 0, true],
    ["answers twice in one second", 1000, 0.4, 1000, false],
    ["steps back by 2 seconds", 1000, 0, 998, false],
    ["steps back by 3 seconds", 1000, 0, 997, true],
    ["was itself just started", 0, 1, 0, false],
    ["started over long after, and has run longer than before", 10, 80, 100, false]
  ] as const)("a gateway that %s [RFC 6886 3.6-ab]", (_name, before, elapsed, now, expected) => {
    assert.strictEqual(Epoch.hasRestarted(at(50, before), at(50 + elapsed, now)), expected)
  })
})
