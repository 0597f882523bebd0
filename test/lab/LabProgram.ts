/**
 * The program in the lab: where it is, and which daemon each of its strategies needs.
 */
import { fileURLToPath } from "node:url"

export const bin = fileURLToPath(new URL("../../packages/nat/bin/effect-nat.js", import.meta.url))

export const daemons = {
  upnp: { upnp: true, natpmp: false },
  natpmp: { upnp: false, natpmp: true },
  pcp: { upnp: false, natpmp: true },
  auto: { upnp: true, natpmp: true }
} as const
