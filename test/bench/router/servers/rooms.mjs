// A room server as it is usually written on `ws`: each message goes to every client of the room that the path names, with
// a `send` for each. Prints one line of JSON: the port. Lives until it is ended.

import { WebSocketServer } from "ws"

const rooms = new Map()
const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: false })

server.on("connection", (client, request) => {
  const room = rooms.get(request.url) ?? new Set()
  rooms.set(request.url, room)
  room.add(client)
  client.on("message", (data) => {
    for (const one of room) one.send(data)
  })
  client.on("error", () => {})
  client.on("close", () => {
    room.delete(client)
    if (room.size === 0) rooms.delete(request.url)
  })
})

server.on("listening", () => process.stdout.write(`${JSON.stringify({ port: server.address().port })}\n`))
