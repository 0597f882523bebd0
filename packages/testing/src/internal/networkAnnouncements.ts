/**
 * When the appliances of a simulated network speak up unasked.
 */
import * as NetAddress from "effect/net/NetAddress"
import type * as SimulatedDevice from "../SimulatedDevice.ts"
import * as UpnpResponder from "../UpnpResponder.ts"
import type * as VirtualTime from "./virtualTime.ts"

interface Appliance {
  readonly address: NetAddress.IpAddress
  readonly devices: ReadonlyArray<SimulatedDevice.Device>
}

/** What the network does. */
export interface Surroundings<A extends Appliance> {
  readonly time: VirtualTime.VirtualTime
  /** Whether an appliance is there, and switched on. */
  readonly isUp: (appliance: A) => boolean
  /** Whether any host of its network listens to a group. */
  readonly isHeard: (appliance: A) => boolean
  readonly send: (appliance: A, payload: Uint8Array, fromPort: number, to: NetAddress.InetAddress) => void
  /** Some time has passed. */
  readonly passed: (appliance: A) => void
}

/** Has an appliance say what an occasion asks for, and from then on what is to be repeated. */
export const make = <A extends Appliance>({ isHeard, isUp, passed, send, time }: Surroundings<A>) => {
  /** The last occasion of each: what an earlier one still has to say is not said any more. */
  const latest = new Map<A, object>()

  const announce = (appliance: A, occasion: SimulatedDevice.Occasion): void => {
    const token = {}
    latest.set(appliance, token)
    const isOver = () => latest.get(appliance) !== token
    // Whoever repeats itself to nobody would only take time.
    const speakers = occasion === "again" && !isHeard(appliance) ? [] : appliance.devices
    const said = speakers.flatMap((device) => device.announcements?.(occasion, time.now) ?? [])
    const family = NetAddress.familyOf(appliance.address)
    for (const { after = 0, fromPort, payload, to } of said) {
      if (NetAddress.familyOf(to.address) !== family) continue
      const say = () => {
        const one = isOver() || !isUp(appliance) ? undefined : payload(time.now)
        if (one !== undefined) send(appliance, one, fromPort, to)
      }
      if (occasion === "end") say()
      else time.after(after, say)
    }
    if (occasion === "end") return void latest.delete(appliance)
    time.afterInBackground(UpnpResponder.aliveInterval, () => {
      if (isOver()) return
      passed(appliance)
      announce(appliance, "again")
    })
  }

  return {
    announce,
    /** Nothing more is said. */
    forget: (appliance: A): void => void latest.delete(appliance)
  }
}
