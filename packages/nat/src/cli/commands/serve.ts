/**
 * `effect-nat serve`: the dispatcher on one mapped port; where there is no gateway, on this host's own network.
 */
import * as ContactPoint from "@effect-nat/core/ContactPoint"
import * as Announcer from "@effect-nat/core/Announcer"
import type * as Capability from "@effect-nat/core/Capability"
import * as ContactPointUri from "@effect-nat/core/ContactPointUri"
import * as ContactPointResolver from "@effect-nat/core/ContactPointResolver"
import * as Lan from "@effect-nat/core/Lan"
import * as NodeLedger from "@effect-nat/core/NodeLedger"
import * as Monotonic from "@effect-nat/core/Monotonic"
import * as NatError from "@effect-nat/core/NatError"
import * as PortMapper from "@effect-nat/core/PortMapper"
import * as Dispatcher from "@effect-nat/dispatcher/Dispatcher"
import * as DispatcherError from "@effect-nat/dispatcher/DispatcherError"
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
import * as Option from "effect/Option"
import * as Ref from "effect/Ref"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as Path from "node:path"
import * as Automatic from "../../Automatic.ts"
import * as Fallback from "../../Fallback.ts"
import { Failure } from "../Failure.ts"
import * as Flags from "../Flags.ts"
import * as Hold from "../Hold.ts"
import * as LiveTerminal from "../LiveTerminal.ts"
import * as LiveView from "../LiveView.ts"
import * as Output from "../Output.ts"
import * as Strategy from "../Strategy.ts"

/** What the command was called with. */
export interface Input extends Strategy.Choice {
  readonly port: number
  readonly externalPort: number | undefined
  /** A session's id, or an invitation. */
  readonly session: string | undefined
  /** The port on loopback where forwarded connections come in. */
  readonly forwarderPort: number | undefined
  /** The port on loopback where the metrics are told. */
  readonly metricsPort: number | undefined
  readonly lease: Duration.Duration
  readonly description: string
  readonly role: string
  readonly name: string
  readonly viewpoint: string | undefined
  /** Whether the contact point is kept off the local network. */
  readonly noBeacon: boolean
  /** Whether the local network is told what opens the session. */
  readonly beaconOpen: boolean
  /** Whether members come over TLS, by a certificate that is made where there is none. */
  readonly tls: boolean
  /** The files of a certificate that is given, and of its key. */
  readonly tlsCert: string | undefined
  readonly tlsKey: string | undefined
  /** Whether the dispatcher can be controlled from elsewhere, by those who are told how. */
  readonly control: boolean
  readonly plain: boolean
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

/** For a camera; loaded only where there is one to see it. */
const printQrCode = Effect.fnUntraced(function* (uri: string) {
  const QrCode = yield* Effect.promise(() => import("../QrCode.ts"))
  const { columns } = yield* LiveTerminal.size
  yield* Console.log(QrCode.lines(uri, columns).join("\n"))
})

/** What opens something. */
interface Secrets {
  readonly invitation: Invitation.Invitation
  readonly control: Capability.Capability | undefined
}

/** What opens the control of the dispatcher opens no session. */
const controlUri = (contactPoint: ContactPoint.ContactPoint, control: Capability.Capability): string =>
  ContactPointUri.format(ContactPoint.make({ ...contactPoint, sessions: [], control }))

/** What a controller may change to. */
const strategiesOf = (input: Input): Dispatcher.Strategies =>
  Object.fromEntries(
    Flags.strategies
      .filter((name) => !Strategy.isForbidden({ ...input, strategy: name }))
      .map((name) => {
        const externalAddress = name === "manual" ? input.externalAddress : ""
        const layer = Strategy.layer({ ...input, strategy: name, externalAddress })
        // What is wrong with the flags has been said at the start.
        return [
          name,
          layer.pipe(Layer.catchTag("Failure", (failure) => Layer.effect(PortMapper.PortMapper, Effect.die(failure))))
        ]
      })
  )

const printContactPoint = Effect.fnUntraced(function* (
  input: Input,
  { control, invitation }: Secrets,
  contactPoint: ContactPoint.ContactPoint,
  isLive: boolean
) {
  const word = Invitation.format(invitation)
  const uri = ContactPointUri.format(contactPoint)
  if (input.json) {
    const encoded = yield* encodeContactPoint(contactPoint)
    const controlled = control === undefined ? {} : { control: controlUri(contactPoint, control) }
    return yield* Output.json({ event: "serving", contactPoint: encoded, invitation: word, uri, ...controlled })
  }
  yield* Console.log(`contact point: ${ContactPoint.format(contactPoint)}; invitation ${word}`)
  yield* Console.log(`join by: effect-nat join ${uri}`)
  if (control !== undefined) {
    yield* Console.log(`control by: effect-nat remote ${controlUri(contactPoint, control)} info`)
  }
  if (isLive) yield* printQrCode(uri)
})

const sessionOf = (text: string | undefined): Dispatcher.RegisterOptions => {
  if (text === undefined) return {}
  return Option.getOrElse(Invitation.fromString(text), () => ({ sessionId: SessionId.SessionId.make(text) }))
}

const cannotTell = (port: number, cause: unknown) => {
  const isTaken = cause instanceof Error && "code" in cause && cause.code === "EADDRINUSE"
  const detail = `port ${port} for the metrics: ${cause instanceof Error ? cause.message : String(cause)}`
  return new DispatcherError.DispatcherError({
    reason: isTaken ? new DispatcherError.AddressInUse({ port }) : new DispatcherError.ListenFailed({ detail })
  })
}

/** Loaded only where it is wanted: an HTTP server takes a start its time. */
const serveMetrics = Effect.fnUntraced(function* (port: number) {
  const { layer } = yield* Effect.promise(() => import("../Metrics.ts"))
  yield* Effect.mapError(Layer.build(layer(port)), ({ cause }) => cannotTell(port, cause))
})

/** By which this network is told, for `effect-nat find`; none where it shall not be. */
const makeBeacon = Effect.fnUntraced(function* ({ beaconOpen, noAutomation, noBeacon }: Input) {
  if (noBeacon || noAutomation) return undefined
  const Beacon = yield* Effect.promise(() => import("@effect-nat/dispatcher/Beacon"))
  return yield* Beacon.make({ withCapabilities: beaconOpen })
})

const checkTls = ({ tls, tlsCert, tlsKey }: Input) => {
  const wrong = (message: string) => Effect.fail(new Failure({ status: 2, message }))
  if ((tlsCert === undefined) !== (tlsKey === undefined))
    return wrong("--tls-cert and --tls-key go together: name both")
  if (tls && tlsCert !== undefined) return wrong("--tls makes a certificate of its own: leave it out with --tls-cert")
  return Effect.void
}

const checkBeacon = ({ beaconOpen, noAutomation, noBeacon }: Input) =>
  beaconOpen && (noBeacon || noAutomation)
    ? Effect.fail(
        new Failure({
          status: 2,
          message: `${noBeacon ? "--no-beacon" : "--no-automation"} forbids --beacon-open: leave one of them out`
        })
      )
    : Effect.void

const requestOf = (input: Input) =>
  ({ protocol: "tcp", internalPort: input.port, externalPort: input.externalPort }) as const

/** Loaded only where it is wanted, as what makes certificates is heavy. */
const certificateOf = Effect.fnUntraced(function* ({ tls, tlsCert, tlsKey }: Input) {
  if (!tls && tlsCert === undefined) return undefined
  const NodeCertificate = yield* Effect.promise(() => import("@effect-nat/dispatcher/NodeCertificate"))
  return tlsCert !== undefined && tlsKey !== undefined
    ? yield* NodeCertificate.fromFiles({ certificate: tlsCert, key: tlsKey })
    : yield* NodeCertificate.selfSignedIn(Path.join(NodeLedger.directory(), "..", "certificate.pem"))
})

type Dispatching = Dispatcher.Dispatcher["Service"]

/** What the dispatcher is doing, as the live view wants it; each call is a reading. */
const makeStatus = Effect.fnUntraced(function* (dispatcher: Dispatching) {
  const known = yield* Ref.make<LiveView.MappingStatus | undefined>(undefined)
  return Effect.gen(function* () {
    const now = yield* Monotonic.millis
    const { bytesIn, bytesOut, connections, messages, sessions, ...current } = yield* dispatcher.status
    const mapping = LiveView.follow(yield* Ref.get(known), current.mapping, now)
    yield* Ref.set(known, mapping)
    const status: LiveView.Status = {
      now,
      contactPoint: ContactPoint.format(yield* dispatcher.contactPoint),
      mapping,
      connections,
      totals: { messages, bytesIn, bytesOut },
      sessions
    }
    return status
  })
})

const serve = Effect.fnUntraced(function* (input: Input, live: LiveTerminal.LiveTerminal | undefined) {
  if (input.metricsPort !== undefined) yield* serveMetrics(input.metricsPort)
  const released = yield* Hold.printReleaseAtEnd(input.json)
  const beacon = yield* makeBeacon(input)
  const dispatcher = yield* Dispatcher.Dispatcher.pipe(
    Effect.provideContext(
      yield* Layer.build(
        NodeDispatcher.layer({
          port: input.port,
          externalPort: input.externalPort,
          lifetime: input.lease,
          description: input.description,
          name: input.name,
          viewpoint: input.viewpoint,
          forwarder: input.forwarderPort === undefined ? undefined : { port: input.forwarderPort },
          tls: yield* certificateOf(input),
          strategies: input.control ? strategiesOf(input) : undefined
        }).pipe(
          // A controller may have its sessions announced, too.
          Layer.provide(beacon === undefined ? Layer.empty : Layer.succeed(Announcer.Announcer, beacon))
        )
      ).pipe(Effect.tapErrorTag("NatError", (error) => Output.requestFailure(input.json, requestOf(input), error)))
    )
  )
  yield* released(dispatcher.mapping)
  const invitation = yield* dispatcher.register({ ...sessionOf(input.session), role: input.role })
  const mapping = yield* dispatcher.mapping.current
  yield* Output.mappingEvent(input.json, "mapped", mapping)
  yield* Hold.warnOfOtherPort(input.externalPort ?? input.port, mapping)
  const control = input.control ? yield* dispatcher.grantControl("manage") : undefined
  if (beacon !== undefined) yield* beacon.announce(dispatcher.changes)
  yield* Effect.all(
    [
      Hold.watch(input.json, dispatcher.mapping, mapping),
      Stream.runForEach(dispatcher.changes, (one) =>
        printContactPoint(input, { invitation, control }, one, live !== undefined)
      ),
      live === undefined ? Effect.never : LiveTerminal.show(live, yield* makeStatus(dispatcher))
    ],
    { concurrency: "unbounded", discard: true }
  )
  return yield* Effect.never
}, Effect.scoped)

/** Serves one session until it is interrupted. */
export const run = Effect.fnUntraced(function* (input: Input) {
  yield* checkTls(input)
  yield* checkBeacon(input)
  const live = input.json || input.plain ? undefined : yield* LiveTerminal.take
  const layers = ContactPointResolver.layer.pipe(Layer.provideMerge(layerMapper(input)))
  const serving = Effect.provide(serve(input, live), layers)
  return yield* live === undefined ? serving : Effect.provideService(serving, Console.Console, live.console)
})
