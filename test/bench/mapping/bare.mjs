// The least that a mapping can take on Node: four exchanges, one after the other, with ready-made requests to a router
// whose address is known, and nothing checked. No client is faster; none that can be relied on is as fast.
//
//   bare.mjs INTERNAL-ADDRESS PORT ROUTER

import dgram from "node:dgram"
import http from "node:http"

const start = performance.now()

const [, , address, port, router] = process.argv

const search = () =>
  new Promise((resolve) => {
    const socket = dgram.createSocket("udp4")
    const lines = [
      "M-SEARCH * HTTP/1.1",
      `HOST: ${router}:1900`,
      'MAN: "ssdp:discover"',
      "MX: 1",
      "ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1"
    ]
    socket.once("message", (message) => {
      socket.close()
      resolve(/^LOCATION: (\S+)/im.exec(message.toString())[1])
    })
    socket.bind({ address }, () => socket.send(`${lines.join("\r\n")}\r\n\r\n`, 1900, router))
  })

const exchange = (url, method, headers, body) =>
  new Promise((resolve, reject) => {
    const request = http.request(url, { method, headers, agent: false }, (response) => {
      let text = ""
      response.on("data", (chunk) => (text += chunk))
      response.on("end", () => resolve(text))
    })
    request.on("error", reject)
    request.end(body)
  })

const location = await search()
const description = await exchange(location, "GET", {})
const [, type, path] = /<serviceType>([^<]*:WANIPConnection:\d)<[^]*?<controlURL>([^<]+)/.exec(description)
const control = new URL(path, location)

const call = (action, content) => {
  const body = `<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body><u:${action} xmlns:u="${type}">${content}</u:${action}></s:Body></s:Envelope>`
  const headers = {
    "Content-Type": 'text/xml; charset="utf-8"',
    "Content-Length": body.length,
    SOAPAction: `"${type}#${action}"`
  }
  return exchange(control, "POST", headers, body)
}

await call(
  "AddPortMapping",
  `<NewRemoteHost></NewRemoteHost><NewExternalPort>${port}</NewExternalPort><NewProtocol>TCP</NewProtocol><NewInternalPort>${port}</NewInternalPort><NewInternalClient>${address}</NewInternalClient><NewEnabled>1</NewEnabled><NewPortMappingDescription>bare</NewPortMappingDescription><NewLeaseDuration>3600</NewLeaseDuration>`
)
const answer = await call("GetExternalIPAddress", "")
const known = performance.now()
const [, externalAddress] = /<NewExternalIPAddress>([^<]*)</.exec(answer)
process.stdout.write(`${known - start} ${externalAddress} ${port}\n`, () => process.exit(0))
