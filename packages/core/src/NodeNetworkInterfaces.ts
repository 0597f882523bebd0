/**
 * Network interfaces as Node sees them.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as IpInterface from "effect/net/IpInterface"
import * as Result from "effect/Result"
import * as Os from "node:os"
import * as NetworkInterfaces from "./NetworkInterfaces.ts"

const addressesOf = (infos: ReadonlyArray<Os.NetworkInterfaceInfo>): ReadonlyArray<IpInterface.IpInterface> =>
  infos.flatMap((info) => {
    const parsed = IpInterface.fromString(info.cidr ?? "")
    return Result.isSuccess(parsed) ? [parsed.success] : []
  })

// Some systems (Android) refuse the question by throwing; that is a host without known addresses.
const read = Effect.try({ try: Os.networkInterfaces, catch: () => undefined }).pipe(
  Effect.orElseSucceed((): NodeJS.Dict<Array<Os.NetworkInterfaceInfo>> => ({}))
)

/**
 * The interfaces of this host.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<NetworkInterfaces.NetworkInterfaces> = Layer.succeed(
  NetworkInterfaces.NetworkInterfaces,
  {
    list: Effect.map(read, (byName) =>
      Object.entries(byName).map(([name, infos = []]) => ({
        name,
        isLoopback: infos.some((info) => info.internal),
        addresses: addressesOf(infos)
      }))
    )
  }
)
