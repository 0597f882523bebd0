/**
 * One world: its network is built from the plan, the plan's events happen in it, and the judge watches.
 */
import * as Ledger from "@effect-nat/core/Ledger"
import type * as MappingRequest from "@effect-nat/core/MappingRequest"
import type * as NatError from "@effect-nat/core/NatError"
import * as PortMapper from "@effect-nat/core/PortMapper"
import type * as PortMapping from "@effect-nat/core/PortMapping"
import * as NatPmp from "@effect-nat/natpmp/NatPmp"
import * as NatPmpCodec from "@effect-nat/natpmp/NatPmpCodec"
import * as Pcp from "@effect-nat/natpmp/Pcp"
import * as PcpClient from "@effect-nat/natpmp/PcpClient"
import * as PcpCodec from "@effect-nat/natpmp/PcpCodec"
import * as RouterModel from "@effect-nat/testing/RouterModel"
import * as SimulatedDevice from "@effect-nat/testing/SimulatedDevice"
import * as SimulatedNetwork from "@effect-nat/testing/SimulatedNetwork"
import type * as UpnpResponder from "@effect-nat/testing/UpnpResponder"
import * as Ssdp from "@effect-nat/upnp/Ssdp"
import * as Upnp from "@effect-nat/upnp/Upnp"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Automatic from "effect-nat/Automatic"
import * as SeededRandom from "../../packages/testing/src/internal/seededRandom.ts"
import * as Expected from "./expected.ts"
import * as Judge from "./judge.ts"
import * as Ledgers from "./ledgers.ts"
import type * as Plan from "./plan.ts"
import * as Wire from "./wire.ts"

/** What a world came to. */
export interface Outcome {
  readonly plan: Plan.Plan
  readonly violations: ReadonlyArray<Judge.Violation>
  readonly fingerprint: string
  /** What really happened of what the plan has. */
  readonly happened: ReadonlyArray<string>
  readonly trace: ReadonlyArray<string>
  /** The most datagrams and requests that one process sent within a second. */
  readonly busiest: number
}

const second = 1000
const samplesPerLease = 16

const ip = NetAddress.ipFromStringUnsafe
const format = NetAddress.formatIp

const layers: Record<Plan.Protocol, Layer.Layer<PortMapper.PortMapper, never, SimulatedNetwork.Seams>> = {
  natpmp: NatPmp.layer,
  pcp: Pcp.layer,
  upnp: Upnp.layer,
  automatic: Automatic.layer
}

/** A process that maps ports. */
export interface Program {
  readonly process: SimulatedNetwork.Process
  readonly mapper: PortMapper.PortMapper["Service"]
  readonly startedAt: number
  readonly sentAt: Array<number>
  foundAt: number | undefined
  hasAsked: boolean
  /** Whether it has mapped since this host last came into another network, or got another address. */
  hasMappedHere: boolean
  /** Only after that it knows which gateway is there, and what earlier ones have left on it. */
  hasMapped: boolean
  /** When it last said that a mapping may be left. */
  warnedAt: number | undefined
  /** It is being shut down: it begins nothing new. */
  isEnding: boolean
  /** How many releases are under way. */
  releasing: number
}

/** One wish for a mapping and what became of it. */
export interface Held {
  readonly index: number
  readonly wanted: Plan.Wanted
  program: Program
  scope: Scope.Closeable | undefined
  fiber: Fiber.Fiber<PortMapper.Mapping, NatError.NatError> | undefined
  mapping: PortMapper.Mapping | undefined
  heldSince: number
  error: NatError.NatError | undefined
  isWanted: boolean
  badSince: number | undefined
  goneSince: number | undefined
  /** What its stream of changes has told, the latest last. */
  told: Array<PortMapping.PortMapping>
  telling: Fiber.Fiber<void> | undefined
  /** When the lease ends that the router had when it was last looked at. */
  expiresAt: number | undefined
  /** The external port that it should keep. */
  firstPort: number | undefined
  /** The external port that it had last. */
  lastPort: number | undefined
  /** The external port of what may still be on the router: a confirmed release takes it away. */
  leftPort: number | undefined
  /** PCP's nonces in its life so far, by gateway and own address. */
  readonly nonces: Map<string, string>
  lostSince: number | undefined
  lastMapAt: number | undefined
  /** The last requests for it, within a minute. */
  readonly asked: Array<number>
  /** The same within ten minutes. */
  readonly counted: Array<number>
  /** Until when it cannot be had, since something is in its way or was. */
  barredUntil: number
  deletes: number
  /**
   * It was given up before it was held: what the request may have left is deleted, and once more a second later. What
   * nobody answers for is deleted again and again, too.
   */
  isAbandoned: boolean
  isReleasing: boolean
  /** When a release of it last began. */
  releasedAt: number
}

export class World {
  readonly judge: Judge.Judge = new Judge.Judge(this)
  readonly plan: Plan.Plan
  readonly network: SimulatedNetwork.SimulatedNetwork
  readonly violations: Array<Judge.Violation> = []
  readonly happened = new Set<string>()
  /** What is wrong with the link or the router now: it has happened when something is sent meanwhile. */
  readonly ongoing = new Set<Plan.Fault>()
  readonly random: SeededRandom.SeededRandom
  lan: SimulatedNetwork.Lan
  /** The same network, seen by IPv6. */
  lan6: SimulatedNetwork.Lan
  readonly baseLink: SimulatedNetwork.Link
  readonly host: SimulatedNetwork.Host
  readonly helds: ReadonlyArray<Held>
  readonly everyModel: Array<RouterModel.RouterModel> = []
  neighbour: SimulatedNetwork.Process | undefined = undefined
  readonly closing: Array<() => void> = []
  readonly ownAddresses = new Set<string>()
  readonly externalPorts = new Set<string>()
  /** The internal ends that anybody wishes mapped. */
  readonly wishes = new Set<string>()
  router: SimulatedNetwork.Router
  /** The same router at its IPv6 address. */
  face6: SimulatedNetwork.Router | undefined
  program: Program
  busiest = 0
  /** Until when something is wrong with the network; from then on it is healthy. */
  unhealthyUntil = Number.NEGATIVE_INFINITY
  /** When the router last fell silent. */
  silentSince = Number.NEGATIVE_INFINITY
  /** When the last attack ended, and when the last answer was found to be lost. */
  troubledAt = Number.NEGATIVE_INFINITY
  /** When the outside last got another address. */
  addressChangedAt = Number.NEGATIVE_INFINITY
  /** When the host's router last lost what it knew, or was replaced by one that knows nothing. */
  forgotAt = Number.NEGATIVE_INFINITY
  hasChangedRouter = false
  /** Whether the router has restarted, was replaced or has had another address, and whether its last address was the first. */
  hasChanged = false
  isFirstChange = false
  hasMoved = false
  mayLeavePermanent = false
  attacks: "garbage" | "forgery" | undefined = undefined
  isOver = false
  nextAddress = 2
  readonly #nonces: Effect.Effect<PcpCodec.Nonce>
  readonly #ledgers = new Ledgers.Ledgers()

  constructor(plan: Plan.Plan, keepsTrace: boolean) {
    this.plan = plan
    this.random = SeededRandom.make(plan.seed, "world")
    const nonces = SeededRandom.make(plan.seed, "nonces")
    this.#nonces = Effect.sync(() =>
      PcpCodec.nonceFromBytes(Uint8Array.from({ length: 12 }, () => nonces.between(0, 255)))
    )
    this.network = SimulatedNetwork.make({
      seed: plan.seed,
      keepsTrace,
      onLog: (entry) => this.judge.heard(entry),
      onSent: (sent) => this.#sent(sent)
    })
    this.lan = this.network.addLan({
      network: "192.168.77.0/24",
      link: { delay: [1, this.random.pick([2, 10, 40])] }
    })
    this.baseLink = this.lan.link
    this.lan6 = this.network.addLan({ network: `${prefix6("192.168.77")}/64`, link: this.baseLink })
    const quirk = plan.quirk
    const isFailover = quirk === "FailoverPair"
    this.router = this.#addRouter(isFailover ? "192.168.77.3" : "192.168.77.1")
    if (isFailover) {
      const dumb = new RouterModel.RouterModel({ address: ip("192.168.77.1") })
      this.network.addRouter({ lan: this.lan, model: dumb, devices: [] })
    }
    if (
      plan.topology === "doubleNat" &&
      plan.quirk !== "PrivateServiceFirst" &&
      this.router.model.externalAddress !== undefined
    ) {
      const outerLan = this.network.addLan({ network: "10.0.0.0/24" })
      const outer = new RouterModel.RouterModel({ address: ip("10.0.0.1") })
      this.network.addRouter({ lan: outerLan, model: outer, devices: [SimulatedDevice.natPmp(outer)] })
      this.router.model.changeExternalAddress(ip("10.0.0.2"))
    }
    if (plan.topology === "printerNearby") this.#addPrinter()
    this.host = this.network.addHost(this.#placement())
    if (plan.hasTakenPorts) for (const port of [1900, 5350, 5351]) this.host.takenPorts.add(port)
    if (plan.topology === "twoHosts") {
      const beside = { lan: this.lan6, address: `${this.#prefix}150` }
      const other = this.network.addHost({
        name: "other",
        attachments: [
          { lan: this.lan, address: Judge.neighbourAddress },
          ...(this.face6 === undefined ? [] : [beside])
        ],
        gateways: [this.router, ...(this.face6 === undefined ? [] : [this.face6])]
      })
      this.#startOther(other)
    }
    this.program = this.#startProgram()
    plan.wanted.forEach(({ internalPort, protocol }) => this.wishes.add(`${internalPort}/${protocol}`))
    this.helds = plan.wanted.map((wanted, index) => ({
      index,
      wanted,
      program: this.program,
      scope: undefined,
      fiber: undefined,
      mapping: undefined,
      heldSince: 0,
      error: undefined,
      isWanted: true,
      badSince: undefined,
      goneSince: undefined,
      told: [],
      telling: undefined,
      expiresAt: undefined,
      firstPort: undefined,
      lastPort: undefined,
      leftPort: undefined,
      nonces: new Map(),
      lostSince: undefined,
      lastMapAt: undefined,
      asked: [],
      counted: [],
      barredUntil: Number.NEGATIVE_INFINITY,
      deletes: 0,
      isAbandoned: false,
      isReleasing: false,
      releasedAt: Number.NEGATIVE_INFINITY
    }))
  }

  /** How often the judge looks at the mappings, in milliseconds. */
  get period(): number {
    return Math.max(second, this.longestWanted / samplesPerLease)
  }

  /** The longest lease that is wanted, in milliseconds. */
  get longestWanted(): number {
    return Math.max(...this.plan.wanted.map(({ lifetimeSeconds }) => lifetimeSeconds)) * second
  }

  get now(): number {
    return this.network.now
  }

  violate(invariant: Judge.Invariant, detail: string) {
    if (this.violations.some((known) => known.invariant === invariant)) return
    this.network.note(`VIOLATION ${invariant}: ${detail}`)
    this.violations.push({ invariant, at: this.now / second, detail })
    // What comes after it would be its consequence, and a flood would take for ever.
    if (Expected.nameOf(this.plan, invariant) === undefined) this.program?.process.kill()
  }

  /** Whether there is nothing left to see. */
  get isBroken(): boolean {
    return this.violations.some(({ invariant }) => Expected.nameOf(this.plan, invariant) === undefined)
  }

  isHealthy(since = this.now): boolean {
    return this.unhealthyUntil <= since
  }

  get hasLostAnswer(): boolean {
    return this.everyModel.some(({ lostAnswers }) => lostAnswers > 0)
  }

  #addRouter(address: string, options?: UpnpResponder.Options): SimulatedNetwork.Router {
    const model = new RouterModel.RouterModel({
      address: ip(address),
      name: `Router ${this.everyModel.length}`,
      maxLifetimeSeconds: this.plan.longestLease,
      quirks: this.plan.quirk === undefined ? [] : [this.plan.quirk],
      startedAt: this.now - this.random.between(0, 86_400) * second
    })
    if (this.plan.hasBystander) this.#addBystander(model)
    this.everyModel.push(model)
    const devices = SimulatedDevice.fromModel(model, this.plan.speaks, options).map((device) => this.#watched(device))
    const router = this.network.addRouter({ lan: this.lan, model, devices })
    if (this.plan.family === "ipv6") {
      const pcp = SimulatedDevice.fromModel(model, ["pcp"]).map((device) => this.#watched(device))
      this.face6 = this.network.addRouter({ lan: this.lan6, model, devices: pcp, address: `${this.#prefix}1` })
    }
    return router
  }

  /** What the addresses of this host's network begin with over IPv6. */
  get #prefix(): string {
    return prefix6(format(this.lan.network.address).split(".").slice(0, 3).join("."))
  }

  /** The face of the router that this world is about. */
  get gateway(): SimulatedNetwork.Router {
    return this.face6 ?? this.router
  }

  /** The judge hears answers; a port that the router chooses is as good as one that was asked for by its number. */
  #watched(device: SimulatedDevice.Device): SimulatedDevice.Device {
    const { onDatagram, onRequest } = device
    if (onDatagram !== undefined && onRequest === undefined) {
      return {
        ...device,
        onDatagram: (datagram) => {
          const answers = onDatagram(datagram)
          for (const { payload } of answers ?? []) this.judge.answered(datagram, payload)
          return answers
        }
      }
    }
    if (onRequest === undefined) return device
    return {
      ...device,
      onRequest: (request) => {
        const answer = onRequest(request)
        const chosen = typeof answer === "object" ? Wire.chosenPort(request.body, answer.body) : undefined
        if (chosen !== undefined) this.externalPorts.add(chosen)
        return answer
      }
    }
  }

  /** Somebody else's mapping, on the first port that we want. */
  #addBystander(model: RouterModel.RouterModel) {
    const first = this.plan.wanted[0]
    if (first === undefined) return
    model.map(this.now, {
      via: "mock",
      client: ip("192.168.77.200"),
      protocol: first.protocol,
      externalPort: first.externalPort,
      mayChoosePort: false,
      internalAddress: ip("192.168.77.200"),
      internalPort: 4000,
      lifetimeSeconds: 0,
      description: "somebody else"
    })
    this.judge.lookAtOthers(model)
  }

  #addPrinter() {
    this.network.addAppliance({
      lan: this.lan,
      address: "192.168.77.9",
      devices: [
        {
          onDatagram: ({ to }) =>
            to.port === Ssdp.port
              ? [
                  {
                    payload: searchAnswer("http://192.168.77.9:80/printer.xml", "upnp:rootdevice")
                  }
                ]
              : undefined,
          onRequest: ({ port }) =>
            port === 80
              ? { status: 200, headers: {}, body: new TextEncoder().encode("<root><device></device></root>") }
              : undefined
        }
      ]
    })
  }

  #placement(): SimulatedNetwork.Placement {
    const { quirk, topology } = this.plan
    const address = `192.168.77.${this.nextAddress}`
    this.ownAddresses.add(address)
    const gateways: Array<SimulatedNetwork.Router | NetAddress.IpAddress> = [
      quirk === "FailoverPair" ? ip("192.168.77.1") : this.router
    ]
    const attachments: Array<SimulatedNetwork.Attachment> = [{ lan: this.lan, address }, ...this.#attachment6()]
    if (this.face6 !== undefined) gateways.push(this.face6)
    const beside = (network: string, own: string, name: string) =>
      attachments.unshift({ lan: this.network.addLan({ network }), address: own, name })
    if (quirk === "DockerBridge") beside("172.17.0.0/16", "172.17.0.1", "docker0")
    if (quirk === "HostOnlyNetwork") beside("192.168.56.0/24", "192.168.56.1", "vboxnet0")
    if (quirk === "VpnInterface") {
      beside("10.8.0.0/24", "10.8.0.2", "tun0")
      gateways.push(ip("10.8.0.1"))
    }
    // Nobody is there, or somebody who takes everything and says nothing.
    if (topology === "twoGateways" || quirk === "DeadSecondGateway") gateways.push(ip("192.168.77.254"))
    return { attachments, gateways }
  }

  #attachment6(): ReadonlyArray<SimulatedNetwork.Attachment> {
    if (this.plan.family === "ipv4") return []
    const address = `${this.#prefix}${this.nextAddress}`
    this.ownAddresses.add(address)
    return [{ lan: this.lan6, address, name: "eth6" }]
  }

  /** Runs something in a process: whatever else it comes to, a defect is none of its results, nor of any fiber's in it. */
  fork<A, E>(process: SimulatedNetwork.Process, effect: Effect.Effect<A, E, SimulatedNetwork.Seams>) {
    const fiber = process.fork(
      effect.pipe(
        // Nobody waits for what most fibers come to.
        Effect.provideService(Metric.FiberRuntimeMetrics, this.#everyFiber),
        // Nobody can guess a nonce, and the seed decides everything here.
        Effect.provideService(PcpClient.NonceSource, this.#nonces)
      )
    )
    fiber.addObserver((exit) => this.#checkExit(exit))
    return fiber
  }

  readonly #everyFiber: Metric.FiberRuntimeMetricsService = {
    recordFiberStart: () => {},
    recordFiberEnd: (_, exit) => this.#checkExit(exit)
  }

  #checkExit(exit: Exit.Exit<unknown, unknown>) {
    if (Exit.isFailure(exit)) this.judge.checkDefect(exit.cause)
  }

  #startProgram(): Program {
    const process = this.host.start()
    const built = this.fork(
      process,
      Effect.flatMap(Scope.make(), (scope) => Layer.buildWithScope(layers[this.plan.protocol], scope)).pipe(
        Effect.provideServiceEffect(Ledger.Ledger, this.#ledgers.of(process))
      )
    )
    const exit = built.pollUnsafe()
    // No strategy waits for anything when its layer is built.
    if (exit === undefined || Exit.isFailure(exit)) throw new Error("the strategy's layer did not build at once")
    return {
      process,
      mapper: Context.get(exit.value, PortMapper.PortMapper),
      startedAt: this.now,
      sentAt: [],
      foundAt: undefined,
      hasAsked: false,
      hasMappedHere: false,
      hasMapped: false,
      warnedAt: undefined,
      isEnding: false,
      releasing: 0
    }
  }

  #startOther(host: SimulatedNetwork.Host) {
    const [wanted] = this.plan.wanted
    if (wanted === undefined) return
    this.ownAddresses.add(Judge.neighbourAddress)
    const { externalPort, internalPort, protocol } = wanted
    const process = host.start()
    this.neighbour = process
    const { family } = this.plan
    const mapping = PortMapper.PortMapper.use((mapper) =>
      mapper.map({ protocol, internalPort, externalPort, family, lifetime: `${wanted.lifetimeSeconds} seconds` })
    )
    const program = Effect.scoped(Effect.andThen(mapping, Effect.never)).pipe(
      Effect.provide(layers[this.plan.protocol])
    )
    this.network.after(this.random.between(0, 10_000), () => {
      const fiber = this.fork(process, program)
      this.closing.push(() => fiber.interruptUnsafe())
    })
  }

  // ---------------------------------------------------------------------------
  // What the user does
  // ---------------------------------------------------------------------------

  start(held: Held) {
    if (this.isOver || !held.isWanted || held.mapping !== undefined || held.fiber !== undefined) return
    const { program, wanted } = held
    if (!program.process.isRunning || program.isEnding) return
    this.happened.add("map")
    const scope = Effect.runSync(Scope.make())
    const request: MappingRequest.MappingRequest = {
      protocol: wanted.protocol,
      internalPort: wanted.internalPort,
      externalPort: wanted.externalPort,
      strictExternalPort: wanted.strictExternalPort,
      family: this.plan.family,
      lifetime: `${wanted.lifetimeSeconds} seconds`,
      description: `simulated ${held.index}`
    }
    // The request goes out at once.
    held.nonces.clear()
    this.#beginAnew(program)
    const { nextAddress } = this
    const fiber = this.fork(program.process, Scope.provide(program.mapper.map(request), scope))
    held.scope = scope
    held.fiber = fiber
    held.deletes = 0
    held.isAbandoned = false
    // It may have been unmapped while it was not held, and then been asked for again by whoever tries again.
    held.isReleasing = false
    held.telling = undefined
    held.lastMapAt = undefined
    fiber.addObserver((exit) => {
      if (held.fiber !== fiber) return
      held.fiber = undefined
      if (Exit.isSuccess(exit)) {
        held.mapping = exit.value
        held.heldSince = this.now
        held.badSince = undefined
        held.goneSince = undefined
        this.#listen(held, exit.value)
        program.hasMapped = true
        program.hasMappedHere ||= this.nextAddress === nextAddress
        held.lostSince = undefined
        held.expiresAt = undefined
        held.error = undefined
        program.foundAt ??= this.now
        this.network.note(`mapping ${held.index} is held`)
        this.judge.checkFirst(held)
        return
      }
      held.error = Cause.findErrorOption(exit.cause).pipe(Option.getOrUndefined)
      this.network.note(`mapping ${held.index} failed: ${held.error?.message ?? "interrupted"}`)
      // A person, or a supervisor, tries again.
      this.network.after(30 * second, () => this.start(held))
    })
  }

  /** The automatic strategy remembers what works by network and own address: elsewhere a request asks everybody anew. */
  #beginAnew(program: Program) {
    if (this.plan.protocol === "automatic" && !program.hasMappedHere) program.foundAt = undefined
  }

  /** Whether a mapping is lost, or on a gateway that this host has left: nothing answers to its deletion. */
  #isAstray({ gateway, status }: PortMapping.PortMapping): boolean {
    return status === "lost" || gateway === undefined || !Equal.equals(gateway, this.gateway.address)
  }

  #listen(held: Held, { changes }: PortMapper.Mapping) {
    const told: Array<PortMapping.PortMapping> = []
    held.told = told
    const telling = Stream.runForEach(changes, (one) => Effect.sync(() => told.push(one)))
    held.telling = this.fork(held.program.process, telling)
  }

  /** Ends a mapping through its handle or its scope, and looks at what is left. */
  stop(held: Held, byHandle: boolean) {
    const { fiber, mapping, program, scope, telling } = held
    if (scope === undefined || !program.process.isRunning) return
    const startedAt = this.now
    const last = mapping === undefined ? undefined : this.judge.currentOf(held)
    held.scope = undefined
    held.mapping = undefined
    held.fiber = undefined
    held.isReleasing = true
    held.releasedAt = startedAt
    held.isAbandoned = last === undefined || this.#isAstray(last)
    // What was left behind elsewhere is looked for, where the client can.
    if (last !== undefined && this.#isAstray(last)) program.foundAt = undefined
    held.lastPort = last?.externalPort ?? held.lastPort
    held.deletes = 0
    fiber?.interruptUnsafe()
    const close = Scope.close(scope, Exit.void)
    const ended: Effect.Effect<Exit.Exit<void, NatError.NatError>> =
      byHandle && mapping !== undefined
        ? Effect.flatMap(Effect.exit(mapping.release), (exit) => Effect.as(close, exit))
        : Effect.as(close, Exit.void)
    program.releasing += 1
    this.fork(program.process, ended).addObserver((exit) => {
      program.releasing -= 1
      if (Exit.isFailure(exit)) return
      if (Exit.isFailure(exit.value)) this.judge.checkDefect(exit.value.cause)
      const isConfirmed = Exit.isSuccess(exit.value) && (program.warnedAt ?? -1) < startedAt
      this.network.after(Judge.moment, () => this.judge.checkEnded(held, program, telling))
      this.network.note(`mapping ${held.index} is released${isConfirmed ? "" : ", unconfirmed"}`)
      if (isConfirmed) held.leftPort = undefined
      else this.mayLeavePermanent = true
      if (isConfirmed && last !== undefined) this.judge.checkReleased(held, last, startedAt)
    })
  }

  /** A request that is given up while it is under way. */
  interrupt() {
    const { program } = this
    if (!program.process.isRunning || program.isEnding) return
    const internalPort = 40_000 + this.random.between(0, 999)
    const startedAt = this.now
    this.wishes.add(`${internalPort}/udp`)
    this.#beginAnew(program)
    const request = Effect.scoped(
      Effect.andThen(
        program.mapper.map({ protocol: "udp", internalPort, family: this.plan.family, lifetime: "1 hour" }),
        Effect.never
      )
    )
    const fiber = this.fork(program.process, request)
    this.network.after(this.random.between(0, 150), () => {
      if (fiber.pollUnsafe() === undefined) this.happened.add("interrupt")
      fiber.interruptUnsafe()
    })
    this.network.after(25 * second, () => {
      if (
        !this.isHealthy(startedAt - 20 * second) ||
        !program.process.isRunning ||
        (program.warnedAt ?? -1) >= startedAt
      )
        return
      const left = Judge.rowsOf(this.router.model, this.now).find(
        (row) => row.internalPort === internalPort && this.ownAddresses.has(format(row.internalAddress))
      )
      if (left !== undefined && this.judge.isCalm && this.plan.quirk === undefined) {
        this.violate("release-leaves-nothing", `an interrupted request left ${Judge.describe(left)}`)
      }
    })
  }

  crash() {
    if (this.program.process.isRunning) this.happened.add("crash")
    this.program.process.kill()
    this.#mayLeave()
    const last = this.helds.at(-1)
    if (this.plan.dropsAfterCrash && last !== undefined && last.index > 0) last.isWanted = false
    this.network.after(this.random.between(500, 60_000), () => this.#resume())
  }

  /**
   * A process is gone without having cleared up. What was to have no end is found again by its ledger only where a
   * gateway is not another one by then; what was promised an end, and has none, must be gone after the next start.
   */
  #mayLeave() {
    if (this.plan.quirk !== "NeverForgets") this.mayLeavePermanent = true
  }

  restart() {
    if (this.program.process.isRunning) this.happened.add("restart")
    for (const held of this.helds) this.stop(held, false)
    const old = this.program
    old.isEnding = true
    this.network.after(10 * second, () => {
      if (old.releasing > 0) this.#mayLeave()
      old.process.kill()
      this.#resume()
    })
  }

  /** Nothing goes wrong any more. */
  heal() {
    this.lan.link = this.baseLink
    this.lan6.link = this.baseLink
    this.ongoing.clear()
    this.router.model.fill(this.now)
    this.#endAttack()
    if (this.router.model.isSilent(this.now)) this.router.model.wake()
    // A router that is about to come back does so within this time.
    this.unhealthyUntil = Math.min(this.unhealthyUntil, this.now + Judge.slack)
    this.#resume()
  }

  close() {
    this.isOver = true
    if (!this.program.hasMapped) this.mayLeavePermanent = true
    this.closing.forEach((close) => close())
    for (const held of this.helds) this.stop(held, false)
  }

  #resume() {
    if (this.isOver || this.program.process.isRunning) return
    this.program = this.#startProgram()
    for (const held of this.helds) {
      held.program = this.program
      held.scope = undefined
      held.mapping = undefined
      held.fiber = undefined
      held.isReleasing = false
      this.start(held)
    }
  }

  // ---------------------------------------------------------------------------
  // What goes wrong
  // ---------------------------------------------------------------------------

  trouble(lasts: number) {
    this.unhealthyUntil = Math.max(this.unhealthyUntil, this.now + lasts)
  }

  #linkTrouble(what: Plan.Fault, change: Partial<SimulatedNetwork.Link>, lasts: number) {
    const lans = [this.lan, this.lan6]
    this.trouble(lasts)
    this.ongoing.add(what)
    for (const lan of lans) lan.link = { ...lan.link, ...change }
    this.network.after(lasts, () => {
      for (const lan of lans) lan.link = this.baseLink
      this.ongoing.delete(what)
    })
  }

  #goSilent(model: RouterModel.RouterModel, lasts: number) {
    if (!model.isSilent(this.now)) this.silentSince = this.now
    model.goSilent(this.now + lasts)
  }

  #silence(lasts: number) {
    this.trouble(lasts)
    this.ongoing.add("silence")
    this.#goSilent(this.router.model, lasts)
    this.network.after(lasts, () => this.ongoing.delete("silence"))
  }

  #fill(lasts: number) {
    this.trouble(lasts)
    this.ongoing.add("full")
    this.router.model.fill(this.now + lasts)
    this.network.after(lasts, () => this.ongoing.delete("full"))
  }

  happen({ lasts, mapping, what }: Plan.Event) {
    if (this.isOver) return
    // What is right just before it may be wrong just after: that is not the same for longer.
    this.judge.sample()
    this.network.note(`event ${what}`)
    const held = this.helds[mapping]
    switch (what) {
      case "loss":
        return this.#linkTrouble(what, { loss: this.random.pick([0.1, 0.3, 0.6]) }, lasts)
      case "delay":
        return this.#linkTrouble(what, { delay: [50, this.random.pick([400, 3000])] }, lasts)
      case "duplication":
        return this.#linkTrouble(what, { duplication: 0.5 }, lasts)
      case "reordering":
        return this.#linkTrouble(what, { reordering: 0.5, overtaking: 2000 }, lasts)
      case "silence":
        return this.#silence(lasts)
      case "full":
        return this.#fill(lasts)
      case "reboot":
        return this.#reboot()
      case "addressChange":
        return this.#changeExternalAddress()
      case "routerReplaced":
        return this.#replaceRouter()
      case "lostAnswer":
        return this.router.model.loseNextAnswer()
      case "garbage":
      case "forgery":
        return this.#attack(what, lasts)
      case "map":
        return held === undefined ? undefined : this.start(held)
      case "unmap":
      case "unmapTwice":
        return held === undefined ? undefined : this.#unmapAndMapAgain(held, what)
      case "interrupt":
        return this.interrupt()
      case "crash":
        return this.crash()
      case "restart":
        return this.restart()
      case "networkChange":
        return this.#changeNetwork()
      case "addressRenewal":
        return this.#renewAddress()
      case "list":
      case "remove":
      case "askAddress":
        return this.#ask(what)
    }
  }

  /** The user asks, or has something of another's taken away, beside mapping. */
  #ask(what: Plan.Question) {
    const { program } = this
    if (!program.process.isRunning || program.isEnding) return
    this.happened.add(what)
    this.#beginAnew(program)
    // Where the best strategy cannot do it, another one is asked, which searches until it has found its gateway.
    if (this.plan.protocol === "automatic" && !program.hasAsked) program.foundAt = undefined
    if (what === "list") return this.#list(program)
    return what === "remove" ? this.#remove(program) : this.#askAddress(program)
  }

  /** Hears what an answer is; only in a calm world without quirks it has to be one, and true. */
  #hear<A>(
    program: Program,
    what: Plan.Question,
    question: Effect.Effect<A, NatError.NatError>,
    whatIsWrong: (answer: A) => string | undefined
  ) {
    this.fork(program.process, question).addObserver((exit) => {
      program.foundAt ??= this.now
      if (Exit.isSuccess(exit) && what !== "askAddress") program.hasAsked = true
      this.network.note(`the user is told ${Exit.isSuccess(exit) ? "an answer" : "that it failed"}`)
      if (!this.judge.isCalm || this.plan.quirk !== undefined) return
      const isOver = Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)
      // NAT-PMP cannot list or remove, and is one of those that are chosen from.
      if (isOver || (Exit.isFailure(exit) && this.plan.protocol !== "upnp")) return
      const wrong = Exit.isFailure(exit) ? Cause.pretty(exit.cause) : whatIsWrong(exit.value)
      if (wrong !== undefined) this.violate("answers-are-true", wrong)
    })
  }

  #list(program: Program) {
    const rows = () => this.router.model.entries(this.now).map((one) => `${one.externalPort}/${one.protocol}`)
    const before = rows()
    this.#hear(program, "list", Stream.runCollect(program.mapper.list), (listed) => {
      const keys = listed.map((one) => `${one.externalPort}/${one.protocol}`)
      const after = rows()
      const missing = before.filter((row) => after.includes(row) && !keys.includes(row))
      const invented = keys.filter((key) => !before.includes(key) && !after.includes(key))
      if (missing.length + invented.length === 0) return undefined
      return `the list is without ${missing.join()} and has ${invented.join()} in addition`
    })
  }

  /** Something of another host's, which nobody keeps alive. */
  #remove(program: Program) {
    const { model } = this.router
    const key = { protocol: "tcp", externalPort: 45_000 } as const
    const isIt = (one: RouterModel.Entry) => one.protocol === key.protocol && one.externalPort === key.externalPort
    const from = { via: "mock", client: ip(Judge.removedAddress), internalAddress: ip(Judge.removedAddress) } as const
    model.map(this.now, { ...from, ...key, mayChoosePort: false, internalPort: 4000, lifetimeSeconds: 0 })
    this.externalPorts.add(`${key.externalPort}/${key.protocol}`)
    this.#hear(program, "remove", program.mapper.remove(key), () =>
      model.entries(this.now).some(isIt) ? "what was removed is still there" : undefined
    )
  }

  #askAddress(program: Program) {
    this.#hear(program, "askAddress", program.mapper.externalAddress, (address) => {
      const told = this.router.model.externalAddress
      // An answer is good for half a minute.
      const isFresh = this.now - this.addressChangedAt < Judge.slack
      if (isFresh || told === undefined || Equal.equals(address, told)) return undefined
      return `the external address is said to be ${format(address)}, and is ${format(told)}`
    })
  }

  #unmapAndMapAgain(held: Held, what: "unmap" | "unmapTwice") {
    const { mapping, program } = held
    if (mapping !== undefined) this.happened.add(what)
    if (what === "unmapTwice" && mapping !== undefined) this.fork(program.process, mapping.release)
    this.stop(held, true)
    this.network.after(20 * second, () => {
      held.isReleasing = false
      this.start(held)
    })
  }

  #reboot() {
    const { model } = this.router
    const outage = this.random.between(5, 60) * second
    const before = this.judge.beforeRestart()
    this.trouble(outage)
    this.#goSilent(model, outage)
    this.hasChangedRouter = true
    this.hasChanged = true
    this.network.after(outage, () => {
      model.reboot(this.now)
      this.forgotAt = this.now
      this.happened.add("reboot")
      this.judge.expectRecovery(before)
      if (!this.plan.isBystanderQuick) return
      this.#addBystander(model)
      // What the release finds at its port is another's now.
      const [first] = this.helds
      if (this.plan.unmapsAtRestart && first !== undefined) this.#unmapAndMapAgain(first, "unmap")
    })
  }

  #changeExternalAddress() {
    this.happened.add("addressChange")
    this.isFirstChange = !this.hasChanged
    this.hasChanged = true
    this.addressChangedAt = this.now
    this.judge.epochChanged()
    this.router.model.changeExternalAddress(ip(`11.22.33.${this.random.between(2, 250)}`))
  }

  #replaceRouter() {
    const old = this.router
    const { lan } = this
    const outage = this.random.between(5, 60) * second
    this.trouble(outage)
    this.hasChangedRouter = true
    this.mayLeavePermanent = true
    this.network.remove(old)
    if (this.face6 !== undefined) this.network.remove(this.face6)
    this.network.after(outage, () => {
      // Somebody else may have done it, or the host has gone elsewhere.
      if (this.router !== old || this.lan !== lan) return
      // Another product has its description and its calls elsewhere.
      this.router = this.#addRouter(format(old.address), { httpPort: 5000 + 100 * this.everyModel.length })
      this.forgotAt = this.now
      this.hasChanged = true
      this.judge.epochChanged()
      this.happened.add("routerReplaced")
    })
  }

  #attack(kind: "garbage" | "forgery", lasts: number) {
    this.attacks = kind
    this.network.after(lasts, () => this.#endAttack())
  }

  #endAttack() {
    if (this.attacks !== undefined) this.troubledAt = this.now
    this.attacks = undefined
  }

  #changeNetwork() {
    const before = this.judge.beforeMove()
    this.happened.add("networkChange")
    this.forgotAt = this.now
    this.hasMoved = true
    this.program.hasMappedHere = false
    this.mayLeavePermanent = true
    this.trouble(second)
    this.lan = this.network.addLan({ network: "192.168.88.0/24", link: this.baseLink })
    this.lan6 = this.network.addLan({ network: `${this.#prefix}/64`, link: this.baseLink })
    this.nextAddress += 1
    this.router = this.#addRouter("192.168.88.1")
    const address = `192.168.88.${this.nextAddress}`
    this.ownAddresses.add(address)
    this.host.move({
      attachments: [{ lan: this.lan, address }, ...this.#attachment6()],
      gateways: [this.router, ...(this.face6 === undefined ? [] : [this.face6])]
    })
    this.judge.expectToFollow(before)
  }

  #renewAddress() {
    const before = this.judge.beforeMove()
    this.happened.add("addressRenewal")
    this.hasMoved = true
    this.program.hasMappedHere = false
    this.mayLeavePermanent = true
    this.nextAddress += 1
    // The second router of a failover pair is at the third address.
    if (this.plan.quirk === "FailoverPair" && this.nextAddress === 3) this.nextAddress += 1
    const address = `${format(this.router.address).split(".").slice(0, 3).join(".")}.${this.nextAddress}`
    this.ownAddresses.add(address)
    this.trouble(second)
    this.host.move({
      attachments: [{ lan: this.lan, address }, ...this.#attachment6()],
      gateways: [
        this.plan.quirk === "FailoverPair" && !format(this.router.address).startsWith("192.168.88")
          ? ip("192.168.77.1")
          : this.router,
        ...(this.face6 === undefined ? [] : [this.face6])
      ]
    })
    this.judge.expectToFollow(before)
  }

  // ---------------------------------------------------------------------------
  // Attacks
  // ---------------------------------------------------------------------------

  #sent(sent: SimulatedNetwork.Sent) {
    this.judge.sent(sent)
    if (sent.process !== this.program?.process) return
    this.ongoing.forEach((fault) => this.happened.add(fault))
    if (this.attacks !== undefined && sent.payload !== undefined) this.#inject(sent, sent.payload)
  }

  /** Datagrams that nobody asked for, in answer to one that the client has sent. */
  #inject(sent: SimulatedNetwork.Sent, asked: Uint8Array) {
    if (this.attacks === "garbage") return this.#injectGarbage(sent, asked)
    if (sent.to.port === Ssdp.port) return this.#forgeSearchAnswers(sent)
    if (sent.to.port !== NatPmpCodec.gatewayPort) return
    if (asked[0] === PcpCodec.version) this.#forgePcpAnswers(sent, asked)
    else this.#forgeAnswers(sent, asked)
  }

  #injectOne({ from }: SimulatedNetwork.Sent, payload: Uint8Array, source: NetAddress.InetAddress) {
    this.#injectTo(from, payload, source)
  }

  #injectTo(to: NetAddress.InetAddress, payload: Uint8Array, source: NetAddress.InetAddress) {
    if (this.attacks !== undefined) this.happened.add(this.attacks)
    this.network.inject({ host: this.host, payload, from: source, to, after: this.random.between(0, 3) })
  }

  #injectGarbage(sent: SimulatedNetwork.Sent, asked: Uint8Array) {
    const { to } = sent
    if (NetAddress.isMulticast(to.address)) return
    const length = this.random.between(0, 24)
    const bytes = Uint8Array.from({ length }, () => this.random.between(0, 255))
    if (to.port === 5351 && asked[0] === PcpCodec.version) return this.#injectPcpGarbage(sent, asked, bytes)
    // What looks like an answer at first and then is none.
    if (length > 1 && to.port === 5351 && this.random.chance(0.7)) bytes.set([0, 128 + (asked[1] ?? 0)])
    if (length > 3 && this.random.chance(0.7)) bytes.set([0, 0], 2)
    // An answer that is whole could not be told from a true one.
    this.#injectOne(sent, to.port === 5351 ? bytes.subarray(0, 11) : bytes, to)
  }

  /** What is no packet of PCP, whatever it begins like: too short, of no whole words, or with a broken option. */
  #injectPcpGarbage(sent: SimulatedNetwork.Sent, asked: Uint8Array, bytes: Uint8Array) {
    const [, opcode = 0] = asked
    const header = [PcpCodec.version, PcpCodec.responseBit + opcode, 0, this.random.pick([0, 0, 2, 8])]
    if (this.random.chance(0.7)) bytes.set(header.slice(0, bytes.length))
    const whole = new Uint8Array(asked)
    whole.set(header)
    this.#injectOne(sent, bytes.subarray(0, 23), sent.to)
    this.#injectOne(sent, Uint8Array.of(...whole, 1), sent.to)
    // The success of a MAP, and an option that is longer than the packet.
    whole[3] = 0
    this.#injectOne(sent, Uint8Array.of(...whole, 3, 0, 255, 255), sent.to)
    this.#injectTo(this.#ear(sent), bytes.subarray(0, 23), sent.to)
  }

  /** Where whoever sends this hears announcements. */
  #ear({ from }: SimulatedNetwork.Sent): NetAddress.InetAddress {
    return NetAddress.inetAddressUnsafe(from.address, PcpCodec.clientPort)
  }

  /** Whoever sees the question knows its nonce, and whoever does not may have the router's address: neither is it. */
  #forgePcpAnswers(sent: SimulatedNetwork.Sent, asked: Uint8Array) {
    const request = PcpCodec.decodeRequest(asked)
    if (Result.isFailure(request)) return
    const isIpv6 = NetAddress.isIpv6Address(sent.to.address)
    const stranger = NetAddress.inetAddressUnsafe(
      ip(isIpv6 ? `${this.#prefix}66` : strangerAddress),
      PcpCodec.serverPort
    )
    const announced = PcpCodec.encodeResponse({ _tag: "AnnounceResponse", epoch: 5, options: [] })
    this.#injectOne(sent, announced, stranger)
    this.#injectTo(this.#ear(sent), announced, stranger)
    if (request.success._tag !== "MapRequest") return
    const { internalPort, nonce, protocol } = request.success
    const forged = {
      _tag: "MapResponse",
      epoch: 5,
      nonce,
      protocol,
      internalPort,
      externalPort: Judge.forgedPort,
      externalAddress: isIpv6 ? Judge.forgedAddress6 : Judge.forgedAddress,
      lifetime: 7200,
      options: []
    } as const
    const others = PcpCodec.nonceFromBytes(Uint8Array.of(1))
    for (const to of [sent.from, this.#ear(sent)]) {
      this.#injectTo(to, PcpCodec.encodeResponse(forged), stranger)
      this.#injectTo(to, PcpCodec.encodeResponse({ ...forged, nonce: others }), sent.to)
      this.#injectTo(to, PcpCodec.encodeResponse({ ...forged, internalPort: internalPort ^ 1 }), sent.to)
      this.#injectTo(to, PcpCodec.encodeResponse({ ...forged, protocol: protocol === 6 ? 17 : 6 }), sent.to)
    }
    // "Ask me no more", says somebody else.
    const refusal = { resultCode: 2, lifetime: 1800, epoch: 5, isParsed: true }
    const refused = PcpCodec.encodeResponse(PcpCodec.refusalOf(asked, refusal))
    this.#injectOne(sent, refused, stranger)
    refused.set([1, 2, 3], 24)
    this.#injectOne(sent, refused, sent.to)
  }

  #forgeAnswers(sent: SimulatedNetwork.Sent, asked: Uint8Array) {
    const stranger = NetAddress.inetAddressUnsafe(ip(strangerAddress), 5351)
    const answer = { _tag: "ExternalAddressResponse", epoch: 5, externalAddress: Judge.forgedAddress } as const
    this.#injectOne(sent, NatPmpCodec.encodeResponse(answer), stranger)
    if (asked.length < 12) return
    const protocol = asked[1] === 1 ? "udp" : "tcp"
    const internalPort = (asked[4] ?? 0) * 256 + (asked[5] ?? 0)
    const forged = { _tag: "MapResponse", protocol, epoch: 5, externalPort: Judge.forgedPort, lifetime: 7200 } as const
    this.#injectOne(sent, NatPmpCodec.encodeResponse({ ...forged, internalPort }), stranger)
    // The router's answer to somebody else, or to an earlier question.
    this.#injectOne(sent, NatPmpCodec.encodeResponse({ ...forged, internalPort: internalPort ^ 1 }), sent.to)
  }

  /** A gateway that is not there, one that is described out in the world, one that answers from there, and a printer. */
  #forgeSearchAnswers(sent: SimulatedNetwork.Sent) {
    const forge = (source: NetAddress.IpAddress, location: string, device: string) =>
      this.#injectOne(sent, searchAnswer(location, device), NetAddress.inetAddressUnsafe(source, Ssdp.port))
    const gateway = "urn:schemas-upnp-org:device:InternetGatewayDevice:1"
    const world = `http://${format(Judge.forgedAddress)}:80/gateway.xml`
    forge(ip(strangerAddress), `http://${strangerAddress}:5000/gateway.xml`, gateway)
    forge(this.router.address, world, gateway)
    forge(Judge.forgedAddress, world, gateway)
    forge(ip(strangerAddress), `http://${strangerAddress}:80/printer.xml`, "upnp:rootdevice")
  }
}

const strangerAddress = "192.168.77.66"

/** The IPv6 network beside an IPv4 one. */
const prefix6 = (network: string): string => `2001:db8:${network.split(".")[2] ?? "0"}::`

const searchAnswer = (location: string, device: string): Uint8Array =>
  new TextEncoder().encode(
    `HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nEXT:\r\nLOCATION: ${location}\r\n` +
      `SERVER: Printer\r\nST: ${device}\r\nUSN: uuid:printer::${device}\r\n\r\n`
  )

/** Runs the world of a plan to its end. */
export const run = (plan: Plan.Plan, options: { readonly keepsTrace: boolean }): Outcome => {
  const world = new World(plan, options.keepsTrace)
  try {
    live(world)
  } catch (error) {
    world.violate("no-defect", error instanceof Error ? (error.stack ?? error.message) : String(error))
  }
  return {
    plan,
    violations: world.violations,
    fingerprint: world.network.fingerprint,
    happened: [...world.happened, ...(world.hasLostAnswer ? ["lostAnswer"] : [])],
    trace: world.network.trace,
    busiest: world.busiest
  }
}

const live = (world: World) => {
  const { longestWanted: lease, network, period, plan } = world
  world.helds.forEach((held) => network.after(world.random.between(0, 3000), () => world.start(held)))
  plan.events.forEach((event) => network.after(event.at, () => world.happen(event)))
  const watch = (until: number) => {
    if (world.isBroken) return
    while (network.now + period < until && !world.isBroken) {
      network.runUntil(network.now + period)
      world.judge.sample()
    }
    if (world.isBroken) return
    network.runUntil(until)
    world.judge.sample()
  }
  watch(plan.horizon)
  // Everything is mended, and then there is time to notice.
  world.heal()
  const settled = network.now + 0.6 * lease + Judge.longestPause + 3 * Judge.slack
  watch(settled)
  if (world.isBroken) return
  world.judge.checkAllMapped()
  world.close()
  network.runUntil(network.now + 40 * second)
  // Whatever a process that is gone could have left has run out by now.
  network.runUntil(network.now + Math.max(lease, 3600 * second) + Judge.slack)
  world.judge.checkNothingLeft()
}
