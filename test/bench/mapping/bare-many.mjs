// Sends the requests of many NAT-PMP mappings one after the other, holds and renews nothing, and deletes them: what the
// router alone takes. Prints the milliseconds that mapping and deleting took for each.
//
//   bare-many.mjs INTERNAL-ADDRESS FIRST-PORT ROUTER natpmp COUNT LEASE-SECONDS

import { createSocket } from "node:dgram"

const [, , , first, router, , count, lease] = process.argv

const ports = Array.from({ length: Number(count) }, (_, index) => Number(first) + index)

const socket = createSocket("udp4")
await new Promise((resolve) => socket.connect(5351, router, resolve))

const mapTcp = (port, externalPort, seconds) => {
  const request = Buffer.alloc(12)
  request[1] = 2
  request.writeUInt16BE(port, 4)
  request.writeUInt16BE(externalPort, 6)
  request.writeUInt32BE(seconds, 8)
  return request
}

const ask = (request) =>
  new Promise((resolve) => {
    socket.once("message", resolve)
    socket.send(request)
  })

const timed = async (requests) => {
  const start = performance.now()
  for (const request of requests) await ask(request)
  return (performance.now() - start) / requests.length
}

const mapped = await timed(ports.map((port) => mapTcp(port, port, Number(lease))))
const released = await timed(ports.map((port) => mapTcp(port, 0, 0)))
process.stdout.write(`${mapped} ${released} 0\n`, () => process.exit(0))
