/**
 * What RFC 6887 asks of a PCP client.
 */
import { must, type Page, should } from "./Conformance.ts"

const portsOnly = "mappings are for TCP and UDP, each for one port"

const applications = "which packets a program sends from its port, and how it listens, is the program's affair"

export const page: Page = {
  title: "PCP: what RFC 6887 asks of a client",
  intro: [
    "What RFC 6887 asks of clients, in our own words, by section, and the tests that show it. What it recommends in lower",
    "case counts as SHOULD, what it says that clients do as MUST. `npm test` fails where one of these tests fails or does",
    "not run; `npm run lint` fails where a section has no row, a row no test, or a test names a row that does not exist."
  ].join("\n"),
  documents: [
    {
      key: "RFC 6887",
      title: "Port Control Protocol (PCP)",
      scope: [
        "Sections that are not listed speak of servers only, or ask nothing. What clients may do is no row. Appendix A, which",
        "asks for PCP before NAT-PMP, stands in section 9. Section 16 gives advice; what it asks for by itself is listed."
      ].join("\n"),
      sections: {
        "4": "server and device",
        "5": "fixed-size addresses",
        "7": "common header",
        "7.1": "request header",
        "7.2": "response header",
        "7.3": "options",
        "7.4": "result codes",
        "8": "general operation",
        "8.1": "generating a request",
        "8.1.1": "retransmission",
        "8.3": "processing a response",
        "8.4": "several interfaces",
        "8.5": "epoch",
        "9": "version negotiation",
        "10": "MAP and PEER",
        "10.2": "symmetric client and server",
        "11": "MAP",
        "11.1": "MAP packets",
        "11.2": "generating a MAP request",
        "11.2.1": "renewing a mapping",
        "11.4": "processing a MAP response",
        "11.5": "address changes",
        "12.1": "PEER packets",
        "12.2": "generating a PEER request",
        "12.4": "processing a PEER response",
        "13": "options for MAP and PEER",
        "13.1": "THIRD_PARTY",
        "13.2": "PREFER_FAILURE",
        "13.3": "FILTER",
        "14.1.1": "ANNOUNCE",
        "14.1.2": "solicited ANNOUNCE",
        "14.1.3": "unsolicited ANNOUNCE",
        "14.2": "mapping update",
        "15": "lifetime and deletion",
        "15.1": "lifetime of MAP",
        "16.3.2": "maintaining mappings",
        "16.3.3": "SCTP",
        "16.4": "source address in the header"
      },
      requirements: {
        "4-a": should("Who wants to be reached asks for a mapping, also where there may only be a firewall."),

        "5-a": must("An IPv4 address goes as an IPv4-mapped IPv6 address, an IPv6 address as it is."),
        "5-b": must("An address is an IPv4 one only where all of the first 96 bits say so."),
        "5-c": must("No IPv6 address is 128 bits of zero."),
        "5-d": must("No IPv4 address is 80 zeros, 16 ones and 32 zeros."),

        "7-a": must("A message has no more than 1100 bytes."),
        "7-b": must("Numbers are in network byte order, addresses and ports as in IP headers."),
        "7.1-a": must("Requests are of version 2, with the response bit clear."),
        "7.1-b": must("The reserved 16 bits of a request are zero."),
        "7.1-c": must("A request has the own address that it is sent from in its header."),
        "7.1-d": must("The lifetime of a request is in seconds, from 0 to 4294967295."),
        "7.2-a": must("Reserved fields of a response are ignored."),
        "7.2-b": must("The lifetime of an error says how long the same request will fail."),
        "7.2-c": must("The epoch counts in successes and in errors."),
        "7.3-a": must("The reserved field of an option is sent as zero, and ignored in a response."),
        "7.3-b": must("An option is padded with zeros to a multiple of 4 bytes, which its length leaves out."),
        "7.3-c": must("A request leaves its answer room within 1100 bytes."),
        "7.3-d": must("Options of a response that are not understood are ignored, mandatory ones too."),
        "7.3-e": should(
          "Who asks with an option reads that option in the response, where it matters.",
          "nothing has to be read of THIRD_PARTY, PREFER_FAILURE and FILTER: they come back as they were sent"
        ),
        "7.4-a": must("Each result code has its meaning for the caller; 0 alone is success."),

        "8-a": must("Messages go over UDP."),
        "8-b": must("A later response to the same request counts as the first did."),
        "8.1-a": must("The server is the configured one, or else the default router."),
        "8.1-b": must("IPv4 mappings are asked for at the IPv4 router, IPv6 ones at the IPv6 router."),
        "8.1-c": must("Clients of one host do not share their source port."),
        "8.1-d": should("The source port is a random one."),
        "8.1-e": must("The request contains the source address that it has on the wire."),
        "8.1-f": should(
          "Behind an inner NAT without PCP its external address is the client's address, once it maps by other means.",
          "mappings are not chained through several gateways; an inner NAT is reported as what it is"
        ),
        "8.1.1-a": must("A request that is not answered is sent again."),
        "8.1.1-b": must("Retransmissions have the same nonce."),
        "8.1.1-c": should("The first pause is 3 seconds."),
        "8.1.1-d": should(
          "There is no limit to the number of retransmissions.",
          "a request ends by its time, since a program waits for it; the lease engine goes on asking for what was mapped"
        ),
        "8.1.1-e": should("The longest pause is 1024 seconds."),
        "8.1.1-f": should(
          "There is no limit to the time of retransmissions.",
          "a request ends after 45 seconds or when it is told to; the lease engine goes on asking for what was mapped"
        ),
        "8.1.1-g": must("Each pause is twice the one before, and a random tenth more or less."),
        "8.1.1-h": should("The random part is another one each time, and in each client."),
        "8.1.1-i": must("After a response no more is sent before the renewal, which goes to the same server."),

        "8.3-a": must("A response from another address or port than the server's is dropped silently."),
        "8.3-b": must("A response of less than 4 bytes is dropped silently."),
        "8.3-c": must("A message with the response bit clear is dropped silently."),
        "8.3-d": must("A refusal of the version is understood before anything else of the response is looked at."),
        "8.3-e": must("Responses of less than 24 bytes, of more than 1100, or of no multiple of 4 are ignored."),
        "8.3-f": must("A response whose opcode was not asked for is ignored."),
        "8.3-g": must("A response whose fields do not match a request is ignored."),
        "8.3-h": must("Only of a response that matches the epoch is looked at."),
        "8.3-i": should("Several responses may come to one request, at any time; the last one counts."),
        "8.3-j": must("Responses to requests that were never sent are ignored."),
        "8.3-k": must("ADDRESS_MISMATCH means that there is a NAT between client and server."),
        "8.3-l": should("There is an upper limit to the lifetimes that are believed."),
        "8.3-m": should("The same request is not sent again while its error lasts."),

        "8.4-a": should("An IPv6 mapping is asked for from a global address."),
        "8.4-b": should("A unique local address is not used for it."),
        "8.4-c": should("A mapping for a temporary address is asked for from that address, and anew when it changes."),
        "8.4-d": should(
          "The mapping of the former address is deleted when it is no longer needed.",
          "a mapping of a former address ends with its lease: it could be deleted only from that address, which may be gone"
        ),

        "8.5-a": must("The first epoch of a server is valid, whatever it is."),
        "8.5-b": must("An epoch is invalid when it is less than the last one by more than a second."),
        "8.5-c": must("An epoch is invalid when client and server differ by more than a sixteenth and 2 seconds."),
        "8.5-d": must("The epoch and its time are kept for the next comparison, valid or not."),
        "8.5-e": must("After an invalid epoch all mappings of this server are renewed soon."),
        "8.5-f": must("The client's clock never goes backwards."),

        "9-a": must(
          "The first request has the highest version that the client speaks.",
          "the client speaks version 2 only, which is the highest that there is"
        ),
        "9-b": must("A gateway that answers with version 0 is spoken to over NAT-PMP from then on."),
        "9-c": should("A gateway that speaks no version of the client's is asked again after 30 minutes."),
        "9-d": should("A client that speaks both protocols asks over PCP first."),

        "10-a": must("An IPv4 mapping is asked for from an IPv4 address, an IPv6 one from an IPv6 address."),
        "10-b": must("Who wants both families makes a request for each."),
        "10.2-a": must("A port is mapped before anything is sent from it.", applications),
        "11-a": must("A program has its port for itself before it is mapped.", applications),

        "11.1-a": must("A MAP has nonce, protocol number, ports and external address; 6 is TCP, 17 is UDP."),
        "11.1-b": must("The reserved 24 bits are sent as zero, and ignored in a response."),
        "11.1-c": must("Internal port 0 is sent with protocol 0.", portsOnly),
        "11.1-d": must("Where no external port is preferred, 0 is suggested."),
        "11.1-e": must("Where no external address is preferred, the family's address of zeros is suggested."),
        "11.2-a": must("The suggested port may never be given: the one of the response counts."),
        "11.2-b": must("A protocol without ports is mapped with port 0.", portsOnly),
        "11.2-c": must("All protocols are mapped with protocol 0 and port 0.", portsOnly),
        "11.2-d": must("Nonces are random, and cannot be guessed."),
        "11.2-e": must("Each server gets another nonce."),
        "11.2-f": should("A client that starts has new nonces."),
        "11.2.1-a": should("A mapping is renewed for as long as it is wanted, and before it ends."),
        "11.2.1-b": should("A renewal suggests the external port and address that the mapping has."),
        "11.2.1-c": should("Renewals have a random part, so that not all come at once."),
        "11.2.1-d": should(
          "A renewal is sent between 1/2 and 5/8 of the lifetime, once.",
          "one engine renews the leases of all protocols, a little before half of the lifetime"
        ),
        "11.2.1-e": should(
          "Without a success it is sent again between 3/4 and 13/16, then between 7/8 and 29/32, and so on.",
          "one engine renews the leases of all protocols: after a failure it tries again with pauses that grow to five minutes"
        ),
        "11.2.1-f": must("Renewals are four seconds apart at least."),
        "11.2.1-g": must("A renewal has the nonce of the first request."),

        "11.4-a": must("A response is matched by internal address, protocol, internal port and nonce."),
        "11.4-b": must("Nothing else is compared."),
        "11.4-c": should("After NO_RESOURCES no new mapping is asked for at this server while the error lasts."),
        "11.4-d": should(
          "After NO_RESOURCES for a deletion nothing is asked for at this server while the error lasts.",
          "not met on purpose: miniupnpd says so of each deletion of what it does not have, for 30 seconds: a program that releases what the gateway has forgotten could map nothing for so long, though nothing is lacking; such a deletion counts as done"
        ),
        "11.4-e": must("A mapping that was granted has its renewal planned at once."),
        "11.4-f": should("After an error the same request is not repeated while it lasts."),
        "11.5-a": must("Under another internal address mappings are made anew."),
        "11.5-b": should("What keeps a mapping goes over the interface that it was made over."),

        "12.1-a": must("The protocol of a PEER is not 0."),
        "12.1-b": must("The internal port of a PEER is not 0."),
        "12.1-c": must("The port of the remote peer is not 0."),
        "12.1-d": must("Reserved fields are sent as zero, and ignored in a response."),
        "12.1-e": must("Without a preference the external port is 0 and the address the family's zeros."),
        "12.1-f": must("A lost mapping is made again by suggesting what the last response had."),
        "12.1-g": must("PREFER_FAILURE does not go with a PEER."),
        "12.2-a": must("Nonces are random, and cannot be guessed."),
        "12.2-b": must("Each server gets another nonce."),
        "12.4-a": must("A response is matched by what MAP is matched by, and by the peer's address and port."),
        "12.4-b": should("After NO_RESOURCES no new mapping is asked for at this server while the error lasts."),
        "12.4-c": must("The external address may be of another family than the peer's."),

        "13-a": must("These options go with MAP and PEER only."),
        "13.1-a": must("THIRD_PARTY is sent only where the caller asks for another host's mapping."),
        "13.1-b": must("THIRD_PARTY never has the address that the packet is sent from."),
        "13.1-c": should(
          "The other host's presence is checked while its mappings are kept.",
          "who maps for another host knows why, and for how long"
        ),
        "13.2-a": should("PREFER_FAILURE is not sent by who can do with another port."),
        "13.2-b": must("A success with another port than the suggested one is none, where PREFER_FAILURE was sent."),
        "13.2-c": must("PREFER_FAILURE never goes with external port 0, nor with a deletion."),
        "13.3-a": must("The reserved field of FILTER is zero."),
        "13.3-b": must("The prefix length of FILTER is from 96 to 128 for IPv4, and up to 128 for IPv6."),
        "13.3-c": must("FILTER does not go with a deletion."),
        "13.3-d": must(
          "Filters are changed by removing all with prefix length 0, and adding the new ones.",
          "the strategy has the same filter for a mapping's whole life"
        ),

        "14.1.1-a": must("The lifetime of an ANNOUNCE is 0, and ignored in a response."),
        "14.1.1-b": must("An ANNOUNCE with options is read."),
        "14.1.2-a": must("An ANNOUNCE goes to the server's own address, and changes nothing there."),
        "14.1.3-a": must("Announcements are listened for on the interfaces that requests go out of."),
        "14.1.3-b": must("Where requests go over IPv4, 224.0.0.1 port 5350 is listened to."),
        "14.1.3-c": must("Where requests go over IPv6, ff02::1 port 5350 is listened to."),
        "14.1.3-d": should("The port for announcements is shared with other programs of this host."),
        "14.1.3-e": must("An announcement from another address than the server's counts for nothing."),
        "14.1.3-f": must("An announcement with an invalid epoch is followed by a random wait of up to 5 seconds."),
        "14.1.3-g": must(
          "All mappings made at this server are then asked for again, with the port and address they had."
        ),
        "14.1.3-h": must("An announcement with a valid epoch is followed by nothing."),
        "14.1.3-i": must("An announcement's epoch is the one to compare the next with."),
        "14.2-a": must("A MAP response that nobody asked for changes the mapping that it names."),

        "15-a": must("No mapping is left to be kept alive by traffic: each is renewed as its lifetime says."),
        "15-b": should("An absurdly long lifetime is treated as a sane one."),
        "15.1-a": must(
          "A deletion suggests external port 0, and the address of zeros of the family that it is about (erratum 3621)."
        ),
        "15.1-b": must("A deletion has the nonce that the mapping was made with."),

        "16.3.2-a": should("Another external port or address in a response is told to whoever publishes it."),
        "16.3.3-a": should("An SCTP mapping suggests nothing first, and what was assigned later.", portsOnly),
        "16.4-a": should("The own address is learnt from a connected socket, which the request is sent by.")
      }
    }
  ]
}
