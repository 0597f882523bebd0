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
  /** Questions that the client waited on, one after the other: the answered search is one, each HTTP request is one. */
  readonly exchanges: number
  /** TCP connections that were opened: segments with SYN alone. */
  readonly handshakes: number
  /** All UDP and TCP packets, in both directions, whoever sent them. */
  readonly packets: number
}

const ssdpPort = 1900
const httpRequest = /^[A-Z-]+ \S+ HTTP\/1\.[01]\r?\n/
const httpAnswer = /^HTTP\/1\.[01] 200 /

const text = new TextDecoder("latin1")

/** The first bytes tell what a packet begins with. */
const head = (packet: LabCapture.Packet): string => text.decode(packet.payload.subarray(0, 1024))

/** However many datagrams a search takes, the client goes on with the first answer to any of them. */
const isAnsweredSearch = (packets: ReadonlyArray<LabCapture.Packet>, client: string): boolean => {
  const search = packets.findIndex(
    (one) => one.sourceAddress === client && one.destinationPort === ssdpPort && head(one).startsWith("M-SEARCH ")
  )
  return (
    search !== -1 &&
    packets.slice(search).some((one) => one.destinationAddress === client && httpAnswer.test(head(one)))
  )
}

const isHttpRequest = (packet: LabCapture.Packet, client: string): boolean =>
  packet.protocol === "tcp" && packet.sourceAddress === client && httpRequest.test(head(packet))

/**
 * Counts what one run of a client on the host `client` took. A protocol that is neither SSDP nor HTTP adds its own
 * exchanges here.
 *
 * @category counting
 */
export const count = (captured: ReadonlyArray<LabCapture.Packet>, client: string): Traffic => {
  const packets = captured.filter(({ protocol }) => protocol === "tcp" || protocol === "udp")
  const requests = packets.filter((one) => isHttpRequest(one, client)).length
  return {
    exchanges: requests + (isAnsweredSearch(packets, client) ? 1 : 0),
    handshakes: packets.filter((one) => one.sourceAddress === client && one.flags === "S").length,
    packets: packets.length
  }
}
