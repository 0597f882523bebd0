/**
 * Connections from both sides of the router that a real forwarder, haproxy, passes on to a listener on loopback.
 */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import * as Lab from "./Lab.ts"
import { bin } from "./LabProgram.ts"
import { labSuite } from "./LabSuite.ts"

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url))

/** What haproxy checks on its own account comes with a header too, which says that nobody is behind it. */
const configuration = (port: number, target: number) => `
defaults
  mode tcp
  timeout connect 5s
  timeout client 20s
  timeout server 20s
listen dispatcher
  bind 192.168.77.2:${port}
  server own 127.0.0.1:${target} send-proxy-v2 check check-send-proxy inter 500ms
`

/** Connects, says one thing, over TLS or without, and waits for the end. */
const client = `
const [host, port, how, word] = process.argv.slice(1)
const options = { host, port: Number(port), rejectUnauthorized: false }
const { connect } = await import(how === "tls" ? "node:tls" : "node:net")
const socket = connect(options, () => socket.write(word))
socket.resume().once("end", () => console.log("done"))
`

const say = (lab: Lab.LabService, host: Lab.Host, address: string, how: "tcp" | "tls", word: string) =>
  lab.exec(host, process.execPath, ["--input-type=module", "-e", client, address, "12000", how, word])

labSuite(
  "a listener behind haproxy",
  () => {
    it.live(
      "knows who connects from the wan and from the lan, over TCP and TLS, and the forwarder's own checks from both",
      () =>
        Effect.gen(function* () {
          const lab = yield* Lab.make({ daemon: { upnp: false, natpmp: true } })
          const listener = yield* lab.spawn("lan", process.execPath, [path("proxy-agent.ts"), "12010"])
          yield* listener.awaitLine("listening", { timeout: "15 seconds" })
          const file = Path.join(lab.directory, "haproxy.cfg")
          Fs.writeFileSync(file, configuration(12000, 12010))
          yield* lab.spawn("lan", "haproxy", ["-db", "-f", file])
          yield* listener.awaitLine("connection from somewhere", { timeout: "15 seconds" })
          const mapping = yield* lab.spawn("lan", process.execPath, [bin, "map", "12000", "--strategy", "natpmp"])
          yield* mapping.awaitLine(/^mapped /, { timeout: "15 seconds" })

          yield* say(lab, "wan", lab.addresses.external, "tcp", "plain")
          yield* listener.awaitLine(`${lab.addresses.wan} says plain`)
          yield* say(lab, "wan", lab.addresses.external, "tls", "secret")
          yield* listener.awaitLine(`${lab.addresses.wan} says secret`)
          yield* say(lab, "lan", lab.addresses.lan, "tcp", "inside")
          yield* listener.awaitLine(`${lab.addresses.lan} says inside`)
          // Never the forwarder itself, from which all of them come.
          assert.notInclude(yield* listener.stdout, "127.0.0.1")
        }),
      60_000
    )
  },
  ["haproxy"]
)
