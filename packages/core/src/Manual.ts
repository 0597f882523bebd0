/**
 * The manual strategy: a person has forwarded the port on the router, and says which; no gateway is asked.
 *
 * It is the page's `TManualRouterConfig`. Its `externalIp: ''` means that the external address is not known: contact
 * points then have none, and say so.
 *
 * **Example** (A port forwarded by hand)
 *
 * ```ts
 * import * as Manual from "@effect-nat/core/Manual"
 *
 * export const strategy = Manual.layer({ externalAddress: "11.22.33.1", externalPort: 12001 })
 * ```
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Stream from "effect/Stream"
import type * as DefaultRoute from "./DefaultRoute.ts"
import { makeMapper, unsupported } from "./internal/withoutGateway.ts"
import * as NatError from "./NatError.ts"
import type * as NetworkInterfaces from "./NetworkInterfaces.ts"
import * as PortMapper from "./PortMapper.ts"
import type * as Udp from "./Udp.ts"

/**
 * What the person who forwarded the port knows.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** The address that the world sees. Defaults to `""`: not known. */
  readonly externalAddress?: string | undefined
  /** The forwarded port, for every request. Defaults to each request's own external port. */
  readonly externalPort?: number | undefined
}

const parseAddress = (text: string) =>
  text === ""
    ? Effect.undefined
    : Effect.fromResult(NetAddress.ipFromString(text)).pipe(
        Effect.filterOrFail((address) => !NetAddress.isUnspecified(address) && !NetAddress.isMulticast(address)),
        Effect.mapError(() =>
          NatError.fromReason(
            new NatError.InvalidRequest({
              detail: `the external address "${text}" is not the address of a host: write one like 11.22.33.1, or leave it empty where it is not known`
            })
          )
        )
      )

const checkPort = (port: number | undefined) =>
  port === undefined || (Number.isInteger(port) && port >= 1 && port <= 65535)
    ? Effect.succeed(port)
    : Effect.fail(
        NatError.fromReason(
          new NatError.InvalidRequest({
            detail: `the external port must be a whole number from 1 to 65535, not ${port}`
          })
        )
      )

/**
 * The strategy. Fails with `InvalidRequest` when the options make no sense; its `externalAddress` fails with
 * `NoExternalAddress` where none was given, and `list` and `remove` with `Unsupported`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options: Options = {}
): Layer.Layer<
  PortMapper.PortMapper,
  NatError.NatError,
  Udp.Udp | DefaultRoute.DefaultRoute | NetworkInterfaces.NetworkInterfaces
> =>
  Layer.effect(
    PortMapper.PortMapper,
    Effect.gen(function* () {
      const externalAddress = yield* parseAddress(options.externalAddress ?? "")
      const externalPort = yield* checkPort(options.externalPort)
      return yield* makeMapper(
        { method: "manual", externalAddress, externalPort: (request) => externalPort ?? request.externalPort },
        {
          externalAddress:
            externalAddress === undefined
              ? Effect.fail(
                  NatError.fromReason(
                    new NatError.NoExternalAddress({ detail: "none was given: give it with the manual strategy" })
                  )
                )
              : Effect.succeed(externalAddress),
          list: Stream.fail(unsupported("list mappings with the manual strategy", "it talks to no gateway"))
        }
      )
    })
  )
