/**
 * Device descriptions in the shapes that routers give them, each with what has to be read from it. Vendors, names and
 * addresses are invented. All were fetched from `location`.
 */
import * as Network from "../network.ts"

export const location = "http://192.168.1.1:5000/igd/desc.xml"

export interface Description {
  readonly what: string
  readonly body: string | Uint8Array
  /** What is read; a text is a part of the reason for which it is refused. */
  readonly expected: Expected | string
}

export interface Expected {
  /** The friendly name of the root device. */
  readonly name?: string
  /**
   * All services in the document's order, as `type control-url`; the part before the last but one colon is left out.
   */
  readonly services?: ReadonlyArray<string>
  /** The services that map ports, the likeliest first, as `kind version control-url`. */
  readonly wan: ReadonlyArray<string>
  /** Control URLs to try when nobody listens, as `url instead of url`. */
  readonly others?: ReadonlyArray<string>
}

const at = "http://192.168.1.1:5000"

const urn = (type: string): string => (type.startsWith("urn:") ? type : `urn:schemas-upnp-org:service:${type}`)

const service = (type: string, controlUrl: string): string =>
  `<service><serviceType>${urn(type)}</serviceType><serviceId>urn:upnp-org:serviceId:${type.split(":")[0]}</serviceId>` +
  `<SCPDURL>/scpd.xml</SCPDURL><controlURL>${controlUrl}</controlURL><eventSubURL>/evt</eventSubURL></service>`

const device = (type: string, services: string, embedded = "", more = ""): string =>
  `<device><deviceType>urn:schemas-upnp-org:device:${type}</deviceType><friendlyName>${type}</friendlyName>` +
  `<manufacturer>Example Networks</manufacturer><modelName>EX-1</modelName><UDN>uuid:${type}</UDN>${more}` +
  (services === "" ? "" : `<serviceList>${services}</serviceList>`) +
  (embedded === "" ? "" : `<deviceList>${embedded}</deviceList>`) +
  `</device>`

const root = (inside: string, base?: string): string =>
  `<?xml version="1.0"?>\n<root xmlns="urn:schemas-upnp-org:device-1-0"><specVersion><major>1</major><minor>0</minor></specVersion>` +
  `${base === undefined ? "" : `<URLBase>${base}</URLBase>`}${inside}</root>`

/** The three devices of the document around the services of the innermost. */
const igd = (connection: string, base?: string): string =>
  root(
    device("InternetGatewayDevice:1", "", device("WANDevice:1", "", device("WANConnectionDevice:1", connection))),
    base
  )

const oneIp = (controlUrl: string, base?: string): string => igd(service("WANIPConnection:1", controlUrl), base)

const plain = oneIp("/ctl/ip")
const plainExpected: Expected = { wan: [`ip 1 ${at}/ctl/ip`], services: [`WANIPConnection:1 ${at}/ctl/ip`] }

const named = (name: string): string =>
  plain.replace("<friendlyName>InternetGatewayDevice:1<", `<friendlyName>${name}<`)

const latin1 = (text: string): Uint8Array => Uint8Array.from(text, (char) => char.charCodeAt(0))

const utf16be = (text: string): Uint8Array =>
  Uint8Array.from([0xfe, 0xff, ...[...text].flatMap((char) => [char.charCodeAt(0) >> 8, char.charCodeAt(0) & 0xff])])

const icon = (index: number): string =>
  `<icon><mimetype>image/png</mimetype><width>${index}</width><height>${index}</height><depth>24</depth><url>/icons/${index}.png</url></icon>`

const wellFormed: ReadonlyArray<Description> = [
  {
    what: "the document's example: three devices deep, the usual services around",
    body: `<?xml version="1.0" encoding="utf-8"?>
<root xmlns="urn:schemas-upnp-org:device-1-0">
  <specVersion>
    <major>1</major>
    <minor>0</minor>
  </specVersion>
  <device>
    <deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType>
    <friendlyName>Harbour Router</friendlyName>
    <manufacturer>Harbour Networks</manufacturer>
    <manufacturerURL>http://harbour.example/</manufacturerURL>
    <modelDescription>Gigabit router</modelDescription>
    <modelName>HR-200</modelName>
    <modelNumber>1.10</modelNumber>
    <serialNumber>00000001</serialNumber>
    <UDN>uuid:0a0a0a0a-0000-4000-8000-000000000001</UDN>
    <serviceList>
      <service>
        <serviceType>urn:schemas-upnp-org:service:Layer3Forwarding:1</serviceType>
        <serviceId>urn:upnp-org:serviceId:L3Forwarding1</serviceId>
        <SCPDURL>/L3F.xml</SCPDURL>
        <controlURL>/ctl/L3F</controlURL>
        <eventSubURL>/evt/L3F</eventSubURL>
      </service>
    </serviceList>
    <deviceList>
      <device>
        <deviceType>urn:schemas-upnp-org:device:WANDevice:1</deviceType>
        <friendlyName>WANDevice</friendlyName>
        <UDN>uuid:0a0a0a0a-0000-4000-8000-000000000002</UDN>
        <serviceList>
          <service>
            <serviceType>urn:schemas-upnp-org:service:WANCommonInterfaceConfig:1</serviceType>
            <serviceId>urn:upnp-org:serviceId:WANCommonIFC1</serviceId>
            <SCPDURL>/WANCfg.xml</SCPDURL>
            <controlURL>/ctl/CmnIfCfg</controlURL>
            <eventSubURL>/evt/CmnIfCfg</eventSubURL>
          </service>
        </serviceList>
        <deviceList>
          <device>
            <deviceType>urn:schemas-upnp-org:device:WANConnectionDevice:1</deviceType>
            <friendlyName>WANConnectionDevice</friendlyName>
            <UDN>uuid:0a0a0a0a-0000-4000-8000-000000000003</UDN>
            <serviceList>
              <service>
                <serviceType>urn:schemas-upnp-org:service:WANEthernetLinkConfig:1</serviceType>
                <serviceId>urn:upnp-org:serviceId:WANEthLinkC1</serviceId>
                <SCPDURL>/EthLink.xml</SCPDURL>
                <controlURL>/ctl/EthLink</controlURL>
                <eventSubURL>/evt/EthLink</eventSubURL>
              </service>
              <service>
                <serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>
                <serviceId>urn:upnp-org:serviceId:WANIPConn1</serviceId>
                <SCPDURL>/WANIPCn.xml</SCPDURL>
                <controlURL>/ctl/IPConn</controlURL>
                <eventSubURL>/evt/IPConn</eventSubURL>
              </service>
            </serviceList>
          </device>
        </deviceList>
      </device>
    </deviceList>
    <presentationURL>http://192.168.1.1/</presentationURL>
  </device>
</root>
`,
    expected: {
      name: "Harbour Router",
      services: [
        `Layer3Forwarding:1 ${at}/ctl/L3F`,
        `WANCommonInterfaceConfig:1 ${at}/ctl/CmnIfCfg`,
        `WANEthernetLinkConfig:1 ${at}/ctl/EthLink`,
        `WANIPConnection:1 ${at}/ctl/IPConn`
      ],
      wan: [`ip 1 ${at}/ctl/IPConn`]
    }
  },
  {
    what: "version 2 with an IPv6 firewall, device protection and the LAN's own device",
    body: root(
      device(
        "InternetGatewayDevice:2",
        service("Layer3Forwarding:1", "/ctl/L3F") + service("DeviceProtection:1", "/ctl/DP"),
        device("LANDevice:1", service("LANHostConfigManagement:1", "/ctl/LAN")) +
          device(
            "WANDevice:2",
            service("WANCommonInterfaceConfig:1", "/ctl/CmnIfCfg"),
            device(
              "WANConnectionDevice:2",
              service("WANIPConnection:2", "/ctl/IPConn") + service("WANIPv6FirewallControl:1", "/ctl/IP6FCtl")
            )
          )
      )
    ),
    expected: {
      services: [
        `Layer3Forwarding:1 ${at}/ctl/L3F`,
        `DeviceProtection:1 ${at}/ctl/DP`,
        `LANHostConfigManagement:1 ${at}/ctl/LAN`,
        `WANCommonInterfaceConfig:1 ${at}/ctl/CmnIfCfg`,
        `WANIPConnection:2 ${at}/ctl/IPConn`,
        `WANIPv6FirewallControl:1 ${at}/ctl/IP6FCtl`
      ],
      wan: [`ip 2 ${at}/ctl/IPConn`]
    }
  },
  {
    what: "a DSL modem with a link, a PPP and an IP connection",
    body: igd(
      service("WANDSLLinkConfig:1", "/dsl") +
        service("WANPPPConnection:1", "/ppp") +
        service("WANIPConnection:1", "/ip")
    ),
    expected: {
      services: [`WANDSLLinkConfig:1 ${at}/dsl`, `WANPPPConnection:1 ${at}/ppp`, `WANIPConnection:1 ${at}/ip`],
      wan: [`ip 1 ${at}/ip`, `ppp 1 ${at}/ppp`]
    }
  },
  { what: "PPP alone", body: igd(service("WANPPPConnection:1", "/ppp")), expected: { wan: [`ppp 1 ${at}/ppp`] } },
  {
    what: "both versions of one connection at one control URL",
    body: igd(service("WANIPConnection:1", "/ip") + service("WANIPConnection:2", "/ip")),
    expected: { wan: [`ip 2 ${at}/ip`, `ip 1 ${at}/ip`] }
  },
  {
    what: "two lines, each with a connection",
    body: root(
      device(
        "InternetGatewayDevice:1",
        "",
        device(
          "WANDevice:1",
          service("WANCommonInterfaceConfig:1", "/c1"),
          device("WANConnectionDevice:1", service("WANIPConnection:1", "/ip1"))
        ) +
          device(
            "WANDevice:1",
            service("WANCommonInterfaceConfig:1", "/c2"),
            device("WANConnectionDevice:1", service("WANIPConnection:1", "/ip2"))
          )
      )
    ),
    expected: { wan: [`ip 1 ${at}/ip1`, `ip 1 ${at}/ip2`] }
  },
  {
    what: "services of the vendor's own around",
    body: root(
      device(
        "InternetGatewayDevice:1",
        service("urn:schemas-example-com:service:Any:1", "/any"),
        device(
          "WANDevice:1",
          "",
          device(
            "WANConnectionDevice:1",
            service("urn:schemas-example-com:service:WANIPConnection:1", "/evil") +
              service("urn:dslforum-org:service:WANIPConnection:1", "/tr064") +
              service("WANIPConnection:1", "/igdupnp/control/WANIPConn1")
          )
        )
      )
    ),
    expected: { wan: [`ip 1 ${at}/igdupnp/control/WANIPConn1`] }
  },
  {
    what: "connections at the root device",
    body: root(device("InternetGatewayDevice:1", service("WANIPConnection:1", "/ip"))),
    expected: { wan: [`ip 1 ${at}/ip`] }
  },
  {
    what: "a version that is not written yet",
    body: igd(service("WANIPConnection:3", "/ip")),
    expected: { wan: [`ip 3 ${at}/ip`] }
  },
  {
    what: "types in odd case",
    body: igd(service("urn:schemas-upnp-org:service:WanIpConnection:1", "/ip")),
    expected: { wan: [`ip 1 ${at}/ip`] }
  },
  {
    what: "a media server",
    body: root(device("MediaServer:1", service("ContentDirectory:1", "/cd"))),
    expected: { services: [`ContentDirectory:1 ${at}/cd`], wan: [] }
  },
  {
    what: "a list of four hundred icons",
    body: plain.replace(
      "<deviceList>",
      `<iconList>${Array.from({ length: 400 }, (_, n) => icon(n)).join("")}</iconList><deviceList>`
    ),
    expected: plainExpected
  }
]

const urls: ReadonlyArray<Description> = [
  {
    what: "control URLs without a leading slash",
    body: oneIp("upnp/control?WANIPConn1"),
    expected: { wan: [`ip 1 ${at}/igd/upnp/control?WANIPConn1`] }
  },
  {
    what: "absolute control URLs",
    body: oneIp("http://192.168.1.1:49152/ctl/ip"),
    expected: { wan: ["ip 1 http://192.168.1.1:49152/ctl/ip"] }
  },
  {
    what: "absolute control URLs with a name",
    body: oneIp("http://router.example:5000/ctl/ip"),
    expected: { wan: [`ip 1 ${at}/ctl/ip`] }
  },
  {
    what: "absolute control URLs at the router's other address",
    body: oneIp("http://10.0.0.1:5000/ctl/ip"),
    expected: { wan: [`ip 1 ${at}/ctl/ip`] }
  },
  {
    what: "control URLs with line ends around",
    body: oneIp("\r\n\t\t/ctl/ip\r\n\t"),
    expected: plainExpected
  },
  {
    what: "control URLs in CDATA, with an ampersand",
    body: oneIp("<![CDATA[/ctl?a=1&b=2]]>"),
    expected: { wan: [`ip 1 ${at}/ctl?a=1&b=2`] }
  },
  {
    what: "bare ampersands in names and URLs",
    body: oneIp("/ctl?a=1&b=2").replace("<friendlyName>InternetGatewayDevice:1<", "<friendlyName>R&D router & more<"),
    expected: { name: "R&D router & more", wan: [`ip 1 ${at}/ctl?a=1&b=2`] }
  },
  {
    what: "a URLBase that is where the description is",
    body: oneIp("/ctl/ip", `${at}/`),
    expected: { ...plainExpected, others: [] }
  },
  {
    what: "a URLBase with a path",
    body: oneIp("ctl/ip", `${at}/base/`),
    expected: { wan: [`ip 1 ${at}/base/ctl/ip`], others: [`${at}/igd/ctl/ip instead of ${at}/base/ctl/ip`] }
  },
  {
    what: "a URLBase without a slash at the end",
    body: oneIp("ctl/ip", at),
    expected: { wan: [`ip 1 ${at}/ctl/ip`], others: [`${at}/igd/ctl/ip instead of ${at}/ctl/ip`] }
  },
  {
    what: "a URLBase with a port on which nobody may listen",
    body: oneIp("/ctl/ip", "http://192.168.1.1:2869/"),
    expected: {
      wan: ["ip 1 http://192.168.1.1:2869/ctl/ip"],
      others: [`${at}/ctl/ip instead of http://192.168.1.1:2869/ctl/ip`]
    }
  },
  {
    what: "a URLBase with another port, and absolute control URLs",
    body: oneIp(`${at}/ctl/ip`, "http://192.168.1.1:2869/"),
    expected: { ...plainExpected, others: [] }
  },
  { what: "an empty URLBase", body: oneIp("/ctl/ip", ""), expected: { ...plainExpected, others: [] } },
  {
    what: "a URLBase on another host",
    body: oneIp("/ctl/ip", "http://192.168.0.1:80/"),
    expected: { ...plainExpected, others: [] }
  },
  {
    what: "a URLBase with a name",
    body: oneIp("/ctl/ip", "http://router.example:80/"),
    expected: { ...plainExpected, others: [] }
  },
  {
    what: "a URLBase of the internet",
    body: oneIp("http://8.8.8.8/ctl", "http://8.8.8.8/"),
    expected: { wan: ["ip 1 http://192.168.1.1:80/ctl"], others: [] }
  },
  {
    what: "a URLBase that is no URL",
    body: oneIp("/ctl/ip", "0.0.0.0:0"),
    expected: { ...plainExpected, others: [] }
  },
  {
    what: "a control URL of another scheme beside a good one",
    body: igd(service("WANIPConnection:1", "https://192.168.1.1/ctl") + service("WANPPPConnection:1", "/ppp")),
    expected: { wan: [`ppp 1 ${at}/ppp`] }
  }
]

const dirty: ReadonlyArray<Description> = [
  { what: "a byte order mark", body: `\ufeff${plain}`, expected: plainExpected },
  { what: "a tab before the declaration", body: `\t${plain}`, expected: plainExpected },
  { what: "empty lines before the declaration", body: `\r\n\r\n${plain}`, expected: plainExpected },
  { what: "no declaration", body: plain.slice(plain.indexOf("<root")), expected: plainExpected },
  { what: "zero bytes at the end", body: `${plain}\n\u0000\u0000\u0000`, expected: plainExpected },
  {
    what: "what was in the buffer before, behind a zero byte",
    body: `${plain}\u0000ST: upnp:rootdevice\r\n</root>`,
    expected: plainExpected
  },
  { what: "the end of the framing behind it", body: `${plain}\r\n0\r\n\r\n`, expected: plainExpected },
  {
    what: "an attribute without a value",
    body: plain.replace("<device>", "<device standalone>"),
    expected: plainExpected
  },
  { what: "CR alone as line end", body: plain.replaceAll("><", ">\r<"), expected: plainExpected },
  {
    what: "Latin-1 in a document that says UTF-8",
    body: latin1(named("Caf\u00e9 Z\u00fcrich").replace('"1.0"', '"1.0" encoding="utf-8"')),
    expected: { ...plainExpected, name: "Caf\u00e9 Z\u00fcrich" }
  },
  {
    what: "UTF-8 in a document that says Latin-1",
    body: named("Caf\u00e9").replace('"1.0"', '"1.0" encoding="iso-8859-1"'),
    expected: { ...plainExpected, name: "Caf\u00e9" }
  },
  {
    what: "a charset that nobody knows",
    body: named("Box").replace('"1.0"', '"1.0" encoding="x-vendor-8"'),
    expected: { ...plainExpected, name: "Box" }
  },
  {
    what: "UTF-16, big end first",
    body: utf16be(named("Caf\u00e9")),
    expected: { ...plainExpected, name: "Caf\u00e9" }
  },
  {
    what: "a name in CDATA with references",
    body: named("<![CDATA[Box &amp; <Co>]]> &#x2122;&#13;"),
    expected: { ...plainExpected, name: "Box &amp; <Co> \u2122" }
  },
  {
    what: "references that no document defines",
    body: named("Box &nbsp;&copy; 1"),
    expected: { ...plainExpected, name: "Box &nbsp;&copy; 1" }
  },
  {
    what: "comments with services in them",
    body: plain
      .replace(
        "<serviceList>",
        `<!-- ${service("WANIPConnection:2", "/old").replaceAll("--", "- -")} --><serviceList><!-- first -->`
      )
      .replace("<root", "<!-- made by hand -->\n<root"),
    expected: plainExpected
  },
  {
    what: "a prefix on every element",
    body: plain.replaceAll(/<(\/?)(?=[a-zA-Z])/g, "<$1d:").replace("xmlns=", "xmlns:d="),
    expected: plainExpected
  },
  {
    what: "namespaces and attributes of others",
    body: plain
      .replace("<root ", '<root xmlns:dlna="urn:schemas-dlna-org:device-1-0" configId="1337" ')
      .replace("</friendlyName>", '</friendlyName><dlna:X_DLNADOC dlna:a="1">DMS-1.50</dlna:X_DLNADOC>'),
    expected: plainExpected
  },
  {
    what: "elements in upper case",
    body: plain.replaceAll(/<(\/?)([a-zA-Z]+)/g, (_, slash: string, name: string) => `<${slash}${name.toUpperCase()}`),
    expected: plainExpected
  },
  {
    what: "a style sheet",
    body: plain.replace("?>", '?><?xml-stylesheet type="text/xsl" href="/style.xsl"?>'),
    expected: plainExpected
  },
  {
    what: "a list for each service",
    body: plain.replace(
      "<serviceList>",
      `<serviceList>${service("WANPPPConnection:1", "/ppp")}</serviceList><serviceList/><serviceList>`
    ),
    expected: { wan: [`ip 1 ${at}/ctl/ip`, `ppp 1 ${at}/ppp`] }
  },
  {
    what: "empty lists",
    body: root(
      device("InternetGatewayDevice:1", "").replace("</device>", "<serviceList/><deviceList></deviceList></device>")
    ),
    expected: { services: [], wan: [] }
  },
  {
    what: "nothing but the services",
    body: "<root><device><serviceList><service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType><controlURL>/ip</controlURL></service></serviceList></device></root>",
    expected: { name: "", wan: [`ip 1 ${at}/ip`] }
  },
  {
    what: "services without a type or a control URL",
    body: igd(
      "<service><controlURL>/x</controlURL></service><service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType></service>" +
        service("WANIPConnection:1", "/ip")
    ),
    expected: { services: [` ${at}/x`, `WANIPConnection:1 ${at}/ip`], wan: [`ip 1 ${at}/ip`] }
  },
  {
    what: "a type with line ends around",
    body: plain.replace("WANIPConnection:1<", "WANIPConnection:1\n      <"),
    expected: plainExpected
  },
  {
    what: "a name that drives a terminal, over several lines",
    body: named("Box\n &#27;]0;evil&#7;"),
    expected: { ...plainExpected, name: "Box \ufffd]0;evil\ufffd" }
  },
  {
    what: "an unquoted attribute value",
    body: plain.replace("<device>", "<device id=7>"),
    expected: "not well-formed"
  }
]

const laughs = `<!DOCTYPE root [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;">]>`

const refused: ReadonlyArray<Description> = [
  { what: "a DOCTYPE", body: plain.replace("<root", "<!DOCTYPE root>\n<root"), expected: "DOCTYPE" },
  {
    what: "an entity of a file",
    body: named("&x;").replace("<root", '<!DOCTYPE root [<!ENTITY x SYSTEM "file:///etc/passwd">]><root'),
    expected: "DOCTYPE"
  },
  { what: "entities within entities", body: named("&c;").replace("<root", `${laughs}<root`), expected: "DOCTYPE" },
  {
    what: "a DOCTYPE in UTF-16",
    body: utf16be(plain.replace("<root", "<!doctype root><root")),
    expected: "DOCTYPE"
  },
  {
    what: "devices within devices without end",
    body: root(`${"<device><deviceList>".repeat(200)}${"</deviceList></device>".repeat(200)}`),
    expected: "cannot be read"
  },
  { what: "a body that breaks off", body: plain.slice(0, 700), expected: "not well-formed" },
  {
    what: "elements that cross",
    body: plain.replace("</service></serviceList>", "</serviceList></service>"),
    expected: "not well-formed"
  },
  { what: "two documents in one", body: plain + plain.slice(plain.indexOf("<root")), expected: "" },
  { what: "no device", body: root(""), expected: "no device" },
  {
    what: "a login page",
    body: "<html><head><title>Login</title></head><body><form action='/login'></form></body></html>",
    expected: "no device"
  },
  {
    what: "a modern login page",
    body: "<!DOCTYPE html><html><head><meta charset=utf-8></head><body><br>Login</body></html>",
    expected: "DOCTYPE"
  },
  { what: "a text", body: "404 Not Found\r\n", expected: "" },
  { what: "JSON", body: `{"device": {"friendlyName": "Box"}}`, expected: "" },
  { what: "nothing", body: "", expected: "" },
  { what: "zero bytes", body: new Uint8Array(512), expected: "" },
  {
    what: "a picture",
    body: Uint8Array.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0, 0, 0, 13]),
    expected: ""
  },
  { what: "two hundred kilobytes", body: named("a".repeat(200_000)), expected: "more than 131072 bytes" }
]

export const descriptions: ReadonlyArray<Description> = [...wellFormed, ...urls, ...dirty, ...refused]

export const bytesOf = ({ body }: Description): Uint8Array => (typeof body === "string" ? Network.bytes(body) : body)
