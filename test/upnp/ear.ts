/**
 * A network in memory whose devices also announce themselves: what is said to the group, and who listens.
 */
import * as Udp from "@effect-nat/core/Udp"
import * as Ssdp from "@effect-nat/upnp/Ssdp"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Queue from "effect/Queue"
import * as DatagramSocket from "effect/socket/DatagramSocket"
import * as Network from "./network.ts"

type NotifyFields = ConstructorParameters<typeof Ssdp.Notify>[0]

export type Said = Partial<NotifyFields> & Pick<NotifyFields, "kind">

/** An announcement of a gateway, as it goes onto the wire. */
export const encode = (said: Said): Uint8Array =>
  Ssdp.encode(
    new Ssdp.Notify({
      notificationType: "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
      usn: "uuid:11111111-0000-4000-8000-000000000001::urn:schemas-upnp-org:device:InternetGatewayDevice:1",
      location: said.kind === "byebye" ? undefined : "http://192.168.1.1:5000/desc.xml",
      server: "",
      maxAge: said.kind === "alive" ? 1800 : undefined,
      bootId: 1,
      nextBootId: undefined,
      configId: 1,
      ...said
    })
  )

export interface Ear {
  readonly layer: Network.Network["layer"]
  /** A host says something to the group. */
  readonly say: (address: string, payload: Uint8Array) => void
  readonly notify: (address: string, said: Said) => void
  /** The own addresses on which the group is joined. */
  readonly joined: () => ReadonlyArray<string>
  /** How the sockets on the announcements' port were opened. */
  readonly opened: () => ReadonlyArray<Udp.OpenOptions>
  /** All that are open, those that search as well. */
  readonly openSockets: () => number
  /** Every socket on the announcements' port fails. */
  readonly break: (error: DatagramSocket.DatagramSocketError) => void
}

type Inbox = Queue.Queue<DatagramSocket.Datagram, DatagramSocket.DatagramSocketError>

const openError = (kind: "AddressInUse" | "AddressNotAvailable") =>
  new DatagramSocket.DatagramSocketError({
    reason: new DatagramSocket.DatagramSocketOpenError({ kind, cause: new Error("E") })
  })

export const make = (
  network: Network.Network,
  options: { readonly cannotJoin?: ReadonlyArray<string>; readonly cannotBind?: ReadonlyArray<string> } = {}
): Ear => {
  const inboxes = new Set<Inbox>()
  const joined: Array<string> = []
  const opened: Array<Udp.OpenOptions> = []

  const openShared = Effect.fnUntraced(function* (open: Udp.OpenOptions) {
    opened.push(open)
    const address = open.bind?.address
    const isForbidden = options.cannotBind?.includes(address === undefined ? "any" : NetAddress.formatIp(address))
    if (isForbidden === true) return yield* openError("AddressInUse")
    const inbox = yield* Effect.acquireRelease(
      Effect.tap(Queue.unbounded<DatagramSocket.Datagram, DatagramSocket.DatagramSocketError>(), (inbox) =>
        Effect.sync(() => inboxes.add(inbox))
      ),
      (inbox) =>
        Effect.andThen(
          Effect.sync(() => inboxes.delete(inbox)),
          Queue.shutdown(inbox)
        )
    )
    const socket: Udp.UdpSocket = {
      address: NetAddress.inetAddressUnsafe(address ?? NetAddress.ipv4Unspecified, Ssdp.port),
      receive: Queue.takeAll(inbox),
      send: () => Effect.void,
      joinMulticast: (_group, onInterface) =>
        Effect.suspend(() => {
          const own = typeof onInterface === "object" ? NetAddress.formatIp(onInterface) : "any"
          if (options.cannotJoin?.includes(own) === true) return Effect.fail(openError("AddressNotAvailable"))
          return Effect.acquireRelease(
            Effect.sync(() => void joined.push(own)),
            () => Effect.sync(() => void joined.splice(joined.indexOf(own), 1))
          )
        })
    }
    return socket
  })

  const layer = Layer.merge(
    network.layer,
    Layer.effect(
      Udp.Udp,
      Effect.map(Udp.Udp, (udp) => ({
        open: (open) => (open.bind?.port === Ssdp.port ? openShared(open) : udp.open(open))
      }))
    ).pipe(Layer.provide(network.layer))
  )

  const say = (address: string, payload: Uint8Array) => {
    const from = NetAddress.inetAddressUnsafe(Network.ip(address), Ssdp.port)
    for (const inbox of inboxes) Queue.offerUnsafe(inbox, { payload, address: from })
  }

  return {
    layer,
    say,
    notify: (address, said) => say(address, encode(said)),
    joined: () => [...joined],
    opened: () => opened,
    openSockets: () => network.openSockets() + inboxes.size,
    break: (error) => {
      for (const inbox of inboxes) Queue.failCauseUnsafe(inbox, Cause.fail(error))
    }
  }
}
