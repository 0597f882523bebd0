/**
 * Packets that `tcpdump` saw in a namespace, read back from its capture file.
 */

/**
 * An IPv4 packet of a capture. Frames of other kinds are in the capture's text only.
 *
 * @category models
 */
export interface Packet {
  /** When it was seen, in milliseconds since 1970. */
  readonly time: number
  readonly protocol: "tcp" | "udp" | "icmp" | "other"
  readonly sourceAddress: string
  /** 0 where the protocol has no ports. */
  readonly sourcePort: number
  readonly destinationAddress: string
  readonly destinationPort: number
  readonly ttl: number
  /** The flags of a TCP segment as tcpdump writes them (`"S"`, `"S."`, `"P."`, `"F."`, `"R"`), empty otherwise. */
  readonly flags: string
  /** What TCP or UDP carries; for other protocols what IP carries. */
  readonly payload: Uint8Array
}

const protocols: Readonly<Record<number, Packet["protocol"]>> = { 1: "icmp", 6: "tcp", 17: "udp" }

const tcpFlags = (bits: number): string =>
  [
    [0x01, "F"],
    [0x02, "S"],
    [0x04, "R"],
    [0x08, "P"],
    [0x10, "."]
  ]
    .map(([bit, letter]) => ((bits & Number(bit)) === 0 ? "" : letter))
    .join("")

const ipv4 = (view: DataView, at: number): string => [0, 1, 2, 3].map((index) => view.getUint8(at + index)).join(".")

const parsePacket = (frame: Uint8Array, time: number): Packet | undefined => {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength)
  if (frame.length < 34 || view.getUint16(12) !== 0x0800) return undefined
  const ip = 14
  const transport = ip + (view.getUint8(ip) & 0x0f) * 4
  const protocol = protocols[view.getUint8(ip + 9)] ?? "other"
  const hasPorts = protocol === "tcp" || protocol === "udp"
  // A fragment behind the first, or a frame cut short, has no header to read.
  const headerLength = protocol === "tcp" ? 20 : protocol === "udp" ? 8 : 0
  if ((view.getUint16(ip + 6) & 0x1fff) !== 0 || frame.length < transport + headerLength) return undefined
  const body = protocol === "tcp" ? transport + (view.getUint8(transport + 12) >> 4) * 4 : transport + headerLength
  return {
    time,
    protocol,
    sourceAddress: ipv4(view, ip + 12),
    sourcePort: hasPorts ? view.getUint16(transport) : 0,
    destinationAddress: ipv4(view, ip + 16),
    destinationPort: hasPorts ? view.getUint16(transport + 2) : 0,
    ttl: view.getUint8(ip + 8),
    flags: protocol === "tcp" ? tcpFlags(view.getUint8(transport + 13)) : "",
    payload: frame.slice(body, ip + view.getUint16(ip + 2))
  }
}

/**
 * Reads the IPv4 packets of a capture file written on an Ethernet interface of this machine.
 *
 * @category decoding
 */
export const parse = (contents: Uint8Array): ReadonlyArray<Packet> => {
  // A plain array even when it was read as a Buffer, so that payloads compare with codecs' output.
  const file = new Uint8Array(contents.buffer, contents.byteOffset, contents.byteLength)
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength)
  const packets: Array<Packet> = []
  if (file.length < 24) return packets
  const littleEndian = view.getUint8(0) === 0xd4
  for (let at = 24; at + 16 <= file.length;) {
    const time = view.getUint32(at, littleEndian) * 1000 + view.getUint32(at + 4, littleEndian) / 1000
    const length = view.getUint32(at + 8, littleEndian)
    const packet = parsePacket(file.subarray(at + 16, at + 16 + length), time)
    if (packet !== undefined) packets.push(packet)
    at += 16 + length
  }
  return packets
}
