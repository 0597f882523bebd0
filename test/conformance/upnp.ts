/**
 * What UPnP's documents ask of a control point, and of a client of an Internet Gateway Device.
 */
import { must, type Page, should } from "./Conformance.ts"

const configuresNothing = "lines are not configured, connected or disconnected by this library"

const notMulticastEvents = "no service of a gateway has multicast events"

export const page: Page = {
  title: "UPnP: what the documents ask of a client",
  intro: [
    "What UPnP Device Architecture 1.1 and the documents of Internet Gateway Devices ask of control points, in our own",
    "words, by section, and the tests that show it. `npm test` fails where one of these tests fails or does not run;",
    "`npm run lint` fails where a section has no row, a row no test, or a test names a row that does not exist."
  ].join("\n"),
  documents: [
    {
      key: "UDA",
      title: "UPnP Device Architecture 1.1",
      scope: [
        "Sections 1 to 4. How a host gets its address (section 0) is the operating system's business, and pages for",
        "people (section 5) are a browser's. Sections that are not listed speak of devices only."
      ].join("\n"),
      sections: {
        "1.1.1": "start line",
        "1.1.2": "header fields",
        "1.1.3": "header field extensions",
        "1.1.5": "processing of messages",
        "1.2": "advertisement",
        "1.2.2": "ssdp:alive",
        "1.2.3": "ssdp:byebye",
        "1.2.4": "ssdp:update",
        "1.3.2": "search",
        "1.3.3": "answer to a search",
        "2.1": "use of HTTP",
        "2.2": "use of XML",
        "2.3": "device description",
        "2.5": "service description",
        "2.7": "vendors' extensions",
        "2.11": "retrieving a description",
        "3.1.1": "SOAP profile",
        "3.2.1": "action invocation",
        "3.2.2": "action response",
        "3.2.5": "action error response",
        "3.3": "query for variable",
        "4.1.1": "subscription",
        "4.1.2": "SUBSCRIBE with NT and CALLBACK",
        "4.1.3": "SUBSCRIBE with SID",
        "4.1.4": "UNSUBSCRIBE",
        "4.2": "multicast eventing",
        "4.3.1": "error cases",
        "4.3.2": "event messages, unicast",
        "4.3.3": "event messages, multicast"
      },
      requirements: {
        "1.1.1-a": must("A search begins with the line `M-SEARCH * HTTP/1.1`; lines end with CR LF."),
        "1.1.1-b": must("A datagram that begins with none of the three start lines is no message."),
        "1.1.2-a": must("Names of header fields are compared without regard to case, and their order means nothing."),
        "1.1.2-b": must("The header of a message ends with an empty line, and a search has no body."),
        "1.1.3-a": must("Header fields of vendors and of later versions are skipped."),
        "1.1.5-a": must("Messages without a field that they must have, or with nonsense in it, are dropped silently."),
        "1.2-a": must("Announcements are listened for at 239.255.255.250, port 1900, on every interface in use."),
        "1.2.2-a": should("What has not been announced again when its max-age is over is taken to be gone."),
        "1.2.2-b": must("Directives of CACHE-CONTROL other than max-age do not count."),
        "1.2.2-c": must("Where HOST has no port, 1900 is meant."),
        "1.2.2-d": must("BOOTID.UPNP.ORG is no time: only whether it has changed counts."),
        "1.2.2-e": should("Another BOOTID.UPNP.ORG means that the device restarted and lost its state."),
        "1.2.2-f": must("A description is read again when CONFIGID.UPNP.ORG has changed."),
        "1.2.2-g": must("Zeros before the number of a BOOTID, CONFIGID or NEXTBOOTID are skipped."),
        "1.2.2-h": must("A device that names a later minor version of UPnP is taken all the same."),
        "1.2.2-i": must("USN says which device speaks: what stands before its two colons."),
        "1.2.3-a": should("A device that says ssdp:byebye is gone at once."),
        "1.2.4-a": must("After ssdp:update, NEXTBOOTID.UPNP.ORG is the boot id to expect, and is no restart."),
        "1.3.2-a": must('A search has HOST, MAN with the value "ssdp:discover" in quotes, and ST.'),
        "1.3.2-b": must("A multicast search is sent to 239.255.255.250:1900, and HOST says so."),
        "1.3.2-c": must("A multicast search has an MX of at least 1."),
        "1.3.2-d": should("MX is at most 5."),
        "1.3.2-e": should("A search is sent more than once, since datagrams get lost."),
        "1.3.2-f": should("Multicast searches have a TTL of 2."),
        "1.3.2-g": should("The TTL can be configured."),
        "1.3.2-h": must("A unicast search has the device's address and port in HOST."),
        "1.3.2-i": must(
          "A unicast search goes to port 1900, or to SEARCHPORT.UPNP.ORG where the device has named one."
        ),
        "1.3.2-j": should("Answers to a unicast search are waited for at least a second."),
        "1.3.2-k": should("Answers to a multicast search are waited for at least as long as its MX says."),
        "1.3.2-l": must(
          "ST is ssdp:all, upnp:rootdevice, a uuid, or the type of a device or service with its version."
        ),
        "1.3.2-m": must("A host in several networks searches on each of its interfaces."),
        "1.3.2-n": must(
          "USER-AGENT, where it is sent, begins with operating system, UPnP/1.1 and product.",
          "it is optional, and not sent: a router has no use for what runs on its hosts"
        ),
        "1.3.3-a": must("An answer to a search is read from whatever port it comes."),
        "1.3.3-b": must("An answer counts with EXT, and from devices of version 1.0 without BOOTID and CONFIGID."),
        "1.3.3-c": should("Each of a device's many answers may be the first, and none of them is the device again."),
        "1.3.3-d": should("What was found by a search is gone when the max-age of its answer is over."),

        "2.1-a": must("Requests are HTTP/1.1 requests with a HOST."),
        "2.1-b": must("Answers in chunks are read."),
        "2.1-c": must("Answers of HTTP/1.0, and with a connection that ends with them, are read."),
        "2.1-d": must("Interim answers are passed over."),
        "2.1-e": must(
          "USER-AGENT, where it is sent, begins with operating system, UPnP/1.1 and product.",
          "it is optional, and not sent"
        ),
        "2.2-a": must("Elements and attributes that are not known are skipped, with all that is in them."),
        "2.2-b": must("Comments and processing instructions are skipped."),
        "2.2-c": must("UTF-8 is read, with a byte order mark or without, whatever prefixes namespaces have."),
        "2.2-d": must("What XML gives a meaning to is escaped in what is sent."),
        "2.3-a": must("Relative URLs are resolved against the description's own URL."),
        "2.3-b": must("Relative URLs are resolved against URLBase where a device of version 1.0 gives one."),
        "2.3-c": must("Services of embedded devices are found."),
        "2.3-d": must("A later version of a type does what the earlier ones did, and is taken for them."),
        "2.3-e": must("A service without an eventSubURL has no events, and is not asked for any."),
        "2.3-f": must("A specVersion with a later minor number changes nothing."),
        "2.5-a": must("A Boolean is read as 0 or 1, and in the old ways true, false, yes and no."),
        "2.5-b": must("A Boolean is sent as 0 or 1."),
        "2.5-c": must(
          "Actions and arguments that a device leaves out or adds are learnt from its service description.",
          "service descriptions are not fetched: the actions used here are those of the standard, and a device that lacks one refuses it"
        ),
        "2.7-a": must(
          "Descriptions with elements, devices and services of vendors are read as if they were not there."
        ),
        "2.11-a": must("A description is fetched with GET from its URL."),
        "2.11-b": should(
          "ACCEPT-LANGUAGE names the language that names should have.",
          "a library does not know its user's language, and descriptions of gateways have one"
        ),

        "3.1.1-a": must("A call is a SOAP 1.1 envelope with the standard namespace and encodingStyle."),
        "3.1.1-b": must("An answer is read with a SOAP header in front of its body, which does not count."),
        "3.2.1-a": must("An action is called with POST at the service's own controlURL, with HOST and CONTENT-LENGTH."),
        "3.2.1-b": must('CONTENT-TYPE is text/xml; charset="utf-8".'),
        "3.2.1-c": must("SOAPACTION is the service's type, # and the action, in quotes."),
        "3.2.1-d": must(
          "The action's element has the service's type, in the version of its description, as namespace."
        ),
        "3.2.1-e": must("Every argument is sent, in the order of the service's document, and none beside."),
        "3.2.1-f": must(
          "A POST that is refused with 405 is made again as M-POST.",
          "a rule of version 1.0 that 1.1 has dropped; no gateway is known that wants it"
        ),
        "3.2.2-a": must("Results are found by their names, whatever comes beside them."),
        "3.2.2-b": must("Only the answer to the called action is an answer to it."),
        "3.2.2-c": should(
          "An answer may take 30 seconds.",
          "the limit binds the device, and what a client does meanwhile is its own affair: calls are given up after 4 seconds, and what they may have done is looked for"
        ),
        "3.2.5-a": must("An answer with status 500 is read for the UPnPError in it, its code and its description."),
        "3.2.5-b": must("Codes have the meaning of their range where they have none of their own."),
        "3.2.5-c": should("Decisions are taken by the code, never by its description."),
        "3.3-a": must("QueryStateVariable is not called."),

        "4.1.1-a": must("No subscription without an end is asked for."),
        "4.1.1-b": should("A subscription that is no longer needed is cancelled."),
        "4.1.1-c": must("A subscription is renewed before it ends."),
        "4.1.1-d": must("The first event counts though it comes before the answer to the subscription."),
        "4.1.1-e": must("The time that was granted counts, not the time that was asked for."),
        "4.1.2-a": must("A subscription has CALLBACK with http URLs in angle brackets, NT upnp:event, and no SID."),
        "4.1.2-b": should("The time that is asked for is at least 1800 seconds."),
        "4.1.3-a": must("A renewal has the SID, and neither NT nor CALLBACK."),
        "4.1.3-b": must("A refused renewal is followed by a new subscription."),
        "4.1.4-a": must("A cancellation has the SID, and neither NT nor CALLBACK."),
        "4.2-a": must(
          "Multicast events are listened for at 239.255.255.246, port 7900, on every interface.",
          notMulticastEvents
        ),
        "4.3.1-a": must("An event is answered within 30 seconds."),
        "4.3.2-a": must("An event that is understood is answered with 200."),
        "4.3.2-b": must("An event without NT or NTS is answered with 400."),
        "4.3.2-c": must("An event without a SID, with an unknown one, or with another NT or NTS is answered with 412."),
        "4.3.2-d": must("SEQ follows 4294967295 with 1."),
        "4.3.2-e": should(
          "A gap in SEQ leads to a new subscription, which brings all variables, after the old one's end."
        ),
        "4.3.2-f": must("Variables and elements that are not known do no harm."),
        "4.3.3-a": must("Multicast events are read by service and device.", notMulticastEvents)
      }
    },
    {
      key: "IGD1",
      title: "InternetGatewayDevice:1",
      scope: "The device and what is embedded in it.",
      sections: { "2.2": "device model", "2.3": "theory of operation" },
      requirements: {
        "2.2-a": must("Connection services are looked for in every WANConnectionDevice of every WANDevice."),
        "2.2-b": must("A gateway with several connection services is used by one that is connected."),
        "2.3-a": must("Both WANIPConnection and WANPPPConnection are looked for, since a gateway may have either.")
      }
    },
    {
      key: "IGD2",
      title: "InternetGatewayDevice:2",
      scope: "Sections are those of its edition as ISO/IEC 29341-24-1.",
      sections: {
        "4.1": "device type",
        "4.4.3": "policy for WANIPConnection:2",
        "4.4.5": "policy for WANIPv6FirewallControl:1"
      },
      requirements: {
        "4.1-a": must("A gateway of version 2 is found, also by who looks for version 1."),
        "4.4.3-a": must("Without a role on the gateway, mappings are asked for this host's own address."),
        "4.4.3-b": must("Error 606 is a lack of rights, and not answered by asking again."),
        "4.4.5-a": must("Error 606 for a pinhole is a lack of rights."),
        "4.4.3-c": should(
          "A client that needs more rights gets a role through DeviceProtection.",
          "mappings and pinholes for this host need none, and no gateway is known that would grant one"
        )
      }
    },
    {
      key: "IP1",
      title: "WANIPConnection:1",
      scope: "State variables, events and actions as far as a client of mappings meets them.",
      sections: {
        "2.2.11": "ExternalIPAddress",
        "2.2.14": "PortMappingLeaseDuration",
        "2.2.15": "RemoteHost",
        "2.2.17": "InternalPort",
        "2.2.18": "PortMappingProtocol",
        "2.2.19": "InternalClient",
        "2.3": "eventing",
        "2.4.1": "SetConnectionType, and the other actions that configure",
        "2.4.2": "GetConnectionTypeInfo",
        "2.4.9": "GetStatusInfo",
        "2.4.13": "GetNATRSIPStatus",
        "2.4.14": "GetGenericPortMappingEntry",
        "2.4.15": "GetSpecificPortMappingEntry",
        "2.4.16": "AddPortMapping",
        "2.4.17": "DeletePortMapping",
        "2.4.18": "GetExternalIPAddress"
      },
      requirements: {
        "2.2.11-a": must("An empty address is none."),
        "2.2.14-a": must("A lease of 0 has no end."),
        "2.2.14-b": must("Any other lease is renewed before it ends."),
        "2.2.14-c": must(
          "A lease without an end may still not outlive a restart of the gateway, and is made again then."
        ),
        "2.2.15-a": must("An empty remote host is any host."),
        "2.2.17-a": must("The internal port is from 1 to 65535."),
        "2.2.18-a": must("The protocol is TCP or UDP."),
        "2.2.19-a": must("The internal client is the address under which the gateway knows this host."),
        "2.3-a": must("The evented variables are taken from events, by their names."),
        "2.4.1-a": must("A connection is set up before it is used.", configuresNothing),
        "2.4.2-a": must("The connection's type and the possible ones, a list with commas, are read."),
        "2.4.9-a": must("Connected is the one state in which the line is up."),
        "2.4.13-a": must("Whether addresses are translated at all is read."),
        "2.4.14-a": must("The list is read from index 0, one by one, until error 713."),
        "2.4.14-b": must("A list that changes while it is read shows no entry twice."),
        "2.4.15-a": must(
          "One entry is asked for by remote host, external port and protocol; error 714 is that there is none."
        ),
        "2.4.16-a": must("The same key and client again is a renewal, and needs no deletion before."),
        "2.4.16-b": must("Error 718 is another client's mapping, which is left alone."),
        "2.4.16-c": must("Error 724 is answered by asking for the same port outside as inside."),
        "2.4.16-d": must("Error 725 is answered by asking for a permanent lease, which is deleted in the end."),
        "2.4.16-e": must("Every error of the document has its meaning for the caller."),
        "2.4.17-a": must("An entry is deleted by the key that it was added with."),
        "2.4.17-b": must("Error 714 is that there is nothing left to delete."),
        "2.4.18-a": must("The external address is asked for, and need not be one.")
      }
    },
    {
      key: "IP2",
      title: "WANIPConnection:2",
      scope: "What differs from version 1.",
      sections: {
        "2.3.16": "PortMappingLeaseDuration",
        "2.3.17": "RemoteHost",
        "2.3.23": "SystemUpdateID",
        "2.3.28": "A_ARG_TYPE_PortListing",
        "2.5.16": "AddPortMapping",
        "2.5.17": "AddAnyPortMapping",
        "2.5.18": "DeletePortMapping",
        "2.5.19": "DeletePortMappingRange",
        "2.5.21": "GetListOfPortMappings"
      },
      requirements: {
        "2.3.16-a": must("A lease is from 1 to 604800 seconds; 0 does not mean that it has no end."),
        "2.3.16-b": should("A lease is renewed before it ends."),
        "2.3.17-a": must("A remote host is sent as it is, the empty one as any host."),
        "2.3.23-a": should(
          "What is kept of the list of mappings is read again when SystemUpdateID has changed.",
          "nothing of the list is kept: it is read anew each time"
        ),
        "2.3.28-a": must("The list is a document of its own, escaped, and read with its own names."),
        "2.5.16-a": must("Errors 606, 715, 716, 718, 729 and 732 have their meaning for the caller."),
        "2.5.17-a": must(
          "The port in the answer counts, not the one that was asked for.",
          "The strategy names the port itself: some gateways answer with one that another program of this host has, and overwrite that."
        ),
        "2.5.17-b": must(
          "Where the action is refused, the mapping is asked for the old way.",
          "The strategy names the port itself: some gateways answer with one that another program of this host has, and overwrite that."
        ),
        "2.5.17-c": must("Error 728 is that no port is left."),
        "2.5.18-a": must(
          "The mapping is deleted at the port that the gateway chose.",
          "The strategy names the port itself: some gateways answer with one that another program of this host has, and overwrite that."
        ),
        "2.5.19-a": must(
          "A range has its first and last port, protocol and whether others' mappings count; 730 is that there are none."
        ),
        "2.5.21-a": must("A list is asked for by range, and 730 is that it is empty.")
      }
    },
    {
      key: "PPP1",
      title: "WANPPPConnection:1",
      scope: "What differs from WANIPConnection:1: the same actions for mappings, and those of the link.",
      sections: {
        "2.1": "service type",
        "2.4.3": "ConfigureConnection, and the other actions that configure",
        "2.4.11": "GetLinkLayerMaxBitRates, and the other actions that tell of the link",
        "2.4.23": "AddPortMapping, and the other actions for mappings"
      },
      requirements: {
        "2.1-a": must("Actions are called by the type and at the URL of this service, never of the other."),
        "2.4.3-a": must("The connection is set up with a user's name and password.", configuresNothing),
        "2.4.11-a": must("What the link says of itself is read."),
        "2.4.23-a": must("A gateway that is connected by this service maps ports by it.")
      }
    },
    {
      key: "COMMON1",
      title: "WANCommonInterfaceConfig:1",
      sections: {
        "2.4.1": "SetEnabledForInternet",
        "2.4.3": "GetCommonLinkProperties",
        "2.4.6": "GetTotalBytesSent, and the other counters",
        "2.4.10": "GetActiveConnection"
      },
      requirements: {
        "2.4.1-a": must("Access to the internet is switched.", configuresNothing),
        "2.4.3-a": must("The line's kind, rates and state are read."),
        "2.4.6-a": must("Counters have 32 bits, and may begin again at 0."),
        "2.4.10-a": must("Connections are read by index from 0.")
      }
    },
    {
      key: "L3F1",
      title: "Layer3Forwarding:1",
      sections: {
        "2.2.1": "DefaultConnectionService",
        "2.4.1": "SetDefaultConnectionService",
        "2.4.2": "GetDefaultConnectionService"
      },
      requirements: {
        "2.2.1-a": must(
          "The default connection is the name of its device and the id of its service, with a comma between."
        ),
        "2.4.1-a": must("The default connection is chosen.", configuresNothing),
        "2.4.2-a": must("The service that is meant is found among those of the description.")
      }
    },
    {
      key: "FW1",
      title: "WANIPv6FirewallControl:1",
      sections: {
        "2.4.7": "A_ARG_TYPE_Protocol",
        "2.4.8": "A_ARG_TYPE_LeaseTime",
        "2.4.9": "A_ARG_TYPE_UniqueID",
        "2.6.1": "GetFirewallStatus",
        "2.6.2": "GetOutboundPinholeTimeout",
        "2.6.3": "AddPinhole",
        "2.6.4": "UpdatePinhole",
        "2.6.5": "DeletePinhole",
        "2.6.6": "GetPinholePackets",
        "2.6.7": "CheckPinholeWorking"
      },
      requirements: {
        "2.4.7-a": must("Protocols are the numbers that IP has for them."),
        "2.4.8-a": must("A lease is from 1 to 86400 seconds."),
        "2.4.9-a": must("A pinhole's id is a number from 0 to 65535."),
        "2.6.1-a": must("Whether there is a firewall, and whether pinholes may be opened, are told apart."),
        "2.6.2-a": must("The time for answers is asked for with the same five fields as a pinhole."),
        "2.6.3-a": must(
          "A pinhole has remote host and port, internal client and port, protocol and lease, in this order."
        ),
        "2.6.3-b": must("Errors 701 to 708 have the meaning of this service, not that of the connection services."),
        "2.6.4-a": must("A pinhole gets a new lease by its id; error 704 is that there is none."),
        "2.6.5-a": must("A pinhole is closed by its id; error 704 is that there is none."),
        "2.6.6-a": must("The packets that came through are counted by id."),
        "2.6.7-a": must("Error 709 is that nothing is known, not that the pinhole does not work.")
      }
    }
  ]
}
