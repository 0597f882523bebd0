// Maps one port by @achingbrain/nat-port-mapper, and prints how long that took in this process, in milliseconds, the
// external address, and the external port. The mapping stays: the benchmark removes it. Over NAT-PMP it is told its
// gateway, which it cannot find itself.
//
//   nat-port-mapper.mjs INTERNAL-ADDRESS PORT ROUTER upnp|natpmp

import { pmpNat, upnpNat } from "@achingbrain/nat-port-mapper"

const start = performance.now()

const [, , address, port, router, method] = process.argv

const gateways =
  method === "natpmp" ? [pmpNat(router)] : upnpNat().findGateways({ signal: AbortSignal.timeout(10_000) })

for await (const gateway of gateways) {
  // What `map` returns holds the external address: asking for it again would cost this library an exchange more.
  const mapping = await gateway.map(Number(port), address, { protocol: "tcp", externalPort: Number(port) })
  const known = performance.now()
  const words = [known - start, mapping.externalHost, mapping.externalPort]
  process.stdout.write(`${words.join(" ")}\n`, () => process.exit(0))
}
