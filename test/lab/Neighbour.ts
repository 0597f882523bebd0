/**
 * Another host on the lan of a lab, `192.168.77.3`: the lan host becomes a bridge between it and the router.
 */
import * as Effect from "effect/Effect"
import type * as Lab from "./Lab.ts"
import * as LabProcess from "./LabProcess.ts"

/** A host beside the lan host. */
export interface Neighbour {
  readonly address: string
  readonly spawn: typeof LabProcess.spawn
  readonly exec: typeof LabProcess.exec
}

/** Its namespace goes with the scope; what a killed run leaves of it is swept with the lab's own. */
export const make = Effect.fnUntraced(function* (lab: Lab.LabService) {
  const name = `${lab.namespaces.lan}2`
  const address = lab.addresses.lan.replace(/\d+$/, "3")
  yield* Effect.acquireRelease(LabProcess.exec("ip", ["netns", "add", name]), () =>
    Effect.orDie(LabProcess.exec("ip", ["netns", "del", name]))
  )
  yield* lab.exec("lan", "ip", ["-batch", "-"], {
    stdin: [
      "link add br0 type bridge",
      `link add side type veth peer name eth0 netns ${name}`,
      `addr del ${lab.addresses.lan}/24 dev eth0`,
      "link set eth0 master br0",
      "link set side master br0",
      `addr add ${lab.addresses.lan}/24 dev br0`,
      "link set side up",
      "link set br0 up",
      `route add default via ${lab.addresses.gateway}`,
      ""
    ].join("\n")
  })
  yield* LabProcess.exec("ip", ["-n", name, "-batch", "-"], {
    stdin: [
      "link set lo up",
      `addr add ${address}/24 dev eth0`,
      "link set eth0 up",
      `route add default via ${lab.addresses.gateway}`,
      ""
    ].join("\n")
  })
  const within = (command: string, args: ReadonlyArray<string> = []) => ["netns", "exec", name, command, ...args]
  const neighbour: Neighbour = {
    address,
    spawn: (command, args, options) => LabProcess.spawn("ip", within(command, args), options),
    exec: (command, args, options) => LabProcess.exec("ip", within(command, args), options)
  }
  return neighbour
})
