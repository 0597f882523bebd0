/**
 * A real router on one machine: three network namespaces with a NAT between them and a UPnP IGD, NAT-PMP and PCP
 * daemon (miniupnpd) on the router.
 *
 * ```
 * lan 192.168.77.2 ── 192.168.77.1 router 11.22.33.1 ── 11.22.33.2 wan
 * ```
 *
 * With `neighbour` there is a second host on the lan, 192.168.77.3.
 *
 * With `ipv6` all of them have global IPv6 addresses as well, and the router forwards between them: out of the lan
 * whatever it is, into the lan what the daemon opens.
 *
 * A lab is scoped: its namespaces, processes and files go when the scope closes, on success, failure and
 * interruption. What a killed run left behind is removed by the next `make`. Names carry the process id and a random
 * part, so labs run side by side; their addresses are equal and never meet. No packet leaves the namespaces: they have
 * no uplink.
 *
 * The lab takes its own time from the real clock, also under a `TestClock`; what a test waits for between its calls
 * needs `it.live`. Suites stand in `labSuite` (see `LabSuite.ts`).
 *
 * **Gotchas**
 *
 * Deleting a mapping stops new connections only: the kernel goes on translating the flows it already knows. A probe
 * sends from a fresh port each time, so it sees the rules as they are now.
 *
 * **Example** (A mapping opens the router)
 *
 * ```ts
 * labSuite("port mapping", () => {
 *   it.live("reaches the lan host", () =>
 *     Effect.gen(function*() {
 *       const lab = yield* Lab.make({ daemon: { natpmp: false } })
 *       const echo = yield* lab.tcpEcho("lan", 12000)
 *       yield* lab.exec("lan", "upnpc", ["-a", lab.addresses.lan, `${echo.port}`, "12001", "tcp", "3600"])
 *       assert.strictEqual(yield* lab.tcpProbe("wan", lab.addresses.external, 12001), "reachable")
 *     }))
 * })
 * ```
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import { spawnSync } from "node:child_process"
import { randomBytes, randomUUID } from "node:crypto"
import { accessSync, constants } from "node:fs"
import * as Fs from "node:fs/promises"
import { tmpdir } from "node:os"
import { delimiter, join } from "node:path"
import { fileURLToPath } from "node:url"
import * as LabCapture from "./LabCapture.ts"
import { LabError } from "./LabError.ts"
import * as LabProcess from "./LabProcess.ts"

/**
 * The hosts of a lab, each a network namespace; the neighbour is there only in a lab with `neighbour`.
 *
 * @category models
 */
export type Host = "lan" | "neighbour" | "router" | "wan"

/**
 * What a probe found: the echo came back, somebody said no (a reset, an ICMP error), or nothing was heard.
 *
 * @category models
 */
export type Reachability = "reachable" | "refused" | "silent"

/**
 * A port mapping that the router's kernel holds, read from its rules: the truth, whatever the daemon tells.
 *
 * @category models
 */
export interface Mapping {
  readonly protocol: "tcp" | "udp"
  readonly externalPort: number
  readonly internalAddress: string
  readonly internalPort: number
}

/**
 * How the daemon is configured. `undefined` leaves a key to the default named here, else to the daemon's own.
 *
 * @category models
 */
export interface DaemonOptions {
  /** UPnP IGD over SSDP and HTTP. Default: on. */
  readonly upnp?: boolean | undefined
  /** NAT-PMP and PCP, which the daemon switches together. Default: on. */
  readonly natpmp?: boolean | undefined
  /** Shortest lifetime granted over PCP, in seconds; UPnP and NAT-PMP get what they ask for. The daemon's own: 120. */
  readonly minLifetime?: number | undefined
  /** Longest lifetime granted over PCP, in seconds; UPnP and NAT-PMP get what they ask for. The daemon's own: 86400. */
  readonly maxLifetime?: number | undefined
  /** Describes itself as an IGD version 1, for clients that know no other. Default: off. */
  readonly forceIgdDescV1?: boolean | undefined
  /** A client may map to its own address only. Default: on. */
  readonly secureMode?: boolean | undefined
  /**
   * Permission lines, first match wins: `allow|deny external-ports internal-network internal-ports`, such as
   * `"deny 9000 0.0.0.0/0 0-65535"`. Default: the lan may map every port, others none.
   */
  readonly permissions?: ReadonlyArray<string> | undefined
  /**
   * The external address the daemon is told. Default: the router's own. `false` leaves it to find out: with a private
   * `wanPrefix` that is a router behind another NAT, which runs but refuses every mapping.
   */
  readonly externalAddress?: string | false | undefined
  /** Seconds between two SSDP announcements. */
  readonly notifyInterval?: number | undefined
  /** Further lines of its configuration, as they are. */
  readonly extraConfig?: ReadonlyArray<string> | undefined
}

/**
 * What lab to build. Without options: a port-preserving NAT and a daemon that speaks everything.
 *
 * @category models
 */
export interface LabOptions {
  /** The daemon on the router; `false` for a NAT without one. */
  readonly daemon?: DaemonOptions | false | undefined
  /**
   * Which external port an outgoing flow gets: its own when it is free (`"preserving"`, the default), or a new one for
   * every flow (`"random"`: a symmetric NAT, where STUN tells nothing useful).
   */
  readonly nat?: "preserving" | "random" | undefined
  /**
   * What the router answers to packets from the wan that no mapping wants: a reset or an ICMP error (`"refuse"`, the
   * default, where negative probes are fast), or nothing (`"drop"`, as most home routers do).
   */
  readonly unsolicited?: "refuse" | "drop" | undefined
  /** The first three octets on the lan side. Default: `192.168.77`. */
  readonly lanPrefix?: string | undefined
  /** The first three octets on the wan side. Default: `11.22.33`, as the daemon refuses private external addresses. */
  readonly wanPrefix?: string | undefined
  /** A second host on the lan. Default: off. */
  readonly neighbour?: boolean | undefined
  /**
   * A TCP port of the external address that lan hosts reach as well: the router sends them on to the lan host, and has
   * them come from its external address. Set by hand, since the daemon's mappings are for the wan. Default: none.
   */
  readonly hairpin?: { readonly externalPort: number; readonly internalPort: number } | undefined
  /** Global IPv6 addresses for everybody, and a daemon that opens pinholes in the router's firewall. Default: off. */
  readonly ipv6?: boolean | undefined
}

/**
 * The addresses of a lab, of one family.
 *
 * @category models
 */
export interface LabAddresses {
  /** The lan host. */
  readonly lan: string
  /** The second lan host, where there is one. */
  readonly neighbour: string
  /** The router, seen from the lan. */
  readonly gateway: string
  /** The router, seen from the wan. */
  readonly external: string
  /** The wan host. */
  readonly wan: string
}

/**
 * The IPv6 addresses of a lab with `ipv6`: global ones, each with a prefix of 64 bits, since the daemon takes neither
 * private nor documentation addresses. The namespaces have no uplink.
 *
 * @category models
 */
export const ipv6Addresses: LabAddresses = {
  lan: "2a11:2233:77::2",
  neighbour: "2a11:2233:77::3",
  gateway: "2a11:2233:77::1",
  external: "2a11:2233:33::1",
  wan: "2a11:2233:33::2"
}

/**
 * An echo server inside a namespace.
 *
 * @category models
 */
export interface Echo {
  readonly port: number
  readonly process: LabProcess.LabProcess
}

/**
 * Options of a probe.
 *
 * @category models
 */
export interface ProbeOptions {
  /** How long to wait for the echo. Default: 1.5 seconds. */
  readonly timeout?: Duration.Input | undefined
  /** The port to send from. Default: any free one. */
  readonly sourcePort?: number | undefined
}

/**
 * A running capture. It stops when it is first asked what it saw, or with its scope.
 *
 * @category models
 */
export interface Capture {
  /** Stops, once every packet seen so far is written. */
  readonly stop: Effect.Effect<void, LabError>
  /** Stops, and returns the IPv4 packets in the order they were seen. */
  readonly packets: Effect.Effect<ReadonlyArray<LabCapture.Packet>, LabError>
  /** Stops, and returns one line per packet, as tcpdump writes them. */
  readonly text: Effect.Effect<string, LabError>
}

/**
 * How the daemon is taken down.
 *
 * @category models
 */
export interface StopOptions {
  /** Lets it say `ssdp:byebye` first. Default: it is killed, as in a power cut. */
  readonly goodbye?: boolean | undefined
}

/**
 * How the daemon is started again.
 *
 * @category models
 */
export interface RestartOptions extends StopOptions {
  /** Keeps the lease file, from which the daemon restores its mappings. Default: it forgets them. */
  readonly keepLeases?: boolean | undefined
  /** Options to change, from this start on. */
  readonly daemon?: DaemonOptions | undefined
}

/**
 * What can be done with a lab.
 *
 * @category models
 */
export interface LabService {
  /** The part of all names that is this lab's own. */
  readonly id: string
  /** The IPv4 addresses; those of IPv6 are `ipv6Addresses`. */
  readonly addresses: LabAddresses
  /** The names of the namespaces, for `ip netns exec`. */
  readonly namespaces: Readonly<Record<Host, string>>
  /** A directory for files of the test, removed with the lab. */
  readonly directory: string

  /** Runs a command on a host, to its end, whatever its exit code. Fails when it takes too long or cannot start. */
  readonly run: (
    host: Host,
    command: string,
    args?: ReadonlyArray<string>,
    options?: LabProcess.RunOptions
  ) => Effect.Effect<LabProcess.RunResult, LabError>
  /** Runs a command on a host that must exit with code 0, and returns what it printed. */
  readonly exec: (
    host: Host,
    command: string,
    args?: ReadonlyArray<string>,
    options?: LabProcess.RunOptions
  ) => Effect.Effect<string, LabError>
  /**
   * Starts a process on a host, killed with its group when the scope closes. Its process id is the command's own, so
   * signals go to the command.
   */
  readonly spawn: (
    host: Host,
    command: string,
    args?: ReadonlyArray<string>,
    options?: LabProcess.SpawnOptions
  ) => Effect.Effect<LabProcess.LabProcess, LabError, Scope.Scope>

  /** A TCP echo server on all addresses of a host; port 0 takes a free one. It listens when this returns. */
  readonly tcpEcho: (host: Host, port: number) => Effect.Effect<Echo, LabError, Scope.Scope>
  /** A UDP echo server on all addresses of a host; port 0 takes a free one. It listens when this returns. */
  readonly udpEcho: (host: Host, port: number) => Effect.Effect<Echo, LabError, Scope.Scope>
  /** Connects from a host and sends a token nobody else knows: does the echo come back? */
  readonly tcpProbe: (
    from: Host,
    address: string,
    port: number,
    options?: ProbeOptions
  ) => Effect.Effect<Reachability, LabError>
  /** Sends a token nobody else knows, again every 250 ms: does the echo come back? */
  readonly udpProbe: (
    from: Host,
    address: string,
    port: number,
    options?: ProbeOptions
  ) => Effect.Effect<Reachability, LabError>

  /** The port mappings the router holds, in the order of its rules. */
  readonly mappings: Effect.Effect<ReadonlyArray<Mapping>, LabError>
  /** The router's whole ruleset, as `nft list ruleset` prints it. */
  readonly ruleset: Effect.Effect<string, LabError>
  /**
   * Starts tcpdump on a host and returns once it listens. `filter` is an expression of tcpdump's, such as
   * `"udp port 5351"`. The router is heard on its lan side unless told otherwise.
   */
  readonly capture: (
    host: Host,
    filter?: string,
    options?: { readonly side?: "lan" | "wan" | undefined }
  ) => Effect.Effect<Capture, LabError, Scope.Scope>
  /**
   * Loses this percentage of the packets on a link of the router, at random, in each direction, until told otherwise:
   * `drop(0)` heals it. Default: the lan link. A forwarded packet crosses both.
   */
  readonly drop: (percent: number, link?: "lan" | "wan" | "both") => Effect.Effect<void, LabError>
  /** Loses the first of the next thousand datagrams to this port of the router. */
  readonly loseFirst: (port: number) => Effect.Effect<void, LabError>

  /** The daemon's process: its log, and signals (`SIGSTOP` makes a router that is there and does not answer). */
  readonly daemon: Effect.Effect<LabProcess.LabProcess, LabError>
  /** The address of the daemon's UPnP description; the port changes with every start. */
  readonly location: Effect.Effect<string, LabError>
  /** Stops the daemon and flushes its rules. The NAT goes on. */
  readonly stopDaemon: (options?: StopOptions) => Effect.Effect<void, LabError>
  /** Stops the daemon if it runs, flushes its rules, starts it, and waits until it answers. Its epoch starts over. */
  readonly restartDaemon: (options?: RestartOptions) => Effect.Effect<void, LabError>
}

/**
 * A lab that several tests share, provided by `layer`.
 *
 * @category services
 */
export class Lab extends Context.Service<Lab, LabService>()("effect-nat/test/Lab") {}

const agent = fileURLToPath(new URL("./agent.mjs", import.meta.url))

const namespacePrefix = "effect-nat-lab"

const namespaceDirectory = "/run/netns"

const table = "lab"

const chains = { forward: "upnp_forward", prerouting: "upnp_prerouting", postrouting: "upnp_postrouting" } as const

const interfaces = { lan: "lan0", wan: "wan0" } as const

const attempt = <A>(step: string, f: () => Promise<A>): Effect.Effect<A, LabError> =>
  Effect.tryPromise({
    try: f,
    catch: (cause) => new LabError({ step, detail: cause instanceof Error ? cause.message : String(cause), cause })
  })

// -----------------------------------------------------------------------------
// What the machine offers, and what other runs left on it
// -----------------------------------------------------------------------------

const commands = ["ip", "nft", "miniupnpd", "upnpc", "natpmpc", "tcpdump"]

const onPath = (command: string): boolean =>
  (process.env["PATH"] ?? "").split(delimiter).some((directory) => {
    try {
      accessSync(join(directory, command), constants.X_OK)
      return true
    } catch {
      return false
    }
  })

/**
 * What this machine lacks to run a lab with more commands, in words; empty when such a lab can start.
 *
 * @category guards
 */
export const missingWith = (more: ReadonlyArray<string>): Effect.Effect<ReadonlyArray<string>> =>
  Effect.sync(() => {
    if (process.platform !== "linux") return ["Linux"]
    const lacking = [...commands, ...more].filter((command) => !onPath(command))
    if (process.getuid?.() !== 0) return ["root", ...lacking]
    if (spawnSync("unshare", ["--net", "true"]).status !== 0) {
      return ["the right to make network namespaces", ...lacking]
    }
    return lacking
  })

/**
 * What this machine lacks to run a lab, in words; empty when a lab can start.
 *
 * @category guards
 */
export const missing: Effect.Effect<ReadonlyArray<string>> = missingWith([])

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "EPERM"
  }
}

const removeNamespace = Effect.fn("Lab.removeNamespace")(function* (namespace: string) {
  for (let rounds = 0; rounds < 100; rounds++) {
    const listed = yield* LabProcess.run("ip", ["netns", "pids", namespace])
    const pids = listed.stdout.split("\n").filter((line) => line !== "")
    if (pids.length === 0) break
    for (const pid of pids) yield* Effect.ignore(Effect.try(() => process.kill(Number(pid), "SIGKILL")))
    yield* LabProcess.pause(10)
  }
  yield* LabProcess.exec("ip", ["netns", "delete", namespace])
})

const removeDirectory = (directory: string) =>
  attempt(`remove ${directory}`, () => Fs.rm(directory, { recursive: true, force: true }))

/**
 * Removes the namespaces, the processes in them, and the directories of runs that no longer exist. `make` does this
 * first.
 *
 * @category constructors
 */
export const sweep: Effect.Effect<void> = Effect.gen(function* () {
  const list = (directory: string) =>
    attempt(`list ${directory}`, () => Fs.readdir(directory)).pipe(Effect.orElseSucceed(() => []))
  const isDead = (name: string) => {
    const pid = /^effect-nat-lab-(\d+)-[0-9a-f]{6}(?:-(?:lan|neighbour|router|wan))?$/.exec(name)?.[1]
    return pid !== undefined && !isAlive(Number(pid))
  }
  // Another run may sweep at the same time: what is gone already is no failure.
  for (const name of (yield* list(namespaceDirectory)).filter(isDead)) {
    yield* Effect.ignore(removeNamespace(name))
  }
  for (const name of (yield* list(tmpdir())).filter(isDead)) {
    yield* Effect.ignore(removeDirectory(join(tmpdir(), name)))
  }
})

// -----------------------------------------------------------------------------
// What the router is told
// -----------------------------------------------------------------------------

const networkOf = (address: string): string => address.replace(/\d+$/, "0/24")

/** What a lan host says to the external address goes back into the lan, and comes from the external address there. */
const hairpinRules = ({ hairpin }: LabOptions, { external, lan }: LabAddresses) =>
  hairpin === undefined
    ? { prerouting: "", postrouting: "" }
    : {
        prerouting: `iifname "${interfaces.lan}" ip daddr ${external} tcp dport ${hairpin.externalPort} dnat ip to ${lan}:${hairpin.internalPort}`,
        postrouting: `ip saddr ${networkOf(lan)} oifname "${interfaces.lan}" ct original ip daddr ${external} snat ip to ${external}`
      }

/** Some kernels show the rules what only crosses the switch. */
const withinLan = ({ hairpin, neighbour }: LabOptions): string =>
  neighbour === true || hairpin !== undefined ? `iifname "${interfaces.lan}" oifname "${interfaces.lan}" accept` : ""

const natRules = (options: LabOptions, hairpin: ReturnType<typeof hairpinRules>): string => `
table inet ${table} {
  chain input {
    type filter hook input priority 0
    policy accept
    ct state established,related accept
    ${options.unsolicited === "drop" ? `iifname "${interfaces.wan}" drop` : ""}
  }
  chain forward {
    type filter hook forward priority 0
    policy drop
    ct state established,related accept
    iifname "${interfaces.lan}" oifname "${interfaces.wan}" accept
    ${withinLan(options)}
    jump ${chains.forward}
  }
  chain prerouting {
    type nat hook prerouting priority -100
    policy accept
    ${hairpin.prerouting}
    jump ${chains.prerouting}
  }
  chain postrouting {
    type nat hook postrouting priority 100
    policy accept
    jump ${chains.postrouting}
    ${hairpin.postrouting}
    meta nfproto ipv4 oifname "${interfaces.wan}" masquerade ${options.nat === "random" ? "fully-random" : ""}
  }
  chain ${chains.forward} {
  }
  chain ${chains.prerouting} {
  }
  chain ${chains.postrouting} {
  }
}
`

const flushRules = Object.values(chains)
  .map((chain) => `flush chain inet ${table} ${chain}\n`)
  .join("")

// A table of its own, behind raw and behind source NAT: a packet meets one rule on each link it crosses.
const lossRules = (percent: number, links: ReadonlyArray<"lan" | "wan">): string => {
  const loss = `numgen random mod 10000 <= ${Math.min(Math.round(percent * 100), 10_000) - 1} drop`
  return `
table inet ${table}_loss {
}
delete table inet ${table}_loss
table inet ${table}_loss {
  chain arriving {
    type filter hook prerouting priority -310
    policy accept
    ${links.map((link) => `iifname "${interfaces[link]}" ${loss}`).join("\n")}
  }
  chain leaving {
    type filter hook postrouting priority 310
    policy accept
    ${links.map((link) => `oifname "${interfaces[link]}" ${loss}`).join("\n")}
  }
}
`
}

const yesNo = (value: boolean): string => (value ? "yes" : "no")

interface DaemonFiles {
  readonly uuid: string
  readonly leaseFile: string
}

const daemonConfig = (
  options: DaemonOptions,
  addresses: LabAddresses,
  ipv6: boolean,
  { leaseFile, uuid }: DaemonFiles
): string => {
  const keys: Record<string, string | number | undefined> = {
    ext_ifname: interfaces.wan,
    ext_ip: options.externalAddress === false ? undefined : (options.externalAddress ?? addresses.external),
    listening_ip: interfaces.lan,
    http_port: 0,
    enable_upnp: yesNo(options.upnp ?? true),
    enable_natpmp: yesNo(options.natpmp ?? true),
    secure_mode: yesNo(options.secureMode ?? true),
    force_igd_desc_v1: options.forceIgdDescV1 === undefined ? undefined : yesNo(options.forceIgdDescV1),
    min_lifetime: options.minLifetime,
    max_lifetime: options.maxLifetime,
    notify_interval: options.notifyInterval,
    uuid,
    serial: "12345678",
    model_number: "1",
    ipv6_disable: yesNo(!ipv6),
    ext_ifname6: ipv6 ? interfaces.wan : undefined,
    lease_file: leaseFile,
    upnp_table_name: table,
    upnp_nat_table_name: table,
    upnp_forward_chain: chains.forward,
    upnp_nat_chain: chains.prerouting,
    upnp_nat_postrouting_chain: chains.postrouting
  }
  return [
    ...Object.entries(keys).flatMap(([key, value]) => (value === undefined ? [] : [`${key}=${value}`])),
    ...(options.extraConfig ?? []),
    ...(options.permissions ?? [`allow 0-65535 ${networkOf(addresses.lan)} 0-65535`, "deny 0-65535 0.0.0.0/0 0-65535"]),
    ""
  ].join("\n")
}

// -----------------------------------------------------------------------------
// What the router holds
// -----------------------------------------------------------------------------

const get = (value: unknown, ...path: ReadonlyArray<string>): unknown =>
  path.reduce<unknown>(
    (inner, key) =>
      typeof inner === "object" && inner !== null ? (inner as Readonly<Record<string, unknown>>)[key] : undefined,
    value
  )

const array = (value: unknown): ReadonlyArray<unknown> => (Array.isArray(value) ? value : [])

const protocolNames: ReadonlyMap<unknown, Mapping["protocol"]> = new Map<unknown, Mapping["protocol"]>([
  [6, "tcp"],
  ["tcp", "tcp"],
  [17, "udp"],
  ["udp", "udp"]
])

// The daemon compares the protocol byte of the IP header (bit 72), which nft prints raw; other versions of the two
// write the same rule with names.
const mappingOf = (rule: unknown): ReadonlyArray<Mapping> => {
  let protocol: Mapping["protocol"] | undefined
  let externalPort: unknown
  for (const expression of array(get(rule, "expr"))) {
    const left = get(expression, "match", "left")
    const right = get(expression, "match", "right")
    const field = get(left, "payload", "field")
    const raw = get(left, "payload", "base") === "nh" && get(left, "payload", "offset") === 72
    if (raw || field === "protocol" || get(left, "meta", "key") === "l4proto") protocol = protocolNames.get(right)
    if (field === "dport") {
      externalPort = right
      protocol ??= protocolNames.get(get(left, "payload", "protocol"))
    }
    const internalAddress = get(expression, "dnat", "addr")
    const internalPort = get(expression, "dnat", "port") ?? externalPort
    if (
      protocol !== undefined &&
      typeof externalPort === "number" &&
      typeof internalAddress === "string" &&
      typeof internalPort === "number"
    ) {
      return [{ protocol, externalPort, internalAddress, internalPort }]
    }
  }
  return []
}

const parseMappings = (listing: string): ReadonlyArray<Mapping> =>
  array(get(JSON.parse(listing), "nftables"))
    .map((entry) => get(entry, "rule"))
    .filter((rule) => get(rule, "chain") === chains.prerouting)
    .flatMap(mappingOf)

// -----------------------------------------------------------------------------
// The lab
// -----------------------------------------------------------------------------

interface RunningDaemon {
  readonly process: LabProcess.LabProcess
  readonly scope: Scope.Closeable
  readonly location: string | undefined
}

const toMillis = (duration: Duration.Input | undefined, fallback: number): number =>
  duration === undefined ? fallback : Math.ceil(Duration.toMillis(Duration.fromInputUnsafe(duration)))

/**
 * Builds a lab, and waits until its daemon answers. Everything goes when the scope closes.
 *
 * @category constructors
 */
export const make = Effect.fn("Lab.make")(function* (
  options: LabOptions = {}
): Effect.fn.Return<LabService, LabError, Scope.Scope> {
  yield* sweep
  const scope = yield* Effect.scope
  const id = `${process.pid}-${randomBytes(3).toString("hex")}`
  const namespaces: Readonly<Record<Host, string>> = {
    lan: `${namespacePrefix}-${id}-lan`,
    neighbour: `${namespacePrefix}-${id}-neighbour`,
    router: `${namespacePrefix}-${id}-router`,
    wan: `${namespacePrefix}-${id}-wan`
  }
  const lanPrefix = options.lanPrefix ?? "192.168.77"
  const wanPrefix = options.wanPrefix ?? "11.22.33"
  const addresses: LabAddresses = {
    lan: `${lanPrefix}.2`,
    neighbour: `${lanPrefix}.3`,
    gateway: `${lanPrefix}.1`,
    external: `${wanPrefix}.1`,
    wan: `${wanPrefix}.2`
  }

  const directory = yield* Effect.acquireRelease(
    attempt("make a directory", async () => {
      const path = join(tmpdir(), `${namespacePrefix}-${id}`)
      await Fs.mkdir(path, { mode: 0o755 })
      return path
    }),
    (path) => Effect.orDie(removeDirectory(path))
  )
  const onLan = options.neighbour === true ? (["lan", "neighbour"] as const) : (["lan"] as const)
  const hosts: ReadonlyArray<Host> = [...onLan, "router", "wan"]
  for (const namespace of hosts.map((host) => namespaces[host])) {
    yield* Effect.acquireRelease(LabProcess.exec("ip", ["netns", "add", namespace]), () =>
      Effect.orDie(removeNamespace(namespace))
    )
  }

  // `ip netns exec` replaces itself by the command, so that a signal to its process reaches the command.
  const within = (host: Host, command: string, args: ReadonlyArray<string>): ReadonlyArray<string> => [
    "netns",
    "exec",
    namespaces[host],
    command,
    ...args
  ]
  /** Each host has a ledger of its own: the gateways of other labs have the same addresses. */
  const onHost = <A extends { readonly env?: LabProcess.RunOptions["env"] }>(host: Host, options?: A) => ({
    ...options,
    env: { XDG_STATE_HOME: join(directory, `state-${host}`), ...options?.env }
  })
  const run: LabService["run"] = (host, command, args = [], options) =>
    LabProcess.run("ip", within(host, command, args), onHost(host, options))
  const exec: LabService["exec"] = (host, command, args = [], options) =>
    LabProcess.exec("ip", within(host, command, args), onHost(host, options))
  const spawn: LabService["spawn"] = (host, command, args = [], options) =>
    LabProcess.spawn("ip", within(host, command, args), onHost(host, options))

  const batch = (host: Host, lines: ReadonlyArray<string>) =>
    LabProcess.exec("ip", ["-n", namespaces[host], "-batch", "-"], { stdin: `${lines.join("\n")}\n` })
  const link = (name: string, host: Host) => `link add ${name} type veth peer name eth0 netns ${namespaces[host]}`
  /** With two hosts there, the router's interface on the lan is a switch. */
  const lanLinks =
    options.neighbour === true
      ? [
          `link add ${interfaces.lan} type bridge`,
          link("port1", "lan"),
          link("port2", "neighbour"),
          ...["port1", "port2"].flatMap((port) => [`link set ${port} master ${interfaces.lan}`, `link set ${port} up`])
        ]
      : [link(interfaces.lan, "lan")]
  const ipv6 = options.ipv6 ?? false
  const setting = (host: Host, key: string, value: number) =>
    exec(host, "sh", ["-c", `echo ${value} > /proc/sys/net/${key}`])
  // Nobody else is there: no address needs to be looked for on its link for a second before it is used.
  if (ipv6) {
    for (const host of hosts) yield* setting(host, "ipv6/conf/default/accept_dad", 0)
  }
  yield* batch("router", [
    ...lanLinks,
    link(interfaces.wan, "wan"),
    "link set lo up",
    `addr add ${addresses.gateway}/24 dev ${interfaces.lan}`,
    `addr add ${addresses.external}/24 dev ${interfaces.wan}`,
    `link set ${interfaces.lan} up`,
    `link set ${interfaces.wan} up`
  ])
  for (const host of onLan) {
    yield* batch(host, [
      "link set lo up",
      `addr add ${addresses[host]}/24 dev eth0`,
      "link set eth0 up",
      `route add default via ${addresses.gateway}`
    ])
  }
  yield* batch("wan", ["link set lo up", `addr add ${addresses.wan}/24 dev eth0`, "link set eth0 up"])
  yield* setting("router", "ipv4/ip_forward", 1)
  if (ipv6) {
    yield* batch("router", [
      `addr add ${ipv6Addresses.gateway}/64 dev ${interfaces.lan}`,
      `addr add ${ipv6Addresses.external}/64 dev ${interfaces.wan}`
    ])
    for (const host of onLan) {
      yield* batch(host, [`addr add ${ipv6Addresses[host]}/64 dev eth0`, `route add ::/0 via ${ipv6Addresses.gateway}`])
    }
    yield* batch("wan", [`addr add ${ipv6Addresses.wan}/64 dev eth0`, `route add ::/0 via ${ipv6Addresses.external}`])
    yield* setting("router", "ipv6/conf/all/forwarding", 1)
  }
  const nft = (rules: string) => exec("router", "nft", ["-f", "-"], { stdin: rules })
  yield* nft(natRules(options, hairpinRules(options, addresses)))

  // --- the daemon ---

  const uuid = randomUUID()
  const leaseFile = join(directory, "leases")
  const configFile = join(directory, "miniupnpd.conf")
  const oneAtATime = yield* Semaphore.make(1)
  let daemonOptions = options.daemon === undefined || options.daemon === false ? {} : options.daemon
  let running: RunningDaemon | undefined

  const awaitAnswer = Effect.fn("Lab.awaitAnswer")(function* (process_: LabProcess.LabProcess, services: string) {
    const millis = 10_000
    const ended = Effect.gen(function* () {
      const exit = yield* process_.exit
      return yield* new LabError({ step: "start miniupnpd", detail: `ended with ${exit.signal ?? exit.exitCode}` })
    })
    const args = [agent, "ready", addresses.gateway, services, `${millis}`]
    const answer = yield* exec("lan", process.execPath, args).pipe(
      Effect.raceFirst(ended),
      Effect.catchTag("LabError", (error) =>
        Effect.gen(function* () {
          const log = `${yield* process_.stdout}${yield* process_.stderr}`
          return yield* new LabError({ step: "start miniupnpd", detail: `${error.detail}\n${log}`, cause: error })
        })
      )
    )
    const location = get(JSON.parse(answer), "location")
    return typeof location === "string" ? location : undefined
  })

  const startDaemon = Effect.fn("Lab.startDaemon")(function* () {
    yield* attempt("configure miniupnpd", async () => {
      await Fs.writeFile(configFile, daemonConfig(daemonOptions, addresses, ipv6, { uuid, leaseFile }))
      await Fs.appendFile(leaseFile, "")
    })
    const daemonScope = yield* Scope.fork(scope)
    const starting = Effect.gen(function* () {
      const process_ = yield* spawn("router", "miniupnpd", ["-d", "-f", configFile, "-P", join(directory, "pid")], {
        killSignal: "SIGKILL"
      })
      const services = [
        ...((daemonOptions.upnp ?? true) ? ["upnp"] : []),
        ...((daemonOptions.natpmp ?? true) ? ["natpmp"] : [])
      ]
      const location = services.length === 0 ? undefined : yield* awaitAnswer(process_, services.join(","))
      running = { process: process_, scope: daemonScope, location }
    })
    yield* starting.pipe(
      Scope.provide(daemonScope),
      Effect.onError(() => Scope.close(daemonScope, Exit.void))
    )
  })

  const takeDown = Effect.fn("Lab.takeDown")(function* (options: StopOptions) {
    if (running !== undefined) {
      if (options.goodbye === true) {
        // The daemon looks at its flag, then waits for traffic: a signal in between is seen only with the next one.
        const { process: daemon } = running
        yield* daemon
          .awaitExit()
          .pipe(Effect.raceFirst(Effect.forever(Effect.andThen(daemon.signal("SIGTERM"), LabProcess.pause(500)))))
      }
      const { scope } = running
      running = undefined
      yield* Scope.close(scope, Exit.void)
    }
    yield* nft(flushRules)
  })

  const current = Effect.suspend(() =>
    running === undefined
      ? Effect.fail(new LabError({ step: "ask the daemon", detail: "no daemon is running" }))
      : Effect.succeed(running)
  )

  if (options.daemon !== false) yield* startDaemon()

  // --- traffic ---

  const echo = Effect.fn("Lab.echo")(function* (kind: "tcp" | "udp", host: Host, port: number) {
    const process_ = yield* spawn(host, process.execPath, [agent, `${kind}-echo`, ipv6 ? "::" : "0.0.0.0", `${port}`])
    const line = yield* process_.awaitLine("listening")
    return { port: Number(line.split(" ")[1]), process: process_ }
  })

  const probe = Effect.fn("Lab.probe")(function* (
    kind: "tcp" | "udp",
    from: Host,
    address: string,
    port: number,
    options: ProbeOptions = {}
  ) {
    const millis = toMillis(options.timeout, 1500)
    const args = [agent, `${kind}-probe`, address, `${port}`, `${millis}`, `${options.sourcePort ?? 0}`]
    const answer = (yield* exec(from, process.execPath, args, { timeout: millis + 10_000 })).trim()
    if (answer === "reachable" || answer === "refused" || answer === "silent") return answer
    return yield* new LabError({ step: `${kind} probe`, detail: `answered ${answer}` })
  })

  const capture: LabService["capture"] = Effect.fn("Lab.capture")(function* (host, filter = "", options = {}) {
    const file = join(directory, `${randomUUID()}.pcap`)
    const device = host === "router" ? interfaces[options.side ?? "lan"] : "eth0"
    // Without these sizes the kernel's buffer holds eight packets, and a burst overruns it.
    const sizes = ["-s", "16384", "-B", "32768", "--immediate-mode"]
    const args = [...sizes, "-U", "-n", "-Z", "root", "-i", device, "-w", file, filter]
    const process_ = yield* spawn(host, "tcpdump", args)
    yield* process_.awaitLine("listening on", { from: "stderr" })

    // tcpdump counts on SIGUSR1. The kernel counts a packet before tcpdump has written it: wait until they agree.
    const settle = Effect.gen(function* () {
      for (let occurrence = 1; occurrence <= 100; occurrence++) {
        yield* process_.signal("SIGUSR1")
        const count = yield* process_.awaitLine(/ captured, .* received by filter/, { from: "stderr", occurrence })
        const [captured, received, dropped] = [...count.matchAll(/\d+/g)].map(Number)
        if (dropped !== 0) {
          return yield* new LabError({ step: "tcpdump", detail: `the kernel dropped packets of the capture: ${count}` })
        }
        if (captured === received) return
        yield* LabProcess.pause(10)
      }
    })
    const stop = yield* Effect.cached(
      Effect.gen(function* () {
        yield* settle
        yield* process_.signal("SIGINT")
        yield* process_.awaitExit()
      })
    )
    return {
      stop,
      packets: Effect.andThen(
        stop,
        Effect.map(
          attempt("read the capture", () => Fs.readFile(file)),
          LabCapture.parse
        )
      ),
      text: Effect.andThen(stop, LabProcess.exec("tcpdump", ["-nn", "-tttt", "-v", "-r", file]))
    }
  })

  return {
    id,
    addresses,
    namespaces,
    directory,
    run,
    exec,
    spawn,
    tcpEcho: (host, port) => echo("tcp", host, port),
    udpEcho: (host, port) => echo("udp", host, port),
    tcpProbe: (from, address, port, options) => probe("tcp", from, address, port, options),
    udpProbe: (from, address, port, options) => probe("udp", from, address, port, options),
    mappings: exec("router", "nft", ["-j", "list", "table", "inet", table]).pipe(
      Effect.flatMap((listing) => attempt("read the mappings", async () => parseMappings(listing)))
    ),
    ruleset: exec("router", "nft", ["list", "ruleset"]),
    capture,
    drop: Effect.fn("Lab.drop")(function* (percent, link = "lan") {
      const links = link === "both" ? ["lan" as const, "wan" as const] : [link]
      yield* nft(lossRules(percent, percent === 0 ? [] : links))
    }),
    loseFirst: Effect.fn("Lab.loseFirst")(function* (port) {
      yield* nft(`insert rule inet ${table} input udp dport ${port} numgen inc mod 1000 0 drop\n`)
    }),
    daemon: Effect.map(current, (daemon) => daemon.process),
    location: Effect.flatMap(current, ({ location }) =>
      location === undefined
        ? Effect.fail(new LabError({ step: "ask the daemon", detail: "it speaks no UPnP" }))
        : Effect.succeed(location)
    ),
    stopDaemon: Effect.fn("Lab.stopDaemon")(function* (options = {}) {
      yield* takeDown(options)
    }, oneAtATime.withPermits(1)),
    restartDaemon: Effect.fn("Lab.restartDaemon")(function* (options = {}) {
      yield* takeDown(options)
      if (options.keepLeases !== true) yield* removeDirectory(leaseFile)
      daemonOptions = { ...daemonOptions, ...options.daemon }
      yield* startDaemon()
    }, oneAtATime.withPermits(1))
  }
})

/**
 * A lab for all tests of a block: `layer(Lab.layer(), { excludeTestServices: true })("title", (it) => …)` inside
 * `labSuite`, where `it.effect` then runs on the real clock.
 *
 * @category layers
 */
export const layer = (options: LabOptions = {}): Layer.Layer<Lab, LabError> => Layer.effect(Lab, make(options))
