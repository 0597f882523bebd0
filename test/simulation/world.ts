/**
 * One world: its network is built from the plan, the plan's events happen in it, and the judge watches.
 */
import * as Ipv4Scope from "@effect-nat/core/Ipv4Scope"
import type * as MappingRequest from "@effect-nat/core/MappingRequest"
import type * as NatError from "@effect-nat/core/NatError"
import * as PortMapper from "@effect-nat/core/PortMapper"
import * as PortMapping from "@effect-nat/core/PortMapping"
import * as NatPmp from "@effect-nat/natpmp/NatPmp"
import * as NatPmpCodec from "@effect-nat/natpmp/NatPmpCodec"
import * as Quirk from "@effect-nat/testing/Quirk"
import * as RouterModel from "@effect-nat/testing/RouterModel"
import * as SimulatedDevice from "@effect-nat/testing/SimulatedDevice"
import * as SimulatedNetwork from "@effect-nat/testing/SimulatedNetwork"
import * as Ssdp from "@effect-nat/upnp/Ssdp"
import * as Upnp from "@effect-nat/upnp/Upnp"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Automatic from "effect-nat/Automatic"
import * as SeededRandom from "../../packages/testing/src/internal/seededRandom.ts"
import * as Expected from "./expected.ts"
import type * as Plan from "./plan.ts"
import * as Wire from "./wire.ts"

/** The names of what must hold; docs/simulation.md says what each means. */
export const invariants = [
  "no-defect",
  "maps-when-healthy",
  "live-or-lost",
  "recovers",
  "release-leaves-nothing",
  "nothing-left",
  "others-untouched",
  "one-renewal-loop",
  "no-delete-while-live",
  "one-delete",
  "no-flood",
  "one-search",
  "lease-as-asked",
  "deletes-what-was-mapped",
  "port-as-asked",
  "maps-what-was-asked",
  "changes-tell",
  "answers-are-true",
  "stays-inside"
] as const
export type Invariant = (typeof invariants)[number] | "same-trace"

export interface Violation {
  readonly invariant: Invariant
  /** In seconds of virtual time. */
  readonly at: number
  readonly detail: string
}

/** What a world came to. */
export interface Outcome {
  readonly plan: Plan.Plan
  readonly violations: ReadonlyArray<Violation>
  readonly fingerprint: string
  /** What really happened of what the plan has. */
  readonly happened: ReadonlyArray<string>
  readonly trace: ReadonlyArray<string>
  /** The most datagrams and requests that one process sent within a second. */
  readonly busiest: number
}

const second = 1000
/** What a request may take beyond its time: timeouts, a search, the freshness of an address. */
const slack = 60 * second
/** The longest pause between two attempts. */
const longestPause = 300 * second
/** A whole search at once is 58 datagrams a network; then descriptions and calls. */
const floodLimit = 150
/** What belongs together is over by then: a stream's end, say. */
const moment = 2 * second
/** Pauses grow from a second, a request is sent at most six times, and users ask again, too. */
const requestLimit = 80
const samplesPerLease = 16

const ip = NetAddress.ipFromStringUnsafe
const format = NetAddress.formatIp

const layerOf = (protocol: Plan.Protocol): Layer.Layer<PortMapper.PortMapper, never, SimulatedNetwork.Seams> =>
  protocol === "natpmp" ? NatPmp.layer : protocol === "upnp" ? Upnp.layer : Automatic.layer

/** A process that maps ports. */
interface Program {
  readonly process: SimulatedNetwork.Process
  readonly mapper: PortMapper.PortMapper["Service"]
  readonly startedAt: number
  readonly sentAt: Array<number>
  foundAt: number | undefined
  hasAsked: boolean
  /** When it last said that a mapping may be left. */
  warnedAt: number | undefined
  /** It is being shut down: it begins nothing new. */
  isEnding: boolean
  /** How many releases are under way. */
  releasing: number
}

/** One wish for a mapping and what became of it. */
interface Held {
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
  lostSince: number | undefined
  lastMapAt: number | undefined
  /** The last requests for it, within a minute. */
  readonly asked: Array<number>
  deletes: number
  /**
   * It was given up before it was held: what the request may have left is deleted, and once more a second later. What
   * nobody answers for is deleted again and again, too.
   */
  isAbandoned: boolean
  isReleasing: boolean
}

/** The rows of a router that are not this host's. */
interface Others {
  readonly bootId: number
  readonly at: number
  readonly rows: ReadonlyArray<RouterModel.Entry>
}

class World {
  readonly plan: Plan.Plan
  readonly network: SimulatedNetwork.SimulatedNetwork
  readonly violations: Array<Violation> = []
  readonly happened = new Set<string>()
  /** What is wrong with the link or the router now: it has happened when something is sent meanwhile. */
  readonly ongoing = new Set<Plan.Fault>()
  readonly random: SeededRandom.SeededRandom
  lan: SimulatedNetwork.Lan
  readonly baseLink: SimulatedNetwork.Link
  readonly host: SimulatedNetwork.Host
  readonly helds: ReadonlyArray<Held>
  readonly everyModel: Array<RouterModel.RouterModel> = []
  /** What others have mapped on each router, and since which of its starts, as it was when last looked at. */
  readonly others = new Map<RouterModel.RouterModel, Others>()
  neighbour: SimulatedNetwork.Process | undefined = undefined
  /** When the neighbour last deleted anything, which is its own affair. */
  neighbourDeletedAt = Number.NEGATIVE_INFINITY
  readonly closing: Array<() => void> = []
  readonly ownAddresses = new Set<string>()
  readonly externalPorts = new Set<string>()
  /** The internal ends that anybody wishes mapped. */
  readonly wishes = new Set<string>()
  router: SimulatedNetwork.Router
  program: Program
  busiest = 0
  /** Until when something is wrong with the network; from then on it is healthy. */
  unhealthyUntil = Number.NEGATIVE_INFINITY
  /** When the last attack ended, and when the last answer was found to be lost. */
  troubledAt = Number.NEGATIVE_INFINITY
  lostAnswers = 0
  addressChangedAt = Number.NEGATIVE_INFINITY
  hasChangedRouter = false
  hasMoved = false
  mayLeavePermanent = false
  attacks: "garbage" | "forgery" | undefined = undefined
  isOver = false
  nextAddress = 2

  constructor(plan: Plan.Plan, keepsTrace: boolean) {
    this.plan = plan
    this.random = SeededRandom.make(plan.seed, "world")
    this.network = SimulatedNetwork.make({
      seed: plan.seed,
      keepsTrace,
      onLog: (entry) => this.#heard(entry),
      onSent: (sent) => this.#sent(sent)
    })
    this.lan = this.network.addLan({
      network: "192.168.77.0/24",
      link: { delay: [1, this.random.pick([2, 10, 40])] }
    })
    this.baseLink = this.lan.link
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
      const other = this.network.addHost({
        name: "other",
        attachments: [{ lan: this.lan, address: neighbourAddress }],
        gateways: [this.router]
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
      lostSince: undefined,
      lastMapAt: undefined,
      asked: [],
      deletes: 0,
      isAbandoned: false,
      isReleasing: false
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

  violate(invariant: Invariant, detail: string) {
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

  /** When the last trouble was over: an outage, an attack, a lost answer, another router, a move. */
  get troubleEnd(): number {
    if (this.attacks !== undefined) return this.now
    const lostAnswers = this.everyModel.reduce((sum, model) => sum + model.lostAnswers, 0)
    if (lostAnswers > this.lostAnswers) this.troubledAt = this.now
    this.lostAnswers = lostAnswers
    return Math.max(this.unhealthyUntil, this.troubledAt)
  }

  /**
   * A calm world has the strictest invariants. Trouble is over when every attempt that it made fail has been repeated,
   * and what came of that has been renewed.
   */
  get isCalm(): boolean {
    return this.now - this.troubleEnd > Math.max(this.longestWanted, longestPause) + slack
  }

  #addRouter(address: string): SimulatedNetwork.Router {
    const model = new RouterModel.RouterModel({
      address: ip(address),
      name: `Router ${this.everyModel.length}`,
      maxLifetimeSeconds: this.plan.longestLease,
      quirks: this.plan.quirk === undefined ? [] : [this.plan.quirk],
      startedAt: this.now - this.random.between(0, 86_400) * second
    })
    if (this.plan.hasBystander) this.#addBystander(model)
    this.everyModel.push(model)
    return this.network.addRouter({ lan: this.lan, model, devices: SimulatedDevice.fromModel(model, this.plan.speaks) })
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
    this.#lookAtOthers(model)
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
    const attachments: Array<SimulatedNetwork.Attachment> = [{ lan: this.lan, address }]
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

  /** Runs something in a process: whatever else it comes to, a defect is none of its results. */
  #fork<A, E>(process: SimulatedNetwork.Process, effect: Effect.Effect<A, E, SimulatedNetwork.Seams>) {
    const fiber = process.fork(effect)
    fiber.addObserver((exit) => {
      if (Exit.isFailure(exit)) this.#checkDefect(exit.cause)
    })
    return fiber
  }

  #startProgram(): Program {
    const process = this.host.start()
    const built = process.fork(
      Effect.flatMap(Scope.make(), (scope) => Layer.buildWithScope(layerOf(this.plan.protocol), scope))
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
      warnedAt: undefined,
      isEnding: false,
      releasing: 0
    }
  }

  #startOther(host: SimulatedNetwork.Host) {
    const [wanted] = this.plan.wanted
    if (wanted === undefined) return
    this.ownAddresses.add(neighbourAddress)
    const { externalPort, internalPort, protocol } = wanted
    const process = host.start()
    this.neighbour = process
    const mapping = PortMapper.PortMapper.use((mapper) =>
      mapper.map({ protocol, internalPort, externalPort, lifetime: `${wanted.lifetimeSeconds} seconds` })
    )
    const program = Effect.scoped(Effect.andThen(mapping, Effect.never)).pipe(
      Effect.provide(layerOf(this.plan.protocol))
    )
    this.network.after(this.random.between(0, 10_000), () => {
      const fiber = this.#fork(process, program)
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
      lifetime: `${wanted.lifetimeSeconds} seconds`,
      description: `simulated ${held.index}`
    }
    const fiber = this.#fork(program.process, Scope.provide(program.mapper.map(request), scope))
    held.scope = scope
    held.fiber = fiber
    held.deletes = 0
    held.isAbandoned = false
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
        held.lostSince = undefined
        held.expiresAt = undefined
        held.error = undefined
        program.foundAt ??= this.now
        this.network.note(`mapping ${held.index} is held`)
        this.#checkFirst(held)
        return
      }
      held.error = Cause.findErrorOption(exit.cause).pipe(Option.getOrUndefined)
      this.network.note(`mapping ${held.index} failed: ${held.error?.message ?? "interrupted"}`)
      // A person, or a supervisor, tries again.
      this.network.after(30 * second, () => this.start(held))
    })
  }

  /** Whether a mapping is lost, or on a gateway that this host has left: nothing answers to its deletion. */
  #isAstray({ gateway, status }: PortMapping.PortMapping): boolean {
    return status === "lost" || gateway === undefined || !Equal.equals(gateway, this.router.model.address)
  }

  #listen(held: Held, { changes }: PortMapper.Mapping) {
    const told: Array<PortMapping.PortMapping> = []
    held.told = told
    const telling = Stream.runForEach(changes, (one) => Effect.sync(() => told.push(one)))
    held.telling = this.#fork(held.program.process, telling)
  }

  /** Ends a mapping through its handle or its scope, and looks at what is left. */
  stop(held: Held, byHandle: boolean) {
    const { fiber, mapping, program, scope, telling } = held
    if (scope === undefined || !program.process.isRunning) return
    const startedAt = this.now
    const last = mapping === undefined ? undefined : this.currentOf(held)
    held.scope = undefined
    held.mapping = undefined
    held.fiber = undefined
    held.isReleasing = true
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
    this.#fork(program.process, ended).addObserver((exit) => {
      program.releasing -= 1
      if (Exit.isFailure(exit)) return
      if (Exit.isFailure(exit.value)) this.#checkDefect(exit.value.cause)
      const isConfirmed = Exit.isSuccess(exit.value) && (program.warnedAt ?? -1) < startedAt
      this.network.after(moment, () => this.#checkEnded(held, program, telling))
      this.network.note(`mapping ${held.index} is released${isConfirmed ? "" : ", unconfirmed"}`)
      if (isConfirmed) held.leftPort = undefined
      else this.mayLeavePermanent = true
      if (isConfirmed && last !== undefined) this.#checkReleased(held, last, startedAt)
    })
  }

  /** A request that is given up while it is under way. */
  interrupt() {
    const { program } = this
    if (!program.process.isRunning || program.isEnding) return
    const internalPort = 40_000 + this.random.between(0, 999)
    const startedAt = this.now
    this.wishes.add(`${internalPort}/udp`)
    const request = Effect.scoped(
      Effect.andThen(program.mapper.map({ protocol: "udp", internalPort, lifetime: "1 hour" }), Effect.never)
    )
    const fiber = this.#fork(program.process, request)
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
      const left = this.router.model
        .entries(this.now)
        .find((entry) => entry.internalPort === internalPort && this.ownAddresses.has(format(entry.internalAddress)))
      if (left !== undefined && this.isCalm && this.plan.quirk === undefined) {
        this.violate("release-leaves-nothing", `an interrupted request left ${describe(left)}`)
      }
    })
  }

  crash() {
    if (this.program.process.isRunning) this.happened.add("crash")
    this.program.process.kill()
    this.mayLeavePermanent = true
    this.network.after(this.random.between(500, 60_000), () => this.#resume())
  }

  restart() {
    if (this.program.process.isRunning) this.happened.add("restart")
    for (const held of this.helds) this.stop(held, false)
    const old = this.program
    old.isEnding = true
    this.network.after(10 * second, () => {
      if (old.releasing > 0) this.mayLeavePermanent = true
      old.process.kill()
      this.#resume()
    })
  }

  /** Nothing goes wrong any more. */
  heal() {
    this.lan.link = this.baseLink
    this.ongoing.clear()
    this.#endAttack()
    if (this.router.model.isSilent(this.now)) this.router.model.wake()
    // A router that is about to come back does so within this time.
    this.unhealthyUntil = Math.min(this.unhealthyUntil, this.now + slack)
    this.#resume()
  }

  close() {
    this.isOver = true
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
    const { lan } = this
    const before = lan.link
    this.trouble(lasts)
    this.ongoing.add(what)
    lan.link = { ...before, ...change }
    this.network.after(lasts, () => {
      lan.link = this.baseLink
      this.ongoing.delete(what)
    })
  }

  #silence(lasts: number) {
    this.trouble(lasts)
    this.ongoing.add("silence")
    this.router.model.goSilent(this.now + lasts)
    this.network.after(lasts, () => this.ongoing.delete("silence"))
  }

  happen({ lasts, mapping, what }: Plan.Event) {
    if (this.isOver) return
    // What is right just before it may be wrong just after: that is not the same for longer.
    this.sample()
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
    this.#fork(program.process, question).addObserver((exit) => {
      program.foundAt ??= this.now
      if (Exit.isSuccess(exit) && what !== "askAddress") program.hasAsked = true
      this.network.note(`the user is told ${Exit.isSuccess(exit) ? "an answer" : "that it failed"}`)
      if (!this.isCalm || this.plan.quirk !== undefined) return
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
    const from = { via: "mock", client: ip(removedAddress), internalAddress: ip(removedAddress) } as const
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
      const isFresh = this.now - this.addressChangedAt < slack
      if (isFresh || told === undefined || Equal.equals(address, told)) return undefined
      return `the external address is said to be ${format(address)}, and is ${format(told)}`
    })
  }

  #unmapAndMapAgain(held: Held, what: "unmap" | "unmapTwice") {
    const { mapping, program } = held
    if (mapping !== undefined) this.happened.add(what)
    if (what === "unmapTwice" && mapping !== undefined) this.#fork(program.process, mapping.release)
    this.stop(held, true)
    this.network.after(20 * second, () => {
      held.isReleasing = false
      this.start(held)
    })
  }

  #reboot() {
    const { model } = this.router
    const outage = this.random.between(5, 60) * second
    this.trouble(outage)
    model.goSilent(this.now + outage)
    this.hasChangedRouter = true
    this.network.after(outage, () => {
      model.reboot(this.now)
      this.happened.add("reboot")
      if (this.plan.isBystanderQuick) this.#addBystander(model)
    })
  }

  #changeExternalAddress() {
    this.happened.add("addressChange")
    this.addressChangedAt = this.now
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
    this.network.after(outage, () => {
      // Somebody else may have done it, or the host has gone elsewhere.
      if (this.router !== old || this.lan !== lan) return
      this.router = this.#addRouter(format(old.address))
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
    this.happened.add("networkChange")
    this.hasMoved = true
    this.mayLeavePermanent = true
    this.trouble(second)
    this.lan = this.network.addLan({ network: "192.168.88.0/24", link: this.baseLink })
    this.nextAddress += 1
    this.router = this.#addRouter("192.168.88.1")
    const address = `192.168.88.${this.nextAddress}`
    this.ownAddresses.add(address)
    this.host.move({ attachments: [{ lan: this.lan, address }], gateways: [this.router] })
  }

  #renewAddress() {
    this.happened.add("addressRenewal")
    this.hasMoved = true
    this.mayLeavePermanent = true
    this.nextAddress += 1
    // The second router of a failover pair is at the third address.
    if (this.plan.quirk === "FailoverPair" && this.nextAddress === 3) this.nextAddress += 1
    const address = `${format(this.router.address).split(".").slice(0, 3).join(".")}.${this.nextAddress}`
    this.ownAddresses.add(address)
    this.trouble(second)
    this.host.move({
      attachments: [{ lan: this.lan, address }],
      gateways: [
        this.plan.quirk === "FailoverPair" && !format(this.router.address).startsWith("192.168.88")
          ? ip("192.168.77.1")
          : this.router
      ]
    })
  }

  // ---------------------------------------------------------------------------
  // What the judge hears and sees
  // ---------------------------------------------------------------------------

  #heard({ level, message, process }: SimulatedNetwork.LogEntry) {
    if (level === "Error" || level === "Fatal") this.violate("no-defect", message)
    if (level === "Warn" && message.includes("left on the gateway") && process === this.program?.process) {
      this.program.warnedAt = this.now
    }
  }

  #checkDefect(cause: Cause.Cause<unknown>) {
    if (cause.reasons.some(Cause.isDieReason)) this.violate("no-defect", Cause.pretty(cause))
  }

  #sent(sent: SimulatedNetwork.Sent) {
    if (sent.process === this.neighbour && Wire.read(sent).kind === "delete") this.neighbourDeletedAt = this.now
    if (sent.process !== this.program?.process) return
    const { program } = this
    this.ongoing.forEach((fault) => this.happened.add(fault))
    if (Ipv4Scope.isPublic(sent.to.address) && !NetAddress.isMulticast(sent.to.address)) {
      this.violate("stays-inside", `something is sent to ${format(sent.to.address)}`)
    }
    program.sentAt.push(this.now)
    while ((program.sentAt[0] ?? this.now) < this.now - second) program.sentAt.shift()
    if (program.sentAt.length > this.busiest) this.busiest = program.sentAt.length
    if (program.sentAt.length > floodLimit) this.violate("no-flood", `${program.sentAt.length} within a second`)
    if (this.attacks !== undefined && sent.payload !== undefined) this.#inject(sent, sent.payload)
    const said = Wire.read(sent)
    if (said.kind === "map") this.#sawMap(said.protocol, said.port, said.lease)
    if (said.kind === "delete") this.#sawDelete(said.protocol, said.port, sent.payload === undefined)
    if (said.kind === "search" || said.kind === "description") this.#sawSearch(said.kind)
    if (sent.request !== undefined) {
      const port = /<NewExternalPort>(\d+)</.exec(sent.request.body ?? "")?.[1]
      if (said.kind === "map" && port !== undefined) this.externalPorts.add(`${port}/${said.protocol}`)
    }
  }

  #heldFor(protocol: string, internalPort: number): Held | undefined {
    return this.helds.find(({ wanted }) => wanted.protocol === protocol && wanted.internalPort === internalPort)
  }

  #checkWish(protocol: string, internalPort: number) {
    const end = `${internalPort}/${protocol}`
    if (!this.wishes.has(end)) this.violate("maps-what-was-asked", `nobody asked for internal port ${end}`)
  }

  #sawMap(protocol: string, internalPort: number, lease: number) {
    this.#checkWish(protocol, internalPort)
    const held = this.#heldFor(protocol, internalPort)
    if (held === undefined || lease === 0) return
    if (lease > held.wanted.lifetimeSeconds) {
      this.violate("lease-as-asked", `${lease} s asked for where ${held.wanted.lifetimeSeconds} s were wanted`)
    }
    held.asked.push(this.now)
    while ((held.asked[0] ?? this.now) < this.now - 60 * second) held.asked.shift()
    if (held.asked.length > requestLimit) {
      this.violate("no-flood", `mapping ${held.index} is asked for ${held.asked.length} times within a minute`)
    }
    const previous = held.lastMapAt
    held.lastMapAt = this.now
    const isSteady =
      this.isCalm &&
      held.mapping !== undefined &&
      held.lostSince === undefined &&
      previous !== undefined &&
      previous >= held.heldSince
    const shortest = 0.4 * Math.min(held.wanted.lifetimeSeconds, this.plan.longestLease) * second
    if (isSteady && this.now - previous < shortest) {
      this.violate(
        "one-renewal-loop",
        `mapping ${held.index} is renewed again after ${(this.now - previous) / second} s`
      )
    }
  }

  #sawDelete(protocol: string, port: number, isCall: boolean) {
    if (!isCall) this.#checkWish(protocol, port)
    if (isCall && !this.externalPorts.has(`${port}/${protocol}`)) {
      this.violate("deletes-what-was-mapped", `external port ${port}/${protocol} was never asked for`)
    }
    const held = this.helds.find((one) => {
      const known = isCall ? (this.currentOf(one)?.externalPort ?? one.lastPort) : one.wanted.internalPort
      return one.wanted.protocol === protocol && known === port
    })
    if (held === undefined) return
    this.#checkNotLive(held)
    // What is given back while it is lost, for its port is not the one that it must be, is no release.
    if (held.isReleasing) held.deletes += 1
    if (this.isCalm && held.deletes > 1 && !held.isAbandoned) {
      this.violate("one-delete", `mapping ${held.index} is deleted ${held.deletes} times`)
    }
  }

  #checkNotLive(held: Held) {
    const mapping = this.currentOf(held)
    if (mapping === undefined || mapping.status === "lost") return
    // What leads to where this host no longer is helps nobody, and its port is wanted.
    if (!this.#isOwnAddress(mapping.internalAddress)) return
    // Over NAT-PMP a port that is not the one that it must be is given back, which can only be told by internal port.
    if (held.wanted.strictExternalPort && !this.isCalm) return
    this.violate("no-delete-while-live", `mapping ${held.index} is deleted while it is held`)
  }

  #isOwnAddress(address: NetAddress.IpAddress): boolean {
    return this.host.addresses.some((own) => Equal.equals(own, address))
  }

  #sawSearch(kind: string) {
    const { foundAt } = this.program
    if (foundAt === undefined || !this.isCalm || this.plan.quirk !== undefined) return
    if (this.now - foundAt > 5 * second && this.helds.every((held) => held.error === undefined)) {
      this.violate("one-search", `a ${kind} although the gateway has been known for ${(this.now - foundAt) / second} s`)
    }
  }

  /** Datagrams that nobody asked for, in answer to one that the client has sent. */
  #inject(sent: SimulatedNetwork.Sent, asked: Uint8Array) {
    if (this.attacks === "garbage") return this.#injectGarbage(sent, asked)
    if (sent.to.port === Ssdp.port) return this.#forgeSearchAnswers(sent)
    if (sent.to.port === NatPmpCodec.gatewayPort) this.#forgeAnswers(sent, asked)
  }

  #injectOne({ from }: SimulatedNetwork.Sent, payload: Uint8Array, source: NetAddress.InetAddress) {
    if (this.attacks !== undefined) this.happened.add(this.attacks)
    this.network.inject({ host: this.host, payload, from: source, to: from, after: this.random.between(0, 3) })
  }

  #injectGarbage(sent: SimulatedNetwork.Sent, asked: Uint8Array) {
    const { to } = sent
    if (NetAddress.isMulticast(to.address)) return
    const length = this.random.between(0, 24)
    const bytes = Uint8Array.from({ length }, () => this.random.between(0, 255))
    // What looks like an answer at first and then is none.
    if (length > 1 && to.port === 5351 && this.random.chance(0.7)) bytes.set([0, 128 + (asked[1] ?? 0)])
    if (length > 3 && this.random.chance(0.7)) bytes.set([0, 0], 2)
    // An answer that is whole could not be told from a true one.
    this.#injectOne(sent, to.port === 5351 ? bytes.subarray(0, 11) : bytes, to)
  }

  #forgeAnswers(sent: SimulatedNetwork.Sent, asked: Uint8Array) {
    const stranger = NetAddress.inetAddressUnsafe(ip(strangerAddress), 5351)
    const answer = { _tag: "ExternalAddressResponse", epoch: 5, externalAddress: forgedAddress } as const
    this.#injectOne(sent, NatPmpCodec.encodeResponse(answer), stranger)
    if (asked.length < 12) return
    const protocol = asked[1] === 1 ? "udp" : "tcp"
    const internalPort = (asked[4] ?? 0) * 256 + (asked[5] ?? 0)
    const forged = { _tag: "MapResponse", protocol, epoch: 5, externalPort: forgedPort, lifetime: 7200 } as const
    this.#injectOne(sent, NatPmpCodec.encodeResponse({ ...forged, internalPort }), stranger)
    // The router's answer to somebody else, or to an earlier question.
    this.#injectOne(sent, NatPmpCodec.encodeResponse({ ...forged, internalPort: internalPort ^ 1 }), sent.to)
  }

  /** A gateway that is not there, one that is described out in the world, one that answers from there, and a printer. */
  #forgeSearchAnswers(sent: SimulatedNetwork.Sent) {
    const forge = (source: NetAddress.IpAddress, location: string, device: string) =>
      this.#injectOne(sent, searchAnswer(location, device), NetAddress.inetAddressUnsafe(source, Ssdp.port))
    const gateway = "urn:schemas-upnp-org:device:InternetGatewayDevice:1"
    const world = `http://${format(forgedAddress)}:80/gateway.xml`
    forge(ip(strangerAddress), `http://${strangerAddress}:5000/gateway.xml`, gateway)
    forge(this.router.address, world, gateway)
    forge(forgedAddress, world, gateway)
    forge(ip(strangerAddress), `http://${strangerAddress}:80/printer.xml`, "upnp:rootdevice")
  }

  // ---------------------------------------------------------------------------
  // What must hold
  // ---------------------------------------------------------------------------

  currentOf(held: Held): PortMapping.PortMapping | undefined {
    if (held.mapping === undefined) return undefined
    const exit = this.#fork(held.program.process, held.mapping.current).pollUnsafe()
    return exit !== undefined && Exit.isSuccess(exit) ? exit.value : undefined
  }

  #leaseMillis(held: Held): number {
    return Math.min(held.wanted.lifetimeSeconds, this.plan.longestLease) * second
  }

  /** What is wrong with a mapping that is said to be in force. */
  #wrong(held: Held, mapping: PortMapping.PortMapping): string | undefined {
    if (mapping.externalPort === forgedPort) return "forged: the port is the forger's"
    if (mapping.externalAddress !== undefined && Equal.equals(mapping.externalAddress, forgedAddress)) {
      return "forged: the address is the forger's"
    }
    if (!this.#isOwnAddress(mapping.internalAddress)) {
      return `it leads to ${format(mapping.internalAddress)}, which is not this host's any more`
    }
    const { model } = this.router
    if (mapping.gateway === undefined || !Equal.equals(mapping.gateway, model.address))
      return "it is on another gateway"
    const entry = model
      .entries(this.now)
      .find((one) => one.protocol === held.wanted.protocol && one.externalPort === mapping.externalPort)
    if (entry === undefined) return "gone: the router does not have it"
    if (
      !Equal.equals(entry.internalAddress, mapping.internalAddress) ||
      entry.internalPort !== held.wanted.internalPort
    ) {
      return `the router leads it to ${format(entry.internalAddress)}:${entry.internalPort}`
    }
    const known = mapping.externalAddress
    const told = model.externalAddress
    if (told === undefined) return undefined
    if (known === undefined) {
      return NetAddress.isUnspecified(told) ? undefined : `it has no address, but the router has ${format(told)}`
    }
    if (!Equal.equals(known, told)) {
      return `its address is ${format(known)}, but the router has ${format(told)}`
    }
    return undefined
  }

  #expiryOf({ externalPort, protocol }: PortMapping.PortMapping): number | undefined {
    return this.router.model
      .entries(this.now)
      .find((one) => one.protocol === protocol && one.externalPort === externalPort)?.expiresAt
  }

  /** What others have mapped stays as it is until its lease ends, whatever this host does. */
  #lookAtOthers(model: RouterModel.RouterModel) {
    const { bootId } = model
    const entries = model.entries(this.now)
    const known = this.others.get(model)
    const isForgetful = model.has("LeasesVanishOvernight") || model.has("PermanentLeasesVanishOvernight")
    if (known?.bootId === bootId && !isForgetful) {
      for (const row of known.rows) this.#checkOther(model, row, known.at)
    }
    this.others.set(model, { bootId, at: this.now, rows: entries.filter((row) => this.#isAnothers(row)) })
  }

  #isAnothers({ internalAddress }: RouterModel.Entry): boolean {
    const address = format(internalAddress)
    return address !== removedAddress && (address === neighbourAddress || !this.ownAddresses.has(address))
  }

  #checkOther(model: RouterModel.RouterModel, row: RouterModel.Entry, seenAt: number) {
    if (row.expiresAt !== undefined && row.expiresAt <= this.now) return
    // What it sent before may have arrived since.
    if (format(row.internalAddress) === neighbourAddress && this.neighbourDeletedAt > seenAt - slack) return
    const now = model
      .entries(this.now)
      .find((one) => one.protocol === row.protocol && one.externalPort === row.externalPort)
    if (now !== undefined && describe(now) === describe(row)) return
    const what = now === undefined ? "deleted" : `led to ${format(now.internalAddress)}:${now.internalPort}`
    this.violate("others-untouched", `somebody else's ${describe(row)} on ${model.name} has been ${what}`)
  }

  /** Looks at every mapping that is held, and at those of others. */
  sample() {
    this.#lookAtOthers(this.router.model)
    for (const held of this.helds) {
      if (!held.program.process.isRunning) continue
      const mapping = this.currentOf(held)
      if (mapping === undefined) continue
      held.lastPort = mapping.externalPort
      held.leftPort = mapping.externalPort
      this.#checkTold(held, mapping)
      if (mapping.status === "lost") this.#sampleLost(held)
      else this.#sampleMapped(held, mapping)
    }
  }

  /** What a mapping says of itself is what it was asked for, and its changes have told it. */
  #checkTold({ index, told, wanted }: Held, mapping: PortMapping.PortMapping) {
    if (mapping.protocol !== wanted.protocol || mapping.internalPort !== wanted.internalPort) {
      const said = `${mapping.internalPort}/${mapping.protocol}`
      this.violate("maps-what-was-asked", `mapping ${index} is said to be one of internal port ${said}`)
    }
    const latest = told.at(-1)
    if (latest === undefined || !PortMapping.isSameContact(latest, mapping)) {
      const before = latest === undefined ? "nothing" : `${PortMapping.format(latest)}, ${latest.status}`
      const now = `${PortMapping.format(mapping)}, ${mapping.status}`
      this.violate("changes-tell", `mapping ${index} is ${now}, and its changes have told ${before} last`)
    }
    const twice = told.some((one, at) => {
      const next = told[at + 1]
      return next !== undefined && PortMapping.isSameContact(one, next)
    })
    if (twice) this.violate("changes-tell", `mapping ${index}: the same contact is told twice in a row`)
    told.splice(0, told.length - 1)
  }

  #checkEnded({ index }: Held, { process }: Program, telling: Fiber.Fiber<void> | undefined) {
    if (!process.isRunning || telling === undefined || telling.pollUnsafe() !== undefined) return
    this.violate("changes-tell", `the changes of mapping ${index} go on after its release`)
  }

  #sampleLost(held: Held) {
    held.badSince = undefined
    held.goneSince = undefined
    held.lostSince ??= this.now
    // The time counts from when it could be had, which may have been just before the next look.
    if (!this.expectsMapping(held)) held.lostSince = this.now + this.period
    if (this.attacks !== undefined) return
    const since = Math.max(held.lostSince, this.unhealthyUntil)
    if (this.now - since > longestPause + 2 * slack) {
      this.violate("recovers", `mapping ${held.index} is still lost ${(this.now - since) / second} s after all is well`)
    }
  }

  #sampleMapped(held: Held, mapping: PortMapping.PortMapping) {
    held.lostSince = undefined
    if (!this.isCalm) held.firstPort = mapping.externalPort
    if (mapping.externalPort !== held.firstPort) {
      this.violate("port-as-asked", `mapping ${held.index} went from port ${held.firstPort} to ${mapping.externalPort}`)
    }
    const wrong = this.#wrong(held, mapping)
    if (wrong === undefined) {
      held.badSince = undefined
      held.goneSince = undefined
      held.expiresAt = this.#expiryOf(mapping)
      return
    }
    const isOverdue = held.expiresAt !== undefined && this.now > held.expiresAt + slack
    if (isOverdue && this.plan.quirk === undefined && !this.hasChangedRouter && !this.hasMoved) {
      return this.violate(
        "live-or-lost",
        `mapping ${held.index}: its lease has run out, and it is not reported as lost`
      )
    }
    if (wrong.startsWith("forged")) return this.violate("live-or-lost", `mapping ${held.index}: ${wrong}`)
    // A permanent mapping is never looked at again: its loss stays unseen.
    if (mapping.lifetime === undefined || !Duration.isFinite(mapping.lifetime)) return
    held.badSince ??= this.now
    held.goneSince = wrong.startsWith("gone") ? (held.goneSince ?? this.now) : undefined
    this.#checkNotTooLong(held, held.badSince, wrong)
  }

  /**
   * The renewal finds what is wrong, and that comes after half the lease: only what trouble has made fail comes later,
   * after the longest pause. A lease that the router does not have runs out in any case.
   */
  #checkNotTooLong(held: Held, badSince: number, wrong: string) {
    const lease = this.#leaseMillis(held)
    const renewed = Math.max(badSince + lease / 2, this.troubleEnd + longestPause)
    const isGoneTooLong = held.goneSince !== undefined && this.now - held.goneSince > lease + slack
    if (this.now > renewed + slack || isGoneTooLong) {
      this.violate("live-or-lost", `mapping ${held.index}: ${wrong}, for ${(this.now - badSince) / second} s`)
    }
  }

  #checkFirst(held: Held) {
    const mapping = this.currentOf(held)
    held.firstPort = mapping?.externalPort
    if (mapping === undefined || !this.isCalm || this.plan.quirk !== undefined || this.plan.topology === "twoHosts")
      return
    const wanted = held.wanted.externalPort
    const holder = this.router.model
      .entries(this.now)
      .find((entry) => entry.protocol === held.wanted.protocol && entry.externalPort === wanted)
    // A router has one port for an internal end: what a process that is gone has left there is renewed with its port.
    if (mapping.externalPort !== wanted && mapping.externalPort !== held.leftPort && holder === undefined) {
      this.violate("port-as-asked", `port ${mapping.externalPort} in place of ${wanted}, which is free`)
    }
  }

  #checkReleased(held: Held, last: PortMapping.PortMapping, startedAt: number) {
    // What was on its way twice may arrive after the deletion: no client can help that.
    if (!this.isHealthy(startedAt - 20 * second) || this.attacks !== undefined || last.status === "lost") return
    const { model } = this.router
    if (last.gateway === undefined || !Equal.equals(last.gateway, model.address)) return
    // NAT-PMP deletes for the address that asks: what an earlier address of this host had stays until its lease ends.
    if (!this.host.addresses.some((own) => Equal.equals(own, last.internalAddress))) return
    const left = model
      .entries(this.now)
      .find(
        (entry) =>
          entry.protocol === held.wanted.protocol &&
          entry.internalPort === held.wanted.internalPort &&
          entry.externalPort === last.externalPort &&
          Equal.equals(entry.internalAddress, last.internalAddress)
      )
    if (left !== undefined) this.violate("release-leaves-nothing", `${describe(left)} is still there`)
  }

  /** Whether the user's wish can be fulfilled in this world. */
  expectsMapping(held: Held): boolean {
    const { externalAddress } = this.router.model
    const isAddressless = externalAddress === undefined || NetAddress.isUnspecified(externalAddress)
    if (isAddressless && this.plan.protocol !== "upnp") return false
    if (this.plan.quirk !== undefined && Quirk.profileOf(this.plan.quirk).outcome !== "Mapped") return false
    // Only one host can have a port that must be the internal one, and an earlier address of this host is another one.
    if (this.plan.quirk === "SamePortValuesRequired" && this.#isInternalPortTaken(held)) return false
    // A port that must be this one may be somebody else's, or our own from before.
    return !held.wanted.strictExternalPort
  }

  #isInternalPortTaken({ wanted }: Held): boolean {
    return this.router.model
      .entries(this.now)
      .some(
        ({ externalPort, internalAddress, protocol }) =>
          externalPort === wanted.internalPort &&
          protocol === wanted.protocol &&
          !this.host.addresses.some((own) => Equal.equals(own, internalAddress))
      )
  }

  checkAllMapped() {
    if (!this.program.process.isRunning) return
    for (const held of this.helds) {
      if (held.mapping === undefined && held.isWanted && this.expectsMapping(held)) {
        this.violate("maps-when-healthy", `mapping ${held.index}: ${held.error?.message ?? "no answer to the user"}`)
      }
    }
  }

  checkNothingLeft() {
    for (const model of this.everyModel) {
      for (const entry of model.entries(this.now)) {
        if (!this.ownAddresses.has(format(entry.internalAddress))) continue
        // Until mappings are written down somewhere, nobody can take away what a killed process left for ever.
        const wasLimited = model.has("NeverForgets")
        if (entry.expiresAt === undefined && !wasLimited && this.mayLeavePermanent) continue
        this.violate("nothing-left", `${describe(entry)} on ${model.name}`)
      }
      this.#lookAtOthers(model)
    }
  }
}

const forgedAddress = NetAddress.ipv4FromBytesUnsafe(Uint8Array.of(66, 66, 66, 66))
const forgedPort = 6666
const strangerAddress = "192.168.77.66"
const neighbourAddress = "192.168.77.150"
/** Whose mappings the user removes. */
const removedAddress = "192.168.77.201"

const searchAnswer = (location: string, device: string): Uint8Array =>
  new TextEncoder().encode(
    `HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nEXT:\r\nLOCATION: ${location}\r\n` +
      `SERVER: Printer\r\nST: ${device}\r\nUSN: uuid:printer::${device}\r\n\r\n`
  )

const describe = (entry: RouterModel.Entry): string =>
  `${entry.externalPort}/${entry.protocol} to ${format(entry.internalAddress)}:${entry.internalPort}`

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
      world.sample()
    }
    if (world.isBroken) return
    network.runUntil(until)
    world.sample()
  }
  watch(plan.horizon)
  // Everything is mended, and then there is time to notice.
  world.heal()
  const settled = network.now + 0.6 * lease + longestPause + 3 * slack
  watch(settled)
  if (world.isBroken) return
  world.checkAllMapped()
  world.close()
  network.runUntil(network.now + 40 * second)
  // Whatever a process that is gone could have left has run out by now.
  network.runUntil(network.now + Math.max(lease, 3600 * second) + slack)
  world.checkNothingLeft()
}
