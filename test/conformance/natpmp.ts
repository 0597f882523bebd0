/**
 * What RFC 6886 asks of a NAT-PMP client.
 */
import { must, type Page, should } from "./Conformance.ts"

export const page: Page = {
  title: "NAT-PMP: what RFC 6886 asks of a client",
  intro: [
    "What RFC 6886 asks of clients, in our own words, by section, and the tests that show it. What it recommends in lower",
    "case counts as SHOULD, what it says that clients do as MUST. `npm test` fails where one of these tests fails or does",
    "not run; `npm run lint` fails where a section has no row, a row no test, or a test names a row that does not exist."
  ].join("\n"),
  documents: [
    {
      key: "RFC 6886",
      title: "NAT Port Mapping Protocol (NAT-PMP)",
      scope: [
        "Sections that are not listed speak of gateways only, or ask nothing. What clients may do is no row. The client asks",
        "as section 3.1 says for as long as it is let; the strategy lets it ask for 16 seconds, seven times. The first",
        "question to a gateway that nothing was heard of goes out every 250 ms for two seconds, without doubling: most",
        "gateways that stay silent speak no NAT-PMP, and somebody waits."
      ].join("\n"),
      sections: {
        "1.1": "transition to PCP",
        "3": "protocol and packet format",
        "3.1": "requests and responses",
        "3.2": "external address",
        "3.2.1": "announcements",
        "3.3": "requesting a mapping",
        "3.4": "destroying a mapping",
        "3.5": "result codes",
        "3.6": "seconds since start of epoch",
        "3.7": "recreating mappings",
        "3.8": "gateways without NAT",
        "4.2": "transition plan",
        "4.4": "long-term solution"
      },
      requirements: {
        "1.1-a": must("Version 1 is never sent."),
        "1.1-b": should("A client speaks PCP too, and asks in its format first."),
        "1.1-c": should(
          "An answer that PCP's version is not supported leads to the same request over NAT-PMP, at once."
        ),
        "1.1-d": should("That a gateway speaks NAT-PMP only is not taken for granted for ever."),

        "3-a": must("A packet goes over UDP, and begins with version 0 and the opcode."),
        "3-b": must("Numbers are in network byte order, addresses as they are."),
        "3-c": must("Opcodes from 0 to 127 are requests and no answers; those of answers are greater by 128."),
        "3-d": must("Result code 0 is success, and no other code is."),
        "3-e": should(
          "Mappings are asked for only where this host's own IPv4 address is a private one.",
          "whether a port is mapped is for the program to say: hosts behind a NAT may have shared addresses (100.64/10) or public ones, and a gateway that maps nothing refuses or stays silent"
        ),
        "3-f": must("Requests go to the default gateway."),

        "3.1-a": should("No more than one request is under way at a time; others wait for their turn."),
        "3.1-b": should("A slow gateway is asked at its own pace, the next question after the answer to the last."),
        "3.1-c": must("A request goes to port 5351, and again when no answer has come for 250 ms."),
        "3.1-d": should("Each further pause is twice as long as the one before."),
        "3.1-e": should("After nine transmissions, and 64 seconds more, the gateway is taken not to speak NAT-PMP."),
        "3.1-f": should("That a gateway did not answer is not remembered for long."),
        "3.1-g": should("That a gateway did not answer is forgotten when there is another gateway."),
        "3.1-h": must("A deletion is sent again in the same rhythm, though perhaps less often."),
        "3.1-i": should("At least one deletion is sent for a mapping that is no longer wanted."),

        "3.2-a": must("The external address is asked for with two bytes, version 0 and opcode 0."),
        "3.2-b": must("The address field of an answer with another result code than 0 is ignored."),
        "3.2-c": must("An answer from another address than the gateway's is dropped silently."),
        "3.2.1-a": must("Announcements are listened for at 224.0.0.1, port 5350."),
        "3.2.1-b": must("An announcement from another address than the gateway's is dropped silently."),
        "3.2.1-c": must(
          "The seconds of an announcement are compared as those of any packet, and lead to new mappings as well."
        ),
        "3.2.1-d": must("The external address of an announcement is the gateway's from then on."),
        "3.2.1-e": should("The port for announcements is shared with other programs of this host."),
        "3.2.1-f": should(
          "The socket for announcements is bound to the group's address and not to all.",
          "not met on purpose: the one socket hears both protocols, and what PCP says to this host alone at that port (RFC 6887 14.1.3, 14.2) would not come to a socket that is bound to the group, which some systems cannot bind to at all; whatever comes is judged by its source"
        ),

        "3.3-a": must("A mapping is asked for with twelve bytes: opcode 1 for UDP, 2 for TCP, then ports and seconds."),
        "3.3-b": must("The reserved field is sent as zero."),
        "3.3-c": must("The internal port is the one that the program listens on."),
        "3.3-d": should("The suggested port is the one that is liked, or 0 where any will do."),
        "3.3-e": should("A mapping is asked for 7200 seconds."),
        "3.3-f": should("A request that is not answered within 250 ms is sent again as every other."),
        "3.3-g": must("An answer counts for the request whose opcode and internal port it has."),
        "3.3-h": must("An answer from another address than the gateway's is dropped silently."),
        "3.3-i": must("The port that the gateway gives counts, not the suggested one."),
        "3.3-j": must("The lifetime that the gateway grants counts, which may be shorter than the wanted one."),
        "3.3-k": should("A mapping is renewed when half its lifetime is over."),
        "3.3-l": should(
          "A renewal is a request like the first, with the port that the gateway gave as the suggested one."
        ),
        "3.3-m": must("Mappings are asked for this host only."),

        "3.4-a": must("A deletion is a request for the mapping with a lifetime of zero."),
        "3.4-b": must("A deletion suggests external port 0."),
        "3.4-c": must(
          "A deletion is done when its answer has result code 0, the internal port, and zeros for the rest."
        ),
        "3.4-d": must("The lifetime in the answer to a deletion that failed is ignored."),
        "3.4-e": must(
          "All mappings of a protocol are deleted by zeros in ports and lifetime, and only when that is meant."
        ),

        "3.5-a": must("Result codes that the document does not have are errors like others."),
        "3.5-b": must("Such an error ends its request: nothing is sent again."),
        "3.5-c": must("The internal port of an error says which request has failed."),
        "3.5-d": must("An error that ends after its epoch is read: that a version is not supported says no more."),
        "3.5-e": must(
          "The answer to an unknown opcode is the request sent back, and its fields are not those of an answer."
        ),

        "3.6-a": must(
          "Every packet's seconds are compared with the last packet's and 7/8 of the time since; errors count as well."
        ),
        "3.6-b": must("Seconds that are less than that by more than 2 mean that the gateway has lost its mappings."),
        "3.6-c": must("All mappings are then renewed at once, and not when they are due."),

        "3.7-a": should("An announcement of a restart leads to new mappings before the next renewal is due."),
        "3.7-b": must("The first of these requests waits for a random time from 0 to 5 seconds."),
        "3.7-c": should("These requests are made one after the other."),
        "3.7-d": must("Who missed the announcement has the mappings again with the next renewal."),
        "3.7-e": should(
          "Outgoing connections are mapped as well, so that they outlive a restart.",
          "the library maps the ports that it is told to, and makes no connections for programs"
        ),

        "3.8-a": should("A private address of this host's does not mean that there is a NAT."),
        "3.8-b": should("A host that finds no NAT-PMP goes on as if there were no NAT."),
        "3.8-c": should("A gateway that refuses port 5351 by ICMP is known at once not to speak NAT-PMP."),

        "4.2-a": should("The client supports IPv6."),
        "4.2-b": should(
          "A global IPv6 address is preferred to the external IPv4 address.",
          "a contact point has the external addresses in the order of its mappings, and whoever connects chooses among them"
        ),
        "4.2-c": should("Addresses of both families are made known."),
        "4.4-a": should(
          "NAT-PMP is used only where not both peers have IPv6.",
          "whom a program wants to be reached by, and over what, is its own affair: it says which family it wants"
        )
      }
    }
  ]
}
