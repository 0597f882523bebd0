/**
 * Parsers of what the operating systems print about their default routes. Pure, and content with any input: a line
 * that cannot be read is passed over.
 *
 * @since 0.1.0
 */
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type * as DefaultRoute from "../DefaultRoute.ts"

/** `RTF_UP | RTF_GATEWAY` of Linux's route.h. */
const upViaGateway = 0x0003
/** `RTF_REJECT`: packets for this route are refused. */
const rejected = 0x0200

const byMetric = (routes: Array<DefaultRoute.Route>): ReadonlyArray<DefaultRoute.Route> =>
  routes.sort((one, other) => one.metric - other.metric)

const usable = (flags: number): boolean => (flags & upViaGateway) === upViaGateway && (flags & rejected) === 0

const bytesOfHex = (hex: string): Uint8Array | undefined =>
  /^(?:[0-9a-f]{2})+$/i.test(hex)
    ? Uint8Array.from(hex.match(/../g) ?? [], (byte) => Number.parseInt(byte, 16))
    : undefined

const addressOf = (text: string): NetAddress.IpAddress | undefined => {
  // A link-local gateway is written with its interface (fe80::1%en0), which the route names anyway.
  const [address = ""] = text.split("%")
  const parsed = Result.getOrUndefined(NetAddress.ipFromString(address))
  return parsed === undefined || NetAddress.isUnspecified(parsed) ? undefined : parsed
}

/** `/proc/net/route`: hexadecimal IPv4 addresses in the host's own byte order. */
export const parseProcNetRoute = (text: string, endianness: "LE" | "BE" = "LE"): ReadonlyArray<DefaultRoute.Route> => {
  const routes: Array<DefaultRoute.Route> = []
  for (const line of text.split("\n").slice(1)) {
    const [name = "", destination, gateway = "", flags = "", , , metric = "", mask] = line.trim().split(/\s+/)
    const bytes = bytesOfHex(gateway)
    if (destination !== "00000000" || mask !== "00000000" || bytes?.length !== 4) continue
    if (!usable(Number.parseInt(flags, 16))) continue
    const address = NetAddress.ipv4FromBytesUnsafe(endianness === "LE" ? bytes.reverse() : bytes)
    if (NetAddress.isUnspecified(address)) continue
    routes.push({ gateway: address, interface: name, metric: Number.parseInt(metric, 10) || 0 })
  }
  return byMetric(routes)
}

/** `/proc/net/ipv6_route`: destination, prefix length, source, prefix length, next hop, metric, …, flags, interface. */
export const parseProcNetIpv6Route = (text: string): ReadonlyArray<DefaultRoute.Route> => {
  const routes: Array<DefaultRoute.Route> = []
  for (const line of text.split("\n")) {
    const fields = line.trim().split(/\s+/)
    const [destination = "", prefixLength, , , nextHop = "", metric = "", , , flags = "", name = ""] = fields
    const bytes = bytesOfHex(nextHop)
    if (!/^0{32}$/.test(destination) || prefixLength !== "00" || bytes?.length !== 16) continue
    if (!usable(Number.parseInt(flags, 16))) continue
    const gateway = NetAddress.ipv6FromBytesUnsafe(bytes)
    if (NetAddress.isUnspecified(gateway)) continue
    routes.push({ gateway, interface: name, metric: Number.parseInt(metric, 16) || 0 })
  }
  return byMetric(routes)
}

/** macOS: what `route -n get default` prints for one address family. */
export const parseRouteGet = (text: string): ReadonlyArray<DefaultRoute.Route> => {
  const field = (name: string) => new RegExp(`^[ \\t]*${name}:[ \\t]*(\\S+)`, "m").exec(text)?.[1]
  const gateway = addressOf(field("gateway") ?? "")
  if (gateway === undefined) return []
  return [{ gateway, interface: field("interface") ?? "", metric: 0 }]
}

const NetRoute = Schema.Struct({
  NextHop: Schema.String,
  InterfaceAlias: Schema.String,
  RouteMetric: Schema.Number,
  InterfaceMetric: Schema.optional(Schema.NullOr(Schema.Number))
})
const decodeJson = Schema.decodeUnknownResult(Schema.fromJsonString(Schema.Unknown))
const decodeNetRoute = Schema.decodeUnknownResult(NetRoute)

/** Windows: what `Get-NetRoute … | ConvertTo-Json` prints. */
export const parseNetRoute = (text: string): ReadonlyArray<DefaultRoute.Route> => {
  const json = decodeJson(text.trim())
  if (Result.isFailure(json)) return []
  // PowerShell prints a single object where the list has one element.
  const elements: ReadonlyArray<unknown> = Array.isArray(json.success) ? json.success : [json.success]
  return byMetric(
    elements.flatMap((element) => {
      const route = decodeNetRoute(element)
      if (Result.isFailure(route)) return []
      const { InterfaceAlias, InterfaceMetric, NextHop, RouteMetric } = route.success
      const gateway = addressOf(NextHop)
      if (gateway === undefined) return []
      return [{ gateway, interface: InterfaceAlias, metric: RouteMetric + (InterfaceMetric ?? 0) }]
    })
  )
}
