/**
 * The program as a person calls it, where no network is needed: wrong calls, help, completions, and what a lone host
 * can do.
 */
import * as ContactPointUri from "@effect-nat/core/ContactPointUri"
import { assert, describe, it } from "@effect/vitest"
import * as Result from "effect/Result"
import { spawn } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"

const bin = fileURLToPath(new URL("../../packages/nat/bin/effect-nat.js", import.meta.url))

const escape = "\u001b"

interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Runs the program to its end; with `interruptAt`, sends it Ctrl-C once it has printed that. */
const run = (args: ReadonlyArray<string>, interruptAt?: string): Promise<Ended> =>
  new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [bin, ...args], { stdio: ["ignore", "pipe", "pipe"], timeout: 20_000 })
    let stdout = ""
    let stderr = ""
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      const before = stdout
      stdout += text
      if (interruptAt === undefined || before.includes(interruptAt) || !stdout.includes(interruptAt)) return
      child.kill("SIGINT")
    })
    child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text))
    child.on("error", reject)
    child.on("close", (code) => resolve({ code, stdout, stderr }))
  })

const freePort = (): Promise<number> =>
  new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const address = server.address()
      server.close(() => resolve(typeof address === "object" && address !== null ? address.port : 0))
    })
  })

const wrongCalls: ReadonlyArray<readonly [args: ReadonlyArray<string>, says: RegExp]> = [
  [["map", "12000", "--no-such-flag"], /Unrecognized flag: --no-such-flag/],
  [["map", "0"], /"0" is not a port: use a whole number from 1 to 65535/],
  [["map", "70000"], /^effect-nat: <port>: "70000" is not a port: use a whole number from 1 to 65535 \(see/],
  [["map", "12000-12010"], /"12000-12010" is not a port: .*several ports are several words, as in: 12000 12001/],
  [["map", "12000:70000/udp"], /"70000" is not a port/],
  [["map", "12000/icmp"], /"icmp" is not a protocol: use tcp or udp/],
  [["map"], /port/],
  [["map", "12000", "--strategy", "wormhole"], /wormhole.*auto/],
  [["map", "12000", "--lease", "soon"], /"soon" is not a lease/],
  [["map", "12000", "--strategy", "manual", "--external-address", "home.example"], /is not an IP address/],
  [["map", "12000", "12000/tcp"], /"12000\/tcp".*external port 12000\/tcp is asked for twice/],
  [["map", "12000:80", "12001:80"], /external port 80\/tcp is asked for twice/],
  [["map", "12000", "--external-address", "11.22.33.1"], /--external-address goes with --strategy manual/],
  [["map", "12000", "--family", "ipv5"], /ipv5.*ipv4/],
  [["gateways", "--strategy", "lan"], /lan.*auto/],
  ...["map 12000", "external", "list", "delete 12000/tcp", "gateways", "serve"].map(
    (command) =>
      [
        [...command.split(" "), "--no-automation", "--strategy", "upnp"],
        /--no-automation forbids --strategy upnp: leave one of them out, or use --strategy manual/
      ] as const
  ),
  [["map", "12000", "--strategy", "manual", "--description", "x".repeat(65)], /at most 64/],
  [["delete", "x/tcp"], /"x" is not a port/],
  [["delete"], /port/],
  [["serve", "--port", "0"], /"0" is not a port/],
  [["serve", "--session", "abc"], /"abc" is not a session/],
  [["serve", "--role", "x".repeat(64)], /too long: at most 63 bytes/],
  [["serve", "--name", "é".repeat(128)], /too long: at most 255 bytes/],
  [["serve", "--tls-cert", "x.pem"], /--tls-cert and --tls-key go together: name both/],
  [["serve", "--tls", "--tls-cert", "x.pem", "--tls-key", "x.pem"], /--tls makes a certificate of its own/],
  [["remote", "effect-nat:AQ"], /action/],
  [["remote", "effect-nat:AQ", "info"], /the contact point is incomplete/],
  [["serve", "--beacon-open", "--no-beacon"], /--no-beacon forbids --beacon-open: leave one of them out/],
  [["serve", "--beacon-open", "--no-automation"], /--no-automation forbids --beacon-open/],
  [["join"], /uri/],
  [["join", "effect-nat:AQ", "--no-such-flag"], /Unrecognized flag: --no-such-flag/],
  [["join", "effect-nat:AQ"], /the contact point is incomplete or was changed on its way/],
  [["find", "--for", "soon"], /"soon" is not a time: write it like 10s, 5m or 2h/],
  [["find", "--strategy", "upnp"], /Unrecognized flag: --strategy/],
  [["frobnicate"], /Unknown subcommand "frobnicate"/],
  [[], /which command\? \(see: effect-nat --help\)/]
]

describe.concurrent("a wrong call", () => {
  for (const [args, says] of wrongCalls) {
    it(`effect-nat ${args.join(" ")} is one line and status 2`, async () => {
      const { code, stderr, stdout } = await run(args)
      assert.match(stderr, says)
      assert.match(stderr, /^effect-nat: .*\n$/, "one line")
      assert.strictEqual(stdout, "")
      assert.strictEqual(code, 2)
    })
  }
})

describe.concurrent("effect-nat", () => {
  it("--version names the version of the package", async () => {
    assert.deepStrictEqual(await run(["--version"]), { code: 0, stdout: "effect-nat v0.1.0\n", stderr: "" })
  })

  it("map --version, which goes through the whole command line, says the same", async () => {
    const { code, stdout } = await run(["map", "--version"])
    assert.strictEqual(stdout, "effect-nat v0.1.0\n")
    assert.strictEqual(code, 0)
  })

  it("--help lists every command", async () => {
    const { code, stdout } = await run(["--help"])
    for (const command of ["map", "external", "list", "delete", "gateways", "serve", "join", "find", "remote"]) {
      assert.match(stdout, new RegExp(`^ +${command} `, "m"))
    }
    assert.strictEqual(code, 0)
  })

  it("--help tells of --no-automation, which has no opposite, wherever a gateway may be asked", async () => {
    for (const command of ["map", "external", "list", "delete", "gateways", "serve"]) {
      const { stdout } = await run([command, "--help"])
      assert.match(stdout, /^ +--no-automation +Ask no gateway for anything: .*$/m, command)
      assert.notInclude(stdout, "--automation")
      assert.notInclude(stdout, "--no-no-automation")
    }
  })

  for (const shell of ["bash", "zsh", "fish"]) {
    it(`--completions ${shell} writes a script that knows the commands`, async () => {
      const { code, stdout } = await run(["--completions", shell])
      assert.include(stdout, "gateways")
      assert.strictEqual(code, 0)
    })
  }
})

describe.concurrent("effect-nat map without a gateway", () => {
  it("holds a manual mapping until Ctrl-C, then ends with status 130 after released", async () => {
    const args = ["map", "12000:12001", "--strategy", "manual", "--external-address", "11.22.33.1", "--json"]
    const { code, stderr, stdout } = await run(args, "mapped")
    const events = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line))
    assert.deepStrictEqual(
      events.map(({ internal: _, ...event }) => event),
      ["mapped", "released"].map((event) => ({
        event,
        protocol: "tcp",
        external: "11.22.33.1:12001",
        method: "manual",
        gateway: null,
        lifetimeSeconds: null,
        doubleNat: false
      }))
    )
    assert.match(events[0].internal, /:12000$/)
    assert.strictEqual(stderr, "")
    assert.strictEqual(code, 130)
  })

  it("ends when nobody reads what it prints any more", async () => {
    const child = spawn(process.execPath, [bin, "map", "12000", "--strategy", "lan"], {
      stdio: ["ignore", "pipe", "pipe"],
      timeout: 20_000
    })
    child.stdout.destroy()
    let stderr = ""
    child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text))
    const code = await new Promise((resolve) => child.on("close", resolve))
    assert.strictEqual(stderr, "")
    assert.strictEqual(code, 130)
  })

  it("releases what is mapped when its terminal is closed, also where a signal to itself would end it at once", async () => {
    // As Windows has it.
    const noSignals = "process.kill = () => process.exit(1)"
    const preload = `data:text/javascript,${encodeURIComponent(noSignals)}`
    const args = ["--import", preload, bin, "map", "12000", "--strategy", "lan", "--json"]
    const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "pipe"], timeout: 20_000 })
    let stdout = ""
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      stdout += text
      if (text.includes("mapped")) child.kill("SIGHUP")
    })
    const code = await new Promise((resolve) => child.on("close", resolve))
    assert.include(stdout, '"event":"released"')
    assert.strictEqual(code, 130)
  })

  it("puts IPv6 addresses in brackets", async () => {
    const args = ["map", "12000", "--strategy", "manual", "--external-address", "2001:db8::1", "--json"]
    const { stdout } = await run(args, "mapped")
    assert.include(stdout, '"external":"[2001:db8::1]:12000"')
  })

  it("says that an external address is not known", async () => {
    const { stdout } = await run(["map", "12000:12001", "--strategy", "manual"], "mapped")
    assert.match(stdout, /-> port 12001 \(the external address is not known\) \(manual, no lease\)/)
  })

  it("maps by hand where automation is forbidden", async () => {
    const { code, stderr, stdout } = await run(["map", "12000", "--no-automation", "--strategy", "manual"], "mapped")
    assert.match(stdout, /^mapped .* \(manual, no lease\)$/m)
    assert.strictEqual(stderr, "")
    assert.strictEqual(code, 130)
  })

  it("maps nothing with the lan strategy, and says so", async () => {
    const { code, stdout } = await run(["map", "12000/udp", "--strategy", "lan"], "mapped")
    assert.match(stdout, /^mapped .*:12000\/udp -> not mapped: reachable on this network only \(lan, no lease\)\n/)
    assert.strictEqual(code, 130)
  })

  it("external, list and delete say what the manual and the lan strategy cannot do", async () => {
    for (const [args, says] of [
      [["external", "--strategy", "manual"], /the external address is not known/],
      [["list", "--strategy", "lan"], /not supported: list mappings with the lan strategy/],
      [["delete", "12001/tcp", "--strategy", "manual"], /not supported: delete a mapping with the manual strategy/]
    ] as const) {
      const { code, stderr, stdout } = await run(args)
      assert.match(stderr, says)
      assert.match(stderr, /^effect-nat: .*\n$/)
      assert.strictEqual(stdout, "")
      assert.strictEqual(code, 1)
      const asJson = await run([...args, "--json"])
      assert.strictEqual(asJson.stderr, stderr)
      assert.strictEqual(asJson.code, 1)
      assert.deepStrictEqual(JSON.parse(asJson.stdout), {
        event: "failed",
        error: args[0] === "external" ? "NoExternalAddress" : "Unsupported",
        message: stderr.slice("effect-nat: ".length).trim()
      })
    }
  })

  it("a wrong call is one line of JSON too, where its flags could be read", async () => {
    const { code, stdout } = await run(["serve", "--json", "--external-address", "11.22.33.1"])
    const { message, ...rest } = JSON.parse(stdout)
    assert.deepStrictEqual(rest, { event: "failed", error: "InvalidRequest" })
    assert.match(message, /--external-address goes with --strategy manual/)
    assert.strictEqual(code, 2)
  })

  it("serve prints a URI that says where to join, and where nobody looks no QR code and no live view", async () => {
    const args = ["serve", "--strategy", "lan", "--no-beacon", "--port", String(await freePort())]
    const { code, stderr, stdout } = await run(args, "join by")
    const [, uri = ""] = /^join by: effect-nat join (effect-nat:\S+)$/m.exec(stdout) ?? []
    const contactPoint = Result.getOrThrow(ContactPointUri.fromString(uri))
    const [, word] = /; invitation (\S+)$/m.exec(stdout) ?? []
    const [session] = contactPoint.sessions
    assert.strictEqual(`${session?.id}.${session?.capabilities[0]}`, word)
    assert.isUndefined(contactPoint.control)
    assert.notInclude(stdout, escape)
    assert.notInclude(stdout, "█")
    assert.lengthOf(stdout.trimEnd().split("\n"), 4)
    assert.strictEqual(stderr, "")
    assert.strictEqual(code, 130)
    const named = ["--role", "scene", "--name", "the house", "--viewpoint", "door"]
    const asJson = await run([...args, "--json", ...named], "serving")
    const serving = asJson.stdout.split("\n").find((line) => line.includes("serving")) ?? ""
    const told = JSON.parse(serving)
    const { name, sessions, viewpoint } = Result.getOrThrow(ContactPointUri.fromString(told.uri))
    assert.deepStrictEqual([name, sessions.map(({ role }) => role), viewpoint], ["the house", ["scene"], "door"])
    assert.deepInclude(told.contactPoint, { name, viewpoint })
  })

  it("serve --tls --control can be joined and controlled by what it prints, over TLS and from the same certificate", async () => {
    const state = mkdtempSync(Path.join(tmpdir(), "effect-nat-tls-"))
    const port = await freePort()
    const args = ["serve", "--strategy", "lan", "--no-beacon", "--port", String(port), "--tls", "--control", "--json"]
    const serve = () => {
      const env = { ...process.env, XDG_STATE_HOME: state }
      const child = spawn(process.execPath, [bin, ...args], {
        stdio: ["ignore", "pipe", "inherit"],
        timeout: 20_000,
        env
      })
      let stdout = ""
      const serving = new Promise<{ uri: string; control: string; contactPoint: { fingerprint: string } }>(
        (resolve) => {
          child.stdout.setEncoding("utf8").on("data", (text: string) => {
            stdout += text
            const line = stdout.split("\n").find((one) => one.includes('"serving"') && one.endsWith("}"))
            if (line !== undefined) resolve(JSON.parse(line))
          })
        }
      )
      return { child, serving }
    }
    const first = serve()
    const second = { fingerprint: "" }
    try {
      const { contactPoint, control, uri } = await first.serving
      assert.match(contactPoint.fingerprint, /^[0-9a-f]{64}$/)
      second.fingerprint = contactPoint.fingerprint
      const joined = await run(["join", uri, "--json"])
      assert.match(joined.stdout, /^\{"event":"joined"/)
      assert.strictEqual(joined.code, 0)
      const info = JSON.parse((await run(["remote", control, "info", "--json"])).stdout)
      assert.deepInclude(info, { name: "effect-nat", strategies: ["auto", "lan", "manual", "upnp", "natpmp", "pcp"] })
      assert.deepInclude(info.mapping, { event: "mapped", method: "lan" })
      const text = (await run(["remote", control, "info"])).stdout
      assert.match(text, /^mapping {5}mapped .* \(lan, no lease\)$/m)
      const changed = await run(["remote", control, "strategy", "manual"])
      assert.match(changed.stdout, /^changed .*\(manual, no lease\)\n$/)
      const unknown = await run(["remote", control, "strategy", "wormhole"])
      assert.match(unknown.stderr, /^effect-nat: .*no strategy "wormhole": it knows auto, .*\n$/)
      // What opens the session opens no control, and the other way round.
      assert.strictEqual((await run(["remote", uri, "info"])).code, 2)
      assert.strictEqual((await run(["join", control])).code, 2)
    } finally {
      first.child.kill("SIGINT")
      await new Promise((resolve) => first.child.on("close", resolve))
    }
    const again = serve()
    try {
      assert.strictEqual((await again.serving).contactPoint.fingerprint, second.fingerprint)
    } finally {
      again.child.kill("SIGKILL")
      rmSync(state, { recursive: true, force: true })
    }
  })

  const onTerminal = process.platform === "linux" ? it : it.skip
  const titles = process.platform === "linux" ? "" : " (skipped: needs script of util-linux)"

  onTerminal(`serve shows a QR code and a live view on a terminal, unless it shall be --plain${titles}`, async () => {
    const port = await freePort()
    const command = `exec "${process.execPath}" "${bin}" serve --strategy lan --no-beacon --port ${port}`
    const shows = (flags: string, env: Record<string, string>, until: RegExp) =>
      new Promise<string>((resolve, reject) => {
        const words = ["-qefc", `stty cols 100 rows 40; ${command} ${flags}`, "/dev/null"]
        const child = spawn("script", words, {
          stdio: ["pipe", "pipe", "inherit"],
          killSignal: "SIGKILL",
          timeout: 20_000,
          env: { ...process.env, ...env }
        })
        let stdout = ""
        child.stdout.setEncoding("utf8").on("data", (text: string) => {
          const before = stdout
          stdout += text
          // Ctrl-C as a person types it.
          if (!until.test(before) && until.test(stdout)) child.stdin.write("\u0003")
        })
        child.on("error", reject)
        child.on("close", () => resolve(stdout.replaceAll("\r\n", "\n")))
      })
    const live = await shows("", { TERM: "xterm" }, /for 0:00:01, no lease/)
    assert.match(live, /^█{40,}$/m)
    assert.match(live, /^traffic {8}0 members in 1 session, /m)
    assert.match(live, /\n[^\n]*released [^\n]*\n$/, "the view is gone when it ends")
    for (const [flags, env] of [
      ["--plain", { TERM: "xterm" }],
      ["--json", { TERM: "xterm" }],
      ["", { TERM: "dumb" }]
    ] as const) {
      const lines = await shows(flags, env, /effect-nat:\S+\s/)
      assert.notInclude(lines, escape)
      assert.notInclude(lines, "█")
    }
  })

  it("serve tells Prometheus what it counts, on loopback only", async () => {
    const [port, metrics] = [await freePort(), await freePort()]
    const args = [
      "serve",
      "--strategy",
      "lan",
      "--no-beacon",
      "--port",
      String(port),
      "--metrics-port",
      String(metrics)
    ]
    const child = spawn(process.execPath, [bin, ...args, "--json"], {
      stdio: ["ignore", "pipe", "inherit"],
      timeout: 20_000
    })
    try {
      await new Promise<void>((resolve) => {
        child.stdout
          .setEncoding("utf8")
          .on("data", (text: string) => (text.includes('"serving"') ? resolve() : undefined))
      })
      // They are brought up to date once a second.
      let text = ""
      for (let tries = 0; tries < 50 && !text.includes("effect_nat_dispatcher_sessions 1"); tries++) {
        text = await (await fetch(`http://127.0.0.1:${metrics}/metrics`)).text()
        await new Promise((resolve) => setTimeout(resolve, 100))
      }
      assert.match(text, /^effect_nat_dispatcher_sessions 1$/m)
      assert.match(text, /^effect_nat_dispatcher_clients 0$/m)
      const other = [
        "serve",
        "--strategy",
        "lan",
        "--no-beacon",
        "--port",
        String(await freePort()),
        "--metrics-port",
        String(metrics)
      ]
      const { code, stderr } = await run(other)
      assert.strictEqual(code, 1)
      assert.include(stderr, `port ${metrics} is in use on this host`)
    } finally {
      child.kill("SIGKILL")
    }
  })
})
