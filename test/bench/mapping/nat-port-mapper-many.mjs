// Maps many ports at once by @achingbrain/nat-port-mapper over NAT-PMP, holds them until each has been renewed, releases
// them, and prints the milliseconds that mapping and releasing took for each. It writes its milliseconds into the field
// where the protocol has seconds: so the leases are longer on the router, and are renewed in time all the same.
//
//   nat-port-mapper-many.mjs INTERNAL-ADDRESS FIRST-PORT ROUTER natpmp COUNT LEASE-SECONDS

import { pmpNat } from "@achingbrain/nat-port-mapper"

const [, , address, first, router, , count, lease] = process.argv

const ttl = Number(lease) * 1000

const start = performance.now()
const gateway = pmpNat(router, { ttl, refreshThreshold: ttl / 2 })
const ports = Array.from({ length: Number(count) }, (_, index) => Number(first) + index)
await Promise.all(ports.map((port) => gateway.map(port, address, { protocol: "tcp", externalPort: port })))
const mapped = performance.now()
await new Promise((resolve) => setTimeout(resolve, ttl * 0.7))
const end = performance.now()
await gateway.stop()
const released = performance.now()
const words = [(mapped - start) / Number(count), (released - end) / Number(count), 0]
process.stdout.write(`${words.join(" ")}\n`, () => process.exit(0))
