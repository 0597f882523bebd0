/**
 * A forwarder that does not know for whom it forwards: `PORT TARGET-PORT` takes TCP connections and passes them on over
 * loopback, each behind a header of the PROXY protocol, version 2, that says LOCAL and no more.
 */
import { connect, createServer } from "node:net"

const [port, target] = process.argv.slice(2).map(Number)

const local = Buffer.from("0d0a0d0a000d0a515549540a20000000", "hex")

const server = createServer((from) => {
  const to = connect(target, "127.0.0.1")
  to.write(local)
  from.pipe(to)
  to.pipe(from)
  from.on("error", () => to.destroy())
  to.on("error", () => from.destroy())
})

server.listen(port, () => console.log("listening"))
