/**
 * Somebody on the way who reads along: `PORT ADDRESS TARGET-PORT` passes TCP connections on, and prints what each client
 * has sent when it is over, in hexadecimal digits.
 */
import { connect, createServer } from "node:net"

const [port, address, target] = process.argv.slice(2)

const server = createServer((from) => {
  const to = connect(Number(target), address)
  const sent = []
  from.on("data", (chunk) => sent.push(chunk))
  from.pipe(to)
  to.pipe(from)
  from.on("error", () => to.destroy())
  to.on("error", () => from.destroy())
  from.on("close", () => console.log(`recorded ${Buffer.concat(sent).toString("hex")}`))
})

server.listen(Number(port), () => console.log("listening"))
