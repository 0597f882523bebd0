// The small program the lab runs inside its namespaces: echo servers, reachability probes, and the question whether
// the router's daemon answers. Plain JavaScript on Node's own modules, so that it starts fast and on any Node.
//
//   agent.mjs tcp-echo|udp-echo ADDRESS PORT                 prints "listening PORT", then echoes until killed
//   agent.mjs tcp-probe|udp-probe ADDRESS PORT MS SOURCEPORT prints "reachable", "refused" or "silent"
//   agent.mjs ready GATEWAY SERVICES MS                      SERVICES: "upnp", "natpmp" or "upnp,natpmp"; prints JSON

import { randomUUID } from "node:crypto"
import dgram from "node:dgram"
import http from "node:http"
import net from "node:net"

const [mode, ...args] = process.argv.slice(2)

const refusals = new Set(["ECONNREFUSED", "ECONNRESET", "EHOSTUNREACH", "ENETUNREACH", "EPIPE"])

const finish = (text) => process.stdout.write(`${text}\n`, () => process.exit(0))

const abort = (text) => process.stderr.write(`${text}\n`, () => process.exit(1))

const tcpEcho = (address, port) => {
  const server = net.createServer((socket) => {
    socket.on("error", () => socket.destroy())
    socket.pipe(socket)
  })
  server.on("error", (error) => abort(error.message))
  server.listen(port, address, () => console.log(`listening ${server.address().port}`))
}

const udpSocket = (address) => dgram.createSocket(net.isIPv6(address) ? "udp6" : "udp4")

const udpEcho = (address, port) => {
  const socket = udpSocket(address)
  socket.on("error", (error) => abort(error.message))
  socket.on("message", (message, from) => socket.send(message, from.port, from.address, () => {}))
  socket.bind(port, address, () => console.log(`listening ${socket.address().port}`))
}

const tcpProbe = (address, port, timeout, sourcePort) => {
  const token = randomUUID()
  let answer = ""
  setTimeout(() => finish("silent"), timeout)
  const socket = net.connect({ host: address, port, ...(sourcePort === 0 ? {} : { localPort: sourcePort }) })
  socket.on("connect", () => socket.write(token))
  socket.on("data", (data) => {
    answer += data
    if (answer === token) finish("reachable")
  })
  socket.on("end", () => finish("refused"))
  socket.on("error", (error) => (refusals.has(error.code) ? finish("refused") : abort(error.message)))
}

const udpProbe = (address, port, timeout, sourcePort) => {
  const token = randomUUID()
  const socket = udpSocket(address)
  setTimeout(() => finish("silent"), timeout)
  socket.on("message", (data) => {
    if (data.toString() === token) finish("reachable")
  })
  socket.on("error", (error) => (refusals.has(error.code) ? finish("refused") : abort(error.message)))
  socket.bind(sourcePort, () =>
    socket.connect(port, address, () => {
      const send = () => socket.send(token, () => {})
      send()
      setInterval(send, 250)
    })
  )
}

const askNatPmp = (gateway) =>
  new Promise((resolve) => {
    const socket = dgram.createSocket("udp4")
    socket.on("error", () => resolve(undefined))
    socket.on("message", (reply) => {
      socket.close()
      resolve(reply.length >= 12 && reply[1] === 128 ? { epoch: reply.readUInt32BE(4) } : undefined)
    })
    socket.connect(5351, gateway, () => socket.send(Buffer.from([0, 0]), () => {}))
  })

const fetchStatus = (url) =>
  new Promise((resolve) => {
    http
      .get(url, (response) => {
        response.resume()
        response.on("end", () => resolve(response.statusCode))
      })
      .on("error", () => resolve(undefined))
  })

const askUpnp = (gateway) =>
  new Promise((resolve) => {
    const socket = dgram.createSocket("udp4")
    socket.on("error", () => resolve(undefined))
    socket.on("message", async (reply) => {
      socket.close()
      const location = /^location:\s*(\S+)/im.exec(reply.toString())?.[1]
      resolve(location !== undefined && (await fetchStatus(location)) === 200 ? { location } : undefined)
    })
    const search = [
      "M-SEARCH * HTTP/1.1",
      "HOST: 239.255.255.250:1900",
      'MAN: "ssdp:discover"',
      "MX: 1",
      "ST: upnp:rootdevice",
      "",
      ""
    ].join("\r\n")
    socket.connect(1900, gateway, () => socket.send(search, () => {}))
  })

const pause = (millis) => new Promise((resolve) => setTimeout(resolve, millis, undefined))

const ready = async (gateway, services, timeout) => {
  setTimeout(() => abort(`no answer over ${services} within ${timeout} ms`), timeout)
  const until = async (ask) => {
    for (;;) {
      const answer = await Promise.race([ask(gateway), pause(200)])
      if (answer !== undefined) return answer
      await pause(15)
    }
  }
  const answers = await Promise.all([
    services.includes("upnp") ? until(askUpnp) : {},
    services.includes("natpmp") ? until(askNatPmp) : {}
  ])
  finish(JSON.stringify(Object.assign({}, ...answers)))
}

switch (mode) {
  case "tcp-echo":
    tcpEcho(args[0], Number(args[1]))
    break
  case "udp-echo":
    udpEcho(args[0], Number(args[1]))
    break
  case "tcp-probe":
    tcpProbe(args[0], Number(args[1]), Number(args[2]), Number(args[3]))
    break
  case "udp-probe":
    udpProbe(args[0], Number(args[1]), Number(args[2]), Number(args[3]))
    break
  case "ready":
    void ready(args[0], args[1].split(","), Number(args[2]))
    break
  default:
    abort(`unknown mode: ${mode}`)
}
