import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Flags from "../../packages/nat/src/cli/Flags.ts"

describe("a mapping on the command line", () => {
  const good: ReadonlyArray<readonly [string, Flags.MappingSpec]> = [
    ["12000", { internalPort: 12000, externalPort: undefined, protocol: "tcp" }],
    ["12000:12001", { internalPort: 12000, externalPort: 12001, protocol: "tcp" }],
    ["12000/udp", { internalPort: 12000, externalPort: undefined, protocol: "udp" }],
    ["1:65535/UDP", { internalPort: 1, externalPort: 65535, protocol: "udp" }],
    ["12000:12001/tcp", { internalPort: 12000, externalPort: 12001, protocol: "tcp" }]
  ]
  for (const [text, spec] of good) {
    it(`${text} is read`, () => assert.deepStrictEqual(Flags.parseMappingSpec(text), spec))
  }

  const bad: ReadonlyArray<readonly [string, RegExp]> = [
    ["0", /"0" is not a port/],
    ["70000", /"70000" is not a port: use a whole number from 1 to 65535/],
    ["65536", /is not a port/],
    ["-1", /is not a port/],
    ["1e3", /is not a port/],
    ["", /is not a port/],
    ["12000:", /is not a port/],
    [":12001", /is not a port/],
    ["12000:0", /"0" is not a port/],
    ["1:2:3", /is not a mapping: write/],
    ["12000/sctp", /"sctp" is not a protocol: use tcp or udp/],
    ["12000/", /is not a protocol/],
    ["12000/tcp/udp", /is not a mapping/],
    ["http", /is not a port/]
  ]
  for (const [text, message] of bad) {
    it(`${JSON.stringify(text)} is refused with what to do`, () => {
      assert.throws(() => Flags.parseMappingSpec(text), message)
    })
  }
})

describe("an external port on the command line", () => {
  it("has a protocol, by default tcp", () => {
    assert.deepStrictEqual(Flags.parseExternalSpec("12001/udp"), { externalPort: 12001, protocol: "udp" })
    assert.deepStrictEqual(Flags.parseExternalSpec("12001"), { externalPort: 12001, protocol: "tcp" })
  })
  it("is one port", () => {
    assert.throws(() => Flags.parseExternalSpec("12000:12001/tcp"), /is not a port/)
    assert.throws(() => Flags.parseExternalSpec("12001/tcp/x"), /is not a mapping/)
  })
})

describe("a lease on the command line", () => {
  const good: ReadonlyArray<readonly [string, Duration.Duration]> = [
    ["90s", Duration.seconds(90)],
    ["30m", Duration.minutes(30)],
    ["2h", Duration.hours(2)],
    ["1d", Duration.days(1)],
    ["7200", Duration.hours(2)],
    ["0", Duration.infinity],
    ["permanent", Duration.infinity]
  ]
  for (const [text, lease] of good) {
    it(`${text} is read`, () => assert.isTrue(Duration.equals(Flags.parseLease(text), lease)))
  }
  for (const text of ["", "h", "2 hours", "-1s", "1.5h", "1w", "99999999999s", "NaN"]) {
    it(`${JSON.stringify(text)} is refused with what to do`, () => {
      assert.throws(() => Flags.parseLease(text), /is not a lease: write it like 90s, 30m, 2h or 1d/)
    })
  }
})

describe("a time on the command line", () => {
  it.each([
    ["10s", Duration.seconds(10)],
    ["5m", Duration.minutes(5)],
    ["2", Duration.seconds(2)]
  ] as const)("%s is read", (text, time) => assert.isTrue(Duration.equals(Flags.parseTime(text), time)))
  it.each(["", "0", "0s", "-1s", "soon", "permanent", "1w"])("%j is refused with what to do", (text) => {
    assert.throws(() => Flags.parseTime(text), /is not a time: write it like 10s, 5m or 2h/)
  })
})

describe("a family on the command line", () => {
  it("is asked for by itself, and both one after the other", () => {
    assert.deepStrictEqual(Flags.families("ipv4"), ["ipv4"])
    assert.deepStrictEqual(Flags.families("ipv6"), ["ipv6"])
    assert.deepStrictEqual(Flags.families("both"), ["ipv4", "ipv6"])
  })
})
