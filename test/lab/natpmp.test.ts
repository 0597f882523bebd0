/**
 * What only the NAT-PMP strategy does on a lan host, behind the real router; the rest stands in `strategies.test.ts`.
 */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Lab from "./Lab.ts"
import { daemons } from "./LabProgram.ts"
import { labSuite } from "./LabSuite.ts"
import { avoidsPort12001, ended, onRouter, programOf } from "./strategy-lab.ts"

const { mapped } = programOf("natpmp")

const withNatPmp = Lab.make({ daemon: daemons.natpmp })

labSuite("NAT-PMP on a real router", () => {
  it.live(
    "takes two exchanges to map and one to delete, and none of them is for anybody else",
    () =>
      Effect.gen(function* () {
        const lab = yield* withNatPmp
        const capture = yield* lab.capture("lan", "udp")
        const { program } = yield* mapped(lab, "tcp", "12000", "12001", "--lease", "600")
        yield* ended(lab, program)
        const packets = yield* capture.packets
        assert.deepStrictEqual(
          packets
            .filter((one) => one.sourceAddress === "192.168.77.2")
            .map((one) => Buffer.from(one.payload).toString("hex")),
          ["0000", "000200002ee02ee100000258", "000200002ee0000000000000"]
        )
        assert.isTrue(packets.every((one) => one.sourcePort === 5351 || one.destinationPort === 5351))
        assert.lengthOf(packets, 6)
      }),
    60_000
  )

  it.live(
    "gives back what the router grants in place of the only port that will do",
    () =>
      Effect.gen(function* () {
        const permissions = ["deny 12001 0.0.0.0/0 0-65535", "allow 0-65535 192.168.77.0/24 0-65535"]
        const lab = yield* Lab.make({ daemon: { ...daemons.natpmp, permissions } })
        yield* avoidsPort12001(lab, "natpmp")
      }),
    60_000
  )

  it.live(
    "stands beside what another client mapped",
    () =>
      Effect.gen(function* () {
        const lab = yield* withNatPmp
        yield* lab.exec("lan", "natpmpc", ["-g", lab.addresses.gateway, "-a", "13001", "13000", "udp", "600"])
        const theirs = yield* lab.mappings
        const { program } = yield* mapped(lab, "udp", "12000", "12001")
        assert.sameDeepMembers([...(yield* lab.mappings)], [...theirs, onRouter("udp")])
        yield* ended(lab, program, theirs)
      }),
    60_000
  )

  it.live(
    "asks again until the router hears it",
    () =>
      Effect.gen(function* () {
        const lab = yield* withNatPmp
        const capture = yield* lab.capture("lan", "udp dst port 5351")
        yield* lab.loseFirst(5351)
        const { program } = yield* mapped(lab, "tcp", "12000", "12001")
        assert.deepStrictEqual(yield* lab.mappings, [onRouter("tcp")])
        const questions = (yield* capture.packets).filter((one) => one.payload.length === 2)
        assert.isAtLeast(questions.length, 2)
        yield* ended(lab, program)
      }),
    60_000
  )
})
