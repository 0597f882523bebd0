/**
 * The counting behind the benchmark's verdict, on packets of its own.
 */
import { assert, describe, it } from "@effect/vitest"
import type * as LabCapture from "../../lab/LabCapture.ts"
import * as Traffic from "./traffic.ts"

const client = "192.168.77.2"
const router = "192.168.77.1"

const encoder = new TextEncoder()

type Sent = Partial<Omit<LabCapture.Packet, "payload">> & { readonly payload?: string }

const fromClient = ({ payload = "", ...rest }: Sent): LabCapture.Packet => ({
  time: 0,
  protocol: "tcp",
  sourceAddress: client,
  sourcePort: 40_000,
  destinationAddress: router,
  destinationPort: 5000,
  ttl: 64,
  flags: "P.",
  payload: encoder.encode(payload),
  ...rest
})

const fromRouter = (sent: Sent): LabCapture.Packet =>
  fromClient({
    sourceAddress: router,
    sourcePort: 5000,
    destinationAddress: client,
    destinationPort: 40_000,
    payload: "HTTP/1.1 200 OK\r\n",
    ...sent
  })

const udp = { protocol: "udp", flags: "" } as const

const search = fromClient({ ...udp, destinationPort: 1900, payload: "M-SEARCH * HTTP/1.1\r\n" })
const found = fromRouter({ ...udp, time: 50, sourcePort: 1900 })

const call = (method: string, time: number) => [
  fromClient({ time, payload: `${method} / HTTP/1.1\r\n` }),
  fromRouter({ time: time + 2 })
]

const mapping = [
  search,
  found,
  fromClient({ time: 51, flags: "S" }),
  ...call("GET", 52),
  ...call("POST", 55),
  ...call("POST", 58)
]

describe("the traffic of a mapping", () => {
  it("is counted", () => {
    assert.deepStrictEqual(Traffic.count(mapping, client), { exchanges: 4, waiting: 56, handshakes: 1, packets: 9 })
  })

  it("has the search in it, answered or not", () => {
    const unanswered = mapping.filter((packet) => packet !== found)
    assert.deepStrictEqual(Traffic.count(unanswered, client), { exchanges: 4, waiting: 6, handshakes: 1, packets: 8 })
  })
})

describe("the traffic of NAT-PMP and PCP", () => {
  const question = fromClient({ ...udp, destinationPort: 5351, payload: "question" })
  const answer = fromRouter({ ...udp, time: 3, sourcePort: 5351, payload: "answer" })

  it("is counted by question and answer", () => {
    const other = fromClient({ ...udp, time: 4, destinationPort: 5351, payload: "another" })
    const itsAnswer = fromRouter({ ...udp, time: 9, sourcePort: 5351, payload: "answer" })
    assert.deepStrictEqual(Traffic.count([question, answer, other, itsAnswer], client), {
      exchanges: 2,
      waiting: 8,
      handshakes: 0,
      packets: 4
    })
  })

  it("has a question once that was sent twice", () => {
    const again = { ...question, time: 2 }
    assert.deepStrictEqual(Traffic.count([question, again, answer], client), {
      exchanges: 1,
      waiting: 3,
      handshakes: 0,
      packets: 3
    })
  })
})

describe("the verdict", () => {
  const whole = Traffic.count(mapping, client)

  it.each<readonly [string, ReadonlyArray<Traffic.Traffic>, boolean]>([
    ["holds where each run has the four exchanges", [whole, whole], true],
    ["fails without a run", [], false],
    ["fails where nothing was captured", [Traffic.count([], client)], false],
    ["fails where one run was not captured as a whole", [whole, Traffic.count(mapping.slice(0, -2), client)], false],
    ["fails where one run took more", [whole, Traffic.count([...mapping, ...call("POST", 60)], client)], false]
  ])("%s", (_, runs, holds) => {
    assert.strictEqual(Traffic.isWithin(runs, 4), holds)
  })

  it("allows for some more where it is told to", () => {
    assert.isTrue(Traffic.isWithin([whole], 3, 4))
    assert.isFalse(Traffic.isWithin([whole], 1, 3))
    assert.isFalse(Traffic.isWithin([whole], 5, 6))
  })

  it("shows all numbers", () => {
    assert.strictEqual(Traffic.numbers([12, 4, 4, 5, 12]), "4,5,12")
    assert.strictEqual(Traffic.numbers([]), "")
  })
})
