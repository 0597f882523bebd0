/**
 * What a client sent and got, counted from a capture.
 */
import type * as LabCapture from "../../lab/LabCapture.ts"

/**
 * The traffic of one run.
 *
 * @category models
 */
export interface Traffic {
  /** Questions that the client waited on, one after the other: the search is one, each HTTP request is one. */
  readonly exchanges: number
  /** How long the answers to them took to come, in milliseconds: no client is faster than that. */
  readonly waiting: number
  /** TCP connections that were opened: segments with SYN alone. */
  readonly handshakes: number
  /** All UDP and TCP packets, in both directions, whoever sent them. */
  readonly packets: number
}

const ssdpPort = 1900
/** NAT-PMP's and PCP's. */
const gatewayPort = 5351
const httpRequest = /^[A-Z-]+ \S+ HTTP\/1\.[01]\r?\n/
const httpAnswer = /^HTTP\/1\.[01] 200 /

const text = new TextDecoder("latin1")

/** The first bytes tell what a packet begins with. */
const head = (packet: LabCapture.Packet): string => text.decode(packet.payload.subarray(0, 1024))

type Packet = LabCapture.Packet

/** A question and the first packet of its answer. */
interface Exchange {
  readonly question: Packet
  readonly answer: Packet | undefined
}

/** However many datagrams a search takes, the client goes on with the first answer to any of them. */
const search = (packets: ReadonlyArray<Packet>, client: string): ReadonlyArray<Exchange> => {
  const question = packets.find(
    (one) => one.sourceAddress === client && one.destinationPort === ssdpPort && head(one).startsWith("M-SEARCH ")
  )
  if (question === undefined) return []
  const answer = packets.find(
    (one) => one.protocol === "udp" && one.destinationAddress === client && httpAnswer.test(head(one))
  )
  return [{ question, answer }]
}

const isRequest = (packet: Packet, client: string): boolean =>
  packet.protocol === "tcp" && packet.sourceAddress === client && httpRequest.test(head(packet))

const requests = (packets: ReadonlyArray<Packet>, client: string): ReadonlyArray<Exchange> =>
  packets.flatMap((question, index) => {
    if (!isRequest(question, client)) return []
    const isAnswer = (one: Packet) =>
      one.destinationPort === question.sourcePort && one.destinationAddress === client && one.payload.length > 0
    return [{ question, answer: packets.slice(index).find(isAnswer) }]
  })

const isSame = (one: Packet, other: Packet): boolean =>
  one.payload.length === other.payload.length && one.payload.every((byte, index) => byte === other.payload[index])

/** The questions of NAT-PMP and PCP. The same datagram again is the same question, which was not answered yet. */
const questions = (packets: ReadonlyArray<Packet>, client: string): ReadonlyArray<Exchange> => {
  const asked = packets.filter((one) => one.sourceAddress === client && one.destinationPort === gatewayPort)
  return asked
    .filter((one, index) => !asked.slice(0, index).some((earlier) => isSame(earlier, one)))
    .map((question) => {
      const isAnswer = (one: Packet) => one.sourcePort === gatewayPort && one.destinationPort === question.sourcePort
      return { question, answer: packets.slice(packets.indexOf(question)).find(isAnswer) }
    })
}

/**
 * Counts what one run of a client on the host `client` took. A protocol that is none of SSDP, HTTP, NAT-PMP and PCP adds
 * its own exchanges here.
 *
 * @category counting
 */
export const count = (captured: ReadonlyArray<Packet>, client: string): Traffic => {
  const packets = captured.filter(({ protocol }) => protocol === "tcp" || protocol === "udp")
  const exchanges = [...search(packets, client), ...requests(packets, client), ...questions(packets, client)]
  return {
    exchanges: exchanges.length,
    waiting: exchanges.reduce(
      (sum, { answer, question }) => sum + ((answer?.time ?? question.time) - question.time),
      0
    ),
    handshakes: packets.filter((one) => one.sourceAddress === client && one.flags === "S").length,
    packets: packets.length
  }
}

/**
 * Whether each of several runs took as many exchanges as its protocol needs for a mapping, and no more. One with fewer
 * was not captured as a whole, which says nothing about what was sent.
 *
 * @category judging
 */
export const isWithin = (runs: ReadonlyArray<Traffic>, least: number, most = least): boolean =>
  runs.length > 0 && runs.every(({ exchanges }) => exchanges >= least && exchanges <= most)

/**
 * Numbers of several runs, from the least to the most. They seldom differ; where they do, all of them are shown.
 *
 * @category formatting
 */
export const numbers = (values: ReadonlyArray<number>): string => [...new Set(values)].sort((a, b) => a - b).join(",")
