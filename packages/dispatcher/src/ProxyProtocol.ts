/**
 * The header by which a forwarder tells whose connection it passes on: version 2 of the PROXY protocol, the binary one
 * (haproxy's `proxy-protocol.txt`, section 2.2). A pure codec between bytes and values, both directions.
 *
 * **Gotchas**
 *
 * Whoever can connect can send such a header, and claim any address: it is worth something only where nobody but the
 * forwarder gets to the port.
 *
 * **Example** (Whose connection is this?)
 *
 * ```ts
 * import * as ProxyProtocol from "@effect-nat/dispatcher/ProxyProtocol"
 * import * as NetAddress from "effect/net/NetAddress"
 *
 * export const describe = (received: Uint8Array): string => {
 *   const decoded = ProxyProtocol.decode(received)
 *   if (decoded._tag !== "Complete") return decoded._tag
 *   const { source } = decoded.value
 *   return source === undefined ? "someone" : NetAddress.formatInet(source)
 * }
 * ```
 *
 * @since 0.1.0
 */
import * as NetAddress from "effect/net/NetAddress"
import * as Bytes from "./internal/bytes.ts"

/**
 * What a header begins with: no other protocol does, and text would break at the line feeds.
 *
 * @category constants
 * @since 0.1.0
 */
export const signature: Uint8Array = Uint8Array.of(13, 10, 13, 10, 0, 13, 10, 81, 85, 73, 84, 10)

/**
 * The longest header that is taken, in bytes. The longest addresses make 232; the rest is room for what forwarders add,
 * such as the names in a client's certificate, and is skipped.
 *
 * @category constants
 * @since 0.1.0
 */
export const maximumBytes = 4096

/**
 * Who has connected to the forwarder, and to which of its addresses. Both are `undefined` where the forwarder does not
 * say so (`LOCAL`, `UNSPEC`), or tells of something else than TCP over IP.
 *
 * @category models
 * @since 0.1.0
 */
export interface Header {
  readonly source: NetAddress.InetAddress | undefined
  readonly destination: NetAddress.InetAddress | undefined
}

/**
 * What came of the bytes received so far: not enough yet; a header, and how many bytes it took; or what is no header
 * that can be taken, whatever comes next.
 *
 * @category models
 * @since 0.1.0
 */
export type Decoded =
  | { readonly _tag: "Incomplete" }
  | { readonly _tag: "Complete"; readonly value: Header; readonly length: number }
  | { readonly _tag: "Invalid"; readonly detail: string }

const incomplete: Decoded = { _tag: "Incomplete" }
const invalid = (detail: string): Decoded => ({ _tag: "Invalid", detail })

const unknown: Header = { source: undefined, destination: undefined }

/** Signature, version and command, family and transport, length of the rest. */
const fixedLength = 16

const local = 0x20
const proxy = 0x21

const unspecified = 0x00
const tcpOverIpv4 = 0x11
const tcpOverIpv6 = 0x21

/** How long the addresses are: of TCP and UDP over IPv4 and IPv6, and of sockets in the file system. */
const addressesLengths: ReadonlyMap<number, number> = new Map([
  [unspecified, 0],
  [tcpOverIpv4, 12],
  [0x12, 12],
  [tcpOverIpv6, 36],
  [0x22, 36],
  [0x31, 216],
  [0x32, 216]
])

const startsLikeSignature = (bytes: Uint8Array): boolean =>
  signature.every((byte, index) => index >= bytes.length || bytes[index] === byte)

const addressAt = (bytes: Uint8Array, offset: number, length: number): NetAddress.IpAddress =>
  length === 4
    ? NetAddress.ipv4FromBytesUnsafe(bytes.slice(offset, offset + 4))
    : NetAddress.ipv6FromBytesUnsafe(bytes.slice(offset, offset + 16))

/** Source and destination, then the ports of both. */
const readAddresses = (bytes: Uint8Array, length: number): Header => {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  const at = (index: number): NetAddress.InetAddress => {
    const address = addressAt(bytes, fixedLength + index * length, length)
    const port = view.getUint16(fixedLength + 2 * length + 2 * index)
    return NetAddress.toCanonical(NetAddress.inetAddressUnsafe(address, port))
  }
  return { source: at(0), destination: at(1) }
}

/**
 * Reads a header from everything received so far. It needs at most `maximumBytes`, and says as early as it can that
 * these bytes will never be a header.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decode = (bytes: Uint8Array): Decoded => {
  if (!startsLikeSignature(bytes)) return invalid("it does not begin with the signature")
  const [command, family] = [bytes[12], bytes[13]]
  if (command !== undefined && command !== local && command !== proxy) return invalid("an unknown version or command")
  // Of a connection of the forwarder's own nothing else counts.
  const addressesLength = command === local ? 0 : addressesLengths.get(family ?? unspecified)
  if (addressesLength === undefined) return invalid("an unknown family or transport")
  if (bytes.length < fixedLength) return incomplete
  const announced = new DataView(bytes.buffer, bytes.byteOffset, bytes.length).getUint16(fixedLength - 2)
  const length = fixedLength + announced
  if (announced < addressesLength) return invalid("too short for its addresses")
  if (length > maximumBytes) return invalid(`longer than ${maximumBytes} bytes`)
  if (bytes.length < length) return incomplete
  const isTcp = command === proxy && (family === tcpOverIpv4 || family === tcpOverIpv6)
  const value = isTcp ? readAddresses(bytes, family === tcpOverIpv4 ? 4 : 16) : unknown
  return { _tag: "Complete", value, length }
}

const octetsOf = (address: NetAddress.IpAddress, asIpv6: boolean): Uint8Array => {
  if (NetAddress.isIpv6Address(address)) return Uint8Array.from(NetAddress.ipv6ToOctets(address))
  return asIpv6
    ? Uint8Array.from(NetAddress.ipv6ToOctets(NetAddress.toIpv4Mapped(address)))
    : Uint8Array.from(NetAddress.ipv4ToOctets(address))
}

const fixed = (family: number, length: number): Uint8Array =>
  Bytes.concat([signature, Uint8Array.of(proxy, family), Bytes.uint16(length)])

/**
 * The bytes of a header, as a forwarder sends them before anything else. Where one of the addresses is IPv6, so is the
 * header, with the other one mapped.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encode = ({ destination, source }: Header): Uint8Array => {
  if (source === undefined || destination === undefined) return fixed(unspecified, 0)
  const ends = [source, destination]
  const asIpv6 = ends.some(({ address }) => NetAddress.isIpv6Address(address))
  const body = Bytes.concat([
    ...ends.map(({ address }) => octetsOf(address, asIpv6)),
    ...ends.map(({ port }) => Bytes.uint16(port))
  ])
  return Bytes.concat([fixed(asIpv6 ? tcpOverIpv6 : tcpOverIpv4, body.length), body])
}
