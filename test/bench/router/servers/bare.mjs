// The least that a server in Node can be: it accepts connections and reads them. Prints one line of JSON: the port.
// Lives until it is ended; SIGUSR2 gives back all memory that is not in use
// (with --expose-gc).

import * as Net from "node:net"

const noop = () => {}

const server = Net.createServer((socket) => {
  socket.on("error", noop)
  socket.resume()
})

process.on("SIGUSR2", () => globalThis.gc?.({ type: "major", execution: "sync", flavor: "last-resort" }))
server.listen(0, "127.0.0.1", 4096, () => process.stdout.write(`${JSON.stringify({ port: server.address().port })}\n`))
