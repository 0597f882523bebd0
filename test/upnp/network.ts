/**
 * A home network in memory: the seams that UPnP uses, and devices on the other side of them.
 */
import * as DefaultRoute from "@effect-nat/core/DefaultRoute"
import * as Http from "@effect-nat/core/Http"
import * as HttpListener from "@effect-nat/core/HttpListener"
import * as NetworkInterfaces from "@effect-nat/core/NetworkInterfaces"
import * as Udp from "@effect-nat/core/Udp"
import * as Ssdp from "@effect-nat/upnp/Ssdp"
import type * as UpnpDiscovery from "@effect-nat/upnp/UpnpDiscovery"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as IpInterface from "effect/net/IpInterface"
import * as NetAddress from "effect/net/NetAddress"
import * as Queue from "effect/Queue"
import * as Result from "effect/Result"
import type * as DatagramSocket from "effect/socket/DatagramSocket"

export const ip = NetAddress.ipFromStringUnsafe

/** This host. */
export const own = "192.168.1.2"
/** The default gateway. */
export const routerAddress = "192.168.1.1"

/** One search as a device hears it. */
export interface Heard {
  readonly searchTarget: string
  readonly unicast: boolean
}

/** An answer as it goes onto the wire. */
export interface Said {
  readonly payload: Uint8Array
  readonly after?: Duration.Input
  /** The port it comes from, 1900 otherwise. */
  readonly port?: number
}

export interface Device {
  readonly address: string
  readonly onSearch: (heard: Heard) => ReadonlyArray<Said>
  /** The ports it listens on. */
  readonly ports: () => ReadonlyArray<number>
  readonly onRequest: (request: Http.HttpRequest) => Effect.Effect<Http.HttpResponse, Http.HttpError>
}

export interface Network {
  readonly layer: Layer.Layer<Layer.Success<Layer.Layer<UpnpDiscovery.Network>>>
  /** Every search that was sent: from where, to where, for what. */
  readonly searches: ReadonlyArray<{ readonly from: string; readonly to: string; readonly searchTarget: string }>
  /** Every HTTP request that was made, as `METHOD host:port/path`. */
  readonly requests: ReadonlyArray<string>
  readonly openSockets: () => number
  /** Sends a datagram to everybody who listens for announcements. */
  readonly announce: (from: string, payload: Uint8Array) => void
  /** Gives the host another IPv6 address. */
  readonly moveTo6: (address: string) => void
  /** Gives the host another address. */
  readonly moveTo: (address: string) => void
}

const encoder = new TextEncoder()

export const bytes = (text: string): Uint8Array => encoder.encode(text)

export const respond = (status: number, body: string | Uint8Array): Http.HttpResponse => ({
  status,
  headers: {},
  body: typeof body === "string" ? bytes(body) : body,
  localAddress: ip(own)
})

export interface NetworkOptions {
  readonly devices: ReadonlyArray<Device>
  readonly interfaces?: ReadonlyArray<readonly [name: string, cidr: string]>
  readonly gateway?: string | undefined
  /** The IPv6 default gateway, and this host's IPv6 address; there is no IPv6 without them. */
  readonly gateway6?: string | undefined
  readonly own6?: string | undefined
  /** Refuses to listen by default. */
  readonly listener?: HttpListener.HttpListener["Service"]
}

const deaf: HttpListener.HttpListener["Service"] = {
  listen: () => Effect.fail(new HttpListener.HttpListenError({ detail: "nobody listens here" }))
}

const isLoopback = (cidr: string): boolean => cidr.startsWith("127.")

export const makeNetwork = (options: NetworkOptions): Network => {
  const searches: Array<Network["searches"][number]> = []
  const requests: Array<string> = []
  const ears = new Set<Queue.Queue<DatagramSocket.Datagram>>()
  let sockets = 0
  let ownNow = own
  let ownNow6 = options.own6
  const interfaces = options.interfaces ?? [
    ["lo", "127.0.0.1/8"],
    ["eth0", `${own}/24`]
  ]
  const gateway = "gateway" in options ? options.gateway : routerAddress

  const open = Effect.fnUntraced(function* (open: Udp.OpenOptions) {
    yield* Effect.acquireRelease(
      Effect.sync(() => sockets++),
      () => Effect.sync(() => sockets--)
    )
    const received = yield* Effect.acquireRelease(Queue.unbounded<DatagramSocket.Datagram>(), Queue.shutdown)
    if (open.bind?.port === Ssdp.port) {
      yield* Effect.acquireRelease(
        Effect.sync(() => ears.add(received)),
        () => Effect.sync(() => ears.delete(received))
      )
    }
    const scope = yield* Effect.scope
    const isIpv6 = open.connect !== undefined && NetAddress.isIpv6Address(open.connect.address)
    const towards = isIpv6 ? (ownNow6 ?? "::") : ownNow
    const from = open.bind?.address ?? ip(open.connect === undefined ? "0.0.0.0" : towards)
    const deliver = (device: Device, said: Said) =>
      Queue.offer(received, {
        payload: said.payload,
        address: NetAddress.inetAddressUnsafe(ip(device.address), said.port ?? Ssdp.port)
      }).pipe(Effect.delay(said.after ?? 0), Effect.forkIn(scope))
    const socket: Udp.UdpSocket = {
      address: NetAddress.inetAddressUnsafe(from, 50_000),
      receive: Queue.takeAll(received),
      send: Effect.fnUntraced(function* (payload, to) {
        const message = Result.getOrUndefined(Ssdp.decode(payload))
        if (to === undefined || message?._tag !== "SearchRequest") return
        const text = NetAddress.formatIp(to.address)
        const { searchTarget } = message
        searches.push({ from: NetAddress.formatIp(from), to: text, searchTarget })
        const unicast = text !== "239.255.255.250"
        for (const device of options.devices) {
          if (unicast && device.address !== text) continue
          yield* Effect.forEach(device.onSearch({ searchTarget, unicast }), (said) => deliver(device, said))
        }
      }),
      joinMulticast: () => Effect.void
    }
    return socket
  })

  const request = (request: Http.HttpRequest): Effect.Effect<Http.HttpResponse, Http.HttpError> =>
    Effect.suspend(() => {
      const host = NetAddress.formatIp(request.address.address)
      requests.push(`${request.method} ${NetAddress.formatInet(request.address)}${request.path}`)
      const device = options.devices.find((one) => one.address === host)
      if (device === undefined) {
        return Effect.fail(new Http.HttpError({ kind: "Unreachable", detail: "no such host" }))
      }
      if (!device.ports().includes(request.address.port)) {
        return Effect.fail(new Http.HttpError({ kind: "Refused", detail: "nothing listens" }))
      }
      const local = NetAddress.isIpv6Address(request.address.address) ? ownNow6 : undefined
      return Effect.flatMap(device.onRequest(request), (response) =>
        response.body.length > request.maxBytes
          ? Effect.fail(new Http.HttpError({ kind: "TooLarge", detail: `more than ${request.maxBytes} bytes` }))
          : Effect.succeed(local === undefined ? response : { ...response, localAddress: ip(local) })
      )
    })

  return {
    layer: Layer.mergeAll(
      Layer.succeed(Udp.Udp, { open }),
      Layer.succeed(Http.Http, { request }),
      Layer.succeed(HttpListener.HttpListener, options.listener ?? deaf),
      Layer.succeed(NetworkInterfaces.NetworkInterfaces, {
        list: Effect.succeed(
          interfaces.map(([name, cidr]) => ({
            name,
            isLoopback: isLoopback(cidr),
            addresses: [IpInterface.fromStringUnsafe(cidr)]
          }))
        )
      }),
      Layer.succeed(DefaultRoute.DefaultRoute, {
        routes: Effect.succeed(
          [gateway, options.gateway6].flatMap((one) =>
            one === undefined ? [] : [{ gateway: ip(one), interface: "eth0", metric: 0 }]
          )
        )
      })
    ),
    searches,
    requests,
    openSockets: () => sockets,
    announce: (from, payload) => {
      const address = NetAddress.inetAddressUnsafe(ip(from), Ssdp.port)
      ears.forEach((ear) => Queue.offerUnsafe(ear, { payload, address }))
    },
    moveTo6: (address) => {
      ownNow6 = address
    },
    moveTo: (address) => {
      ownNow = address
    }
  }
}
