// Opens many connections from one address, so many at a time, and says what each was told:
//
//   flood-agent.mjs HOST PORT CONNECTIONS AT-A-TIME
//
// One line of JSON: how many connections ended, by the code of the reason; -1 for no word, and how many are still open.

import * as Net from "node:net"

const [host, port, connections, atATime] = process.argv.slice(2)
const ended = {}
const open = new Set()
let begun = 0

const done = () => {
  console.log(JSON.stringify({ ended, open: open.size }))
  process.exit()
}

const next = () => {
  if (begun === Number(connections)) {
    // What is told now is told soon.
    if (!next.isOver) setTimeout(done, 2000)
    next.isOver = true
    return
  }
  begun += 1
  const socket = Net.connect({ host, port: Number(port) })
  let reason = -1
  let isCounted = false
  open.add(socket)
  // Whoever is let in says nothing and stays: it has its time for a handshake.
  const goOn = () => {
    if (isCounted) return
    isCounted = true
    next()
  }
  socket.once("data", (bytes) => {
    reason = bytes[5] ?? -1
    socket.end()
  })
  socket.on("error", () => {})
  socket.once("connect", () => setTimeout(goOn, 300))
  socket.once("close", () => {
    open.delete(socket)
    ended[reason] = (ended[reason] ?? 0) + 1
    goOn()
  })
}

for (let i = 0; i < Number(atATime); i++) next()
