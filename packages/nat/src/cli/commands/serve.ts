/**
 * `effect-nat serve`: the dispatcher on one mapped port; where there is no gateway, on this host's own network.
 */
import * as ContactPoint from "@effect-nat/core/ContactPoint"
import * as ContactPointResolver from "@effect-nat/core/ContactPointResolver"
import * as Lan from "@effect-nat/core/Lan"
import * as NatError from "@effect-nat/core/NatError"
import * as PortMapper from "@effect-nat/core/PortMapper"
import * as Dispatcher from "@effect-nat/dispatcher/Dispatcher"
import * as Invitation from "@effect-nat/dispatcher/Invitation"
import * as NodeDispatcher from "@effect-nat/dispatcher/NodeDispatcher"
import * as SessionId from "@effect-nat/core/SessionId"
import * as Cause from "effect/Cause"
import * as Console from "effect/Console"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as Automatic from "../../Automatic.ts"
import * as Fallback from "../../Fallback.ts"
import * as Hold from "../Hold.ts"
import * as Output from "../Output.ts"
import * as Strategy from "../Strategy.ts"

/** What the command was called with. */
export interface Input extends Strategy.Choice {
  readonly port: number
  readonly externalPort: number | undefined
  /** A session's id, or an invitation. */
  readonly session: string | undefined
  /** The port on loopback where the metrics are told. */
  readonly metricsPort: number | undefined
  readonly lease: Duration.Duration
  readonly description: string
  readonly json: boolean
}

const encodeContactPoint = Schema.encodeEffect(ContactPoint.ContactPoint)

const reasonOf = (cause: Cause.Cause<NatError.NatError>): string => {
  const error = Cause.findError(cause)
  return Result.isSuccess(error) ? NatError.brief(error.success) : "interrupted"
}

/** What one protocol's probe found. */
const printFinding =
  (asJson: boolean) =>
  ({ method, outcome }: Automatic.Finding) => {
    const gateway = Exit.isSuccess(outcome) ? outcome.value : undefined
    const detail = Exit.isSuccess(outcome) ? null : reasonOf(outcome.cause)
    if (asJson) {
      const address = gateway === undefined ? null : NetAddress.formatIp(gateway.address)
      return Output.json({ event: "probed", method, gateway: address, name: gateway?.name ?? null, detail })
    }
    if (gateway === undefined) return Console.log(`tried ${method}: ${detail}`)
    const name = Output.printable(gateway.name)
    const address = NetAddress.formatIp(gateway.address)
    return Console.log(`tried ${method}: ${address}${name === address ? "" : ` (${name})`} answered`)
  }

const printFallback = (asJson: boolean, { message, reason }: NatError.NatError) => {
  if (asJson) return Output.json({ event: "fallback", method: "lan", error: reason._tag, message })
  const why = reason._tag === "AutomationOff" ? "automation is switched off" : "no gateway answered"
  return Console.log(
    `${why}: serving this network only; forward the port by hand and use --strategy manual to serve the world`
  )
}

/** The strategy chosen, with this host's own network to fall back on. */
const layerMapper = (input: Input) =>
  Layer.effect(
    PortMapper.PortMapper,
    Effect.gen(function* () {
      const chosen = yield* PortMapper.PortMapper
      const lan = Context.get(yield* Layer.build(Lan.layer), PortMapper.PortMapper)
      return Fallback.whenNoGateway(chosen, lan, (error) => printFallback(input.json, error))
    })
  ).pipe(
    Layer.provideMerge(Strategy.layer(input)),
    // Where nobody is asked nothing is found.
    Layer.provide(input.noAutomation ? Layer.empty : Layer.succeed(Automatic.OnFinding, printFinding(input.json)))
  )

const printContactPoint = Effect.fnUntraced(function* (
  input: Input,
  invitation: Invitation.Invitation,
  contactPoint: ContactPoint.ContactPoint
) {
  const word = Invitation.format(invitation)
  if (!input.json) return yield* Console.log(`contact point: ${ContactPoint.format(contactPoint)}; invitation ${word}`)
  yield* Output.json({ event: "serving", contactPoint: yield* encodeContactPoint(contactPoint), invitation: word })
})

const sessionOf = (text: string | undefined): Dispatcher.RegisterOptions => {
  if (text === undefined) return {}
  return Result.getOrElse(Invitation.fromString(text), () => ({ sessionId: SessionId.SessionId.make(text) }))
}

const cannotTell = (port: number, cause: unknown) => {
  const isTaken = cause instanceof Error && "code" in cause && cause.code === "EADDRINUSE"
  const detail = `port ${port} for the metrics: ${cause instanceof Error ? cause.message : String(cause)}`
  return new Dispatcher.DispatcherError({
    reason: isTaken ? new Dispatcher.AddressInUse({ port }) : new Dispatcher.ListenFailed({ detail })
  })
}

/** Loaded only where it is wanted: an HTTP server takes a start its time. */
const serveMetrics = Effect.fnUntraced(function* (port: number) {
  const { layer } = yield* Effect.promise(() => import("../Metrics.ts"))
  yield* Effect.mapError(Layer.build(layer(port)), ({ cause }) => cannotTell(port, cause))
})

const requestOf = (input: Input) =>
  ({ protocol: "tcp", internalPort: input.port, externalPort: input.externalPort }) as const

/** Serves one session until it is interrupted. */
export const run = (input: Input) =>
  Effect.gen(function* () {
    if (input.metricsPort !== undefined) yield* serveMetrics(input.metricsPort)
    const released = yield* Hold.printReleaseAtEnd(input.json)
    const dispatcher = yield* Dispatcher.Dispatcher.pipe(
      Effect.provideContext(
        yield* Layer.build(
          NodeDispatcher.layer({
            port: input.port,
            externalPort: input.externalPort,
            lifetime: input.lease,
            description: input.description
          })
        ).pipe(Effect.tapErrorTag("NatError", (error) => Output.requestFailure(input.json, requestOf(input), error)))
      )
    )
    yield* released(dispatcher.mapping)
    const invitation = yield* dispatcher.register(sessionOf(input.session))
    const mapping = yield* dispatcher.mapping.current
    yield* Output.mappingEvent(input.json, "mapped", mapping)
    yield* Hold.warnOfOtherPort(input.externalPort ?? input.port, mapping)
    yield* Effect.all(
      [
        Hold.watch(input.json, dispatcher.mapping, mapping),
        Stream.runForEach(Stream.changes(dispatcher.changes), (contactPoint) =>
          printContactPoint(input, invitation, contactPoint)
        )
      ],
      { concurrency: "unbounded", discard: true }
    )
    return yield* Effect.never
  }).pipe(Effect.scoped, Effect.provide(ContactPointResolver.layer.pipe(Layer.provideMerge(layerMapper(input)))))
