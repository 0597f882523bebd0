/**
 * How the appliances of a simulated network tell their subscribers what has changed.
 */
import type * as SimulatedDevice from "../SimulatedDevice.ts"
import type * as UpnpResponder from "../UpnpResponder.ts"
import type * as VirtualTime from "./virtualTime.ts"

interface Appliance {
  readonly devices: ReadonlyArray<SimulatedDevice.Device>
}

/** A subscriber that does not take an event in this time has missed it, in milliseconds, and keeps nobody else waiting. */
const patience = 2_000

type Callback = UpnpResponder.Notification["callbacks"][number]

/** What the network does. */
export interface Surroundings<A extends Appliance> {
  readonly time: VirtualTime.VirtualTime
  /** Sends an event to one place, and tells the status once, if ever; the result breaks the connection. */
  readonly notify: (
    appliance: A,
    callback: Callback,
    notification: UpnpResponder.Notification,
    answered: (status: number | undefined) => void
  ) => () => void
}

/** Has an appliance send what is due, one batch after the other, so that the events of a subscription keep their order. */
export const make = <A extends Appliance>({ notify, time }: Surroundings<A>) => {
  const busy = new Set<A>()

  const deliver = (appliance: A, notification: UpnpResponder.Notification, done: () => void): void => {
    const next = (index: number): void => {
      const callback = notification.callbacks[index]
      if (callback === undefined) return done()
      let isOver = false
      const answered = (status: number | undefined) => {
        if (isOver) return
        isOver = true
        giveUp()
        if (status !== undefined && status >= 200 && status < 300) done()
        else next(index + 1)
      }
      const giveUp = time.after(patience, () => {
        hangUp()
        answered(undefined)
      })
      const hangUp = notify(appliance, callback, notification, answered)
    }
    next(0)
  }

  const tell = (appliance: A): void => {
    if (busy.has(appliance)) return
    const due = appliance.devices.flatMap((device) => device.dueEvents?.(time.now) ?? [])
    let left = due.length
    if (left === 0) return
    busy.add(appliance)
    const done = () => {
      left -= 1
      if (left > 0) return
      busy.delete(appliance)
      tell(appliance)
    }
    for (const notification of due) deliver(appliance, notification, done)
  }

  return { tell }
}
