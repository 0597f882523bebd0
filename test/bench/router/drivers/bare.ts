/** A server that only accepts. */
import type * as Member from "../member.ts"
import type * as Driver from "./driver.ts"

export const make = (member: Member.Member): Driver.Driver => ({
  open: () => member.onReady(),
  read: (_from, to) => {
    member.fail("unexpected bytes")
    return to
  },
  encode: () => new Uint8Array(0)
})
