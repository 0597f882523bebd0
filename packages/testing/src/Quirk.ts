/**
 * What real routers do differently, by name: each quirk is one way in which some router in the wild departs from its
 * protocol or from what clients expect.
 *
 * Not every quirk runs in every strength. The mock layer takes calls where a protocol would send packets, so a quirk of
 * the search, the description, the framing or the calls has nothing there in which it could show. Quirks of the network
 * or the host are built around a router; their notes say how.
 *
 * **Example** (Run a test for each quirk of the mapping table)
 *
 * ```ts
 * import * as Quirk from "@effect-nat/testing/Quirk"
 *
 * for (const profile of Quirk.runningIn("mock")) {
 *   console.log(`${profile.name}: ${profile.what} A request comes to: ${profile.outcome}`)
 * }
 * ```
 *
 * @since 0.1.0
 */
import type * as NatError from "@effect-nat/core/NatError"

/**
 * Where a quirk shows: in the mapping table, in the search, in the device's description, in the framing of HTTP, in
 * the calls to the router, in its events, in NAT-PMP and PCP, or in the network around the router.
 *
 * @category models
 * @since 0.1.0
 */
export type Where = "table" | "ssdp" | "description" | "http" | "soap" | "events" | "natpmp" | "network"

/**
 * What a router is simulated in: the mock layer without any wire, sockets on loopback, or a network in virtual time.
 *
 * @category models
 * @since 0.1.0
 */
export type Strength = "mock" | "loopback" | "network"

/**
 * A protocol that routers speak; the mock layer counts as UPnP.
 *
 * @category models
 * @since 0.1.0
 */
export type Protocol = "upnp" | "natpmp" | "pcp"

/**
 * What a request for a mapping comes to in the end: a mapping, or an error with this reason.
 *
 * @category models
 * @since 0.1.0
 */
export type Outcome = "Mapped" | NatError.NatErrorReason["_tag"]

/**
 * One quirk, described.
 *
 * @category models
 * @since 0.1.0
 */
export interface Profile {
  readonly name: string
  /** Quirks with one number are of one kind; 1 to 17. */
  readonly item: number
  /** What the router does, in one sentence. */
  readonly what: string
  readonly where: Where
  /** Where the quirk can be run: one of the wire does not exist in the mock layer. */
  readonly strengths: ReadonlyArray<Strength>
  /** What it can show over: NAT-PMP and PCP have no words for most refusals, and no permanent leases. */
  readonly protocols: ReadonlyArray<Protocol>
  /**
   * What a plain request over UPnP or to the mock layer, with a limited lease and any external port, comes to where the
   * quirk is handled; for a quirk that cannot show there, one over the protocols that it shows over. Over NAT-PMP and
   * PCP, which have no words for the errors 727 and 729, those quirks map; on a line that reports no address at all they
   * fail with `NoExternalAddress`; and `FailoverPair` comes to `NoGateway`, since they ask the default gateway, which
   * maps none. PCP asks its only gateway for the mapping at once, so that silence is `TimedOut` there and not `NoGateway`.
   */
  readonly outcome: Outcome
  /** `"yes"`, or why no client of ours handles it yet. */
  readonly handled: string
  /** How it is built, where a router that is given it is not all that it takes. */
  readonly note?: string | undefined
}

const everywhere = ["mock", "loopback", "network"] as const
const onTheWire = ["loopback", "network"] as const
const onSockets = ["loopback"] as const
const inNetworks = ["network"] as const

const everyProtocol = ["upnp", "natpmp", "pcp"] as const
const upnpOnly = ["upnp"] as const

const handled = { outcome: "Mapped", handled: "yes" } as const
const ofUpnp = { ...handled, strengths: onTheWire, protocols: upnpOnly } as const
const search = { ...ofUpnp, item: 1, where: "ssdp" } as const
const services = { ...ofUpnp, item: 2, where: "description" } as const
const places = { ...services, item: 3 } as const
const framing = { ...ofUpnp, item: 4, where: "http", strengths: onSockets } as const
const calls = { ...ofUpnp, item: 4, where: "soap" } as const
const leases = { ...handled, item: 5, where: "table", strengths: everywhere, protocols: everyProtocol } as const
const refusals = { ...leases, item: 6 } as const
const addresses = { ...leases, item: 7 } as const
const restarts = { ...leases, item: 9 } as const
const surroundings = { ...handled, where: "network", strengths: inNetworks, protocols: everyProtocol } as const
const hosts = { ...surroundings, item: 12 } as const
const events = { ...ofUpnp, item: 16, where: "events" } as const
const gatewayPort = {
  ...handled,
  item: 17,
  where: "natpmp",
  strengths: onTheWire,
  protocols: ["natpmp", "pcp"]
} as const
const pcpOnly = { ...gatewayPort, protocols: ["pcp"] } as const
const overIpv6 = { ...surroundings, item: 13, protocols: upnpOnly } as const

/**
 * Every quirk, by the number of its kind.
 *
 * @category constants
 * @since 0.1.0
 */
export const profiles = [
  { ...search, name: "AnswersOnlyUnicast", what: "Searches count only when they are sent to the router itself." },
  { ...search, name: "AnswersOnlyMulticast", what: "Searches count only when they are sent to the group." },
  { ...search, name: "AnswersOnlySsdpAll", what: "Only the search for everything is answered." },
  { ...search, name: "AnswersOnlyRootDevice", what: "Only the search for root devices is answered." },
  { ...search, name: "AnswersFromOtherPort", what: "Answers to a search come from a port other than 1900." },
  {
    ...search,
    name: "FlappingLocation",
    what: "Each search is answered twice, with two places for the description, of which the first is dead."
  },
  {
    ...search,
    name: "AnswersWithFirstDescription",
    what: "The search for everything is answered with the first of two descriptions only, which maps no ports."
  },

  {
    ...services,
    name: "DeadPppService",
    what: "A WANPPPConnection that is not connected is described before the WANIPConnection that is."
  },
  {
    ...services,
    name: "DeadIpService",
    what: "A WANIPConnection that is not connected is described before the WANPPPConnection that is."
  },
  {
    ...services,
    name: "PrivateServiceFirst",
    what: "Two services are connected, and the one described first has a private external address."
  },
  {
    ...services,
    name: "ServiceTypesDoNotMix",
    what: "Two services are described, and a call with the type of one to the control URL of the other is refused."
  },

  { ...places, name: "ControlUrlRelative", what: "The control URL is a path from the root." },
  { ...places, name: "ControlUrlAbsolute", what: "The control URL is a whole URL." },
  {
    ...places,
    name: "ControlUrlWithoutSlash",
    what: "The control URL is a path without a leading slash, meant from the place of the description."
  },
  { ...places, name: "ControlUrlOnOtherHost", what: "The control URL names another host than the router." },
  { ...places, name: "ControlUrlOnOtherPort", what: "Control listens on another port than the description." },
  { ...places, name: "UrlBasePresent", what: "URLs of the description are relative to a URLBase on another port." },
  { ...places, name: "UrlBaseEmpty", what: "The description has an empty URLBase." },
  { ...places, name: "UrlBaseOnOtherHost", what: "The URLBase names a host of another network." },
  {
    ...places,
    name: "UrlBaseOnDeadPort",
    what: "The URLBase names a port of the router on which nobody listens."
  },
  { ...places, name: "LocationWithHostName", what: "The place of the description is given with a host name." },
  {
    ...places,
    name: "LocationOnThirdHost",
    what: "The place of the description is given with the address of another host."
  },
  {
    ...places,
    name: "LocationOnOtherAddress",
    what: "The place of the description is given with the router's outer address."
  },

  { ...framing, name: "Http10", what: "Answers are HTTP/1.0." },
  { ...framing, name: "LineFeedsOnly", what: "Header lines end with a line feed alone." },
  {
    ...framing,
    name: "NoContentLength",
    what: "Answers have neither a length nor a word about the connection, and end with it."
  },
  { ...framing, name: "Chunked", what: "Answers come in chunks of a few bytes." },
  {
    ...framing,
    name: "CloseWithoutLength",
    what: "Answers say that the connection is closed after them, and have no length."
  },
  { ...framing, name: "WrongCharset", what: "The charset header names another encoding than the document has." },
  {
    ...framing,
    name: "KeepsConnection",
    what: "Connections are kept after an answer, for any number of requests."
  },
  {
    ...framing,
    name: "ClosesKeptConnection",
    what: "Connections are said to be kept, and closed without an answer when the next request comes."
  },
  { ...framing, name: "OddHeaderCase", what: "Names of headers come in upper, lower and mixed case." },
  {
    ...calls,
    name: "TabBeforeXml",
    what: "Documents begin with a tab before the XML declaration.",
    where: "description"
  },
  { ...calls, name: "BomBeforeXml", what: "Documents begin with a byte order mark.", where: "description" },
  { ...calls, name: "ExactSoapAction", what: "Calls are refused unless their header is written SOAPAction exactly." },
  { ...calls, name: "UpperCaseProtocol", what: "Mappings are refused unless the protocol is written TCP or UDP." },
  {
    ...calls,
    name: "ArgumentOrder",
    what: "Calls are refused unless the arguments stand in the order of the document."
  },

  {
    ...leases,
    name: "OnlyPermanentLeases",
    what: "Limited leases are refused with error 725.",
    protocols: upnpOnly
  },
  {
    ...leases,
    name: "InvalidArgsForLeases",
    what: "Limited leases are refused with error 402 in place of 725.",
    protocols: upnpOnly
  },
  {
    ...leases,
    name: "ExpiresLeasesAtOnce",
    what: "A limited lease is granted and gone at once; only permanent ones last.",
    protocols: upnpOnly
  },
  {
    ...leases,
    name: "RefusesPermanentLeases",
    what: "A lease of 0 is refused, as routers of the second version may.",
    protocols: upnpOnly
  },
  {
    ...leases,
    name: "RefusesLeasesAboveOneWeek",
    what: "A lease of more than 604800 seconds is refused, as routers of the second version may.",
    protocols: upnpOnly
  },

  {
    ...refusals,
    name: "ConflictInMappingEntry",
    what: "The first external port that is asked for belongs to another host: error 718."
  },
  {
    ...refusals,
    name: "SamePortValuesRequired",
    what: "An external port other than the internal port is refused: error 724."
  },
  {
    ...refusals,
    name: "RemoteHostOnlySupportsWildcard",
    what: "A mapping for one remote host is refused: error 726.",
    protocols: upnpOnly
  },
  {
    ...refusals,
    name: "ExternalPortOnlySupportsWildcard",
    what: "A mapping of one external port is refused: error 727.",
    protocols: upnpOnly,
    outcome: "Unsupported"
  },
  {
    ...refusals,
    name: "NoPortMapsAvailable",
    what: "There is never room for a mapping: error 728.",
    outcome: "OutOfResources"
  },
  {
    ...refusals,
    name: "ConflictWithOtherMechanisms",
    what: "Every external port is held by another mechanism of the router: error 729.",
    protocols: upnpOnly,
    outcome: "Conflict"
  },
  {
    ...refusals,
    name: "WildCardNotPermittedInIntPort",
    what: "A mapping to internal port 0 is refused: error 732.",
    protocols: upnpOnly
  },
  {
    ...refusals,
    name: "ActionNotAuthorized",
    what: "Mappings are switched off in the settings: error 606.",
    outcome: "NotAuthorized"
  },
  {
    ...refusals,
    name: "TableFullIsActionFailed",
    what: "A full table is reported as error 501, and it is always full.",
    outcome: "OutOfResources"
  },
  {
    ...refusals,
    name: "DeletionSaysNoSuchEntry",
    what: "A mapping is deleted, and the answer is error 714 as if there had been none.",
    protocols: upnpOnly
  },
  {
    ...refusals,
    name: "MissingEntryIsInvalidIndex",
    what: "Asking for a mapping that is not there ends in error 713 in place of 714.",
    protocols: upnpOnly,
    where: "soap",
    strengths: onTheWire
  },
  {
    ...refusals,
    name: "EndOfListIsInvalidArgs",
    what: "The list of mappings ends with error 402 in place of 713.",
    protocols: upnpOnly,
    where: "soap",
    strengths: onTheWire
  },

  { ...addresses, name: "ExternalAddressZero", what: "The external address is reported as 0.0.0.0." },
  { ...addresses, name: "ExternalAddressEmpty", what: "The external address is reported as nothing." },
  {
    ...addresses,
    name: "ExternalAddressPrivate",
    what: "The external address is a private one: there is another NAT."
  },
  {
    ...addresses,
    name: "ExternalAddressShared",
    what: "The external address is of 100.64.0.0/10: the carrier has a NAT."
  },

  {
    ...leases,
    item: 8,
    name: "PermanentLeasesPileUp",
    what: "Leases are permanent, the wanted port is taken, and one internal port may have any number of external ones."
  },

  { ...restarts, name: "RestartEmptiesTable", what: "A restart loses every mapping." },
  { ...restarts, name: "RestartKeepsTable", what: "A restart keeps the mappings although the epoch starts over." },
  {
    ...restarts,
    name: "EpochStartsOver",
    what: "Nothing is announced: the epoch in the answers to other requests shows that a restart has lost the mappings.",
    protocols: ["natpmp", "pcp"],
    where: "natpmp",
    strengths: onTheWire
  },
  {
    ...restarts,
    name: "AnnouncesOnlyToGroup",
    what: "A restart and another external address are announced to every host of the network, and to nobody apart.",
    protocols: ["natpmp", "pcp"],
    where: "natpmp",
    strengths: onTheWire
  },
  {
    ...restarts,
    name: "AnnouncesOnlyToClients",
    what: "A restart and another external address are told only to the hosts that have mappings by PCP, each apart.",
    protocols: ["pcp"],
    where: "natpmp",
    strengths: onTheWire
  },
  {
    ...restarts,
    name: "EpochStandsStill",
    what: "The epoch is always 0.",
    protocols: ["natpmp", "pcp"],
    where: "natpmp",
    strengths: onTheWire
  },
  {
    ...restarts,
    name: "EpochJumpsBack",
    what: "The epoch starts over every ten minutes, and the mappings stay.",
    protocols: ["natpmp", "pcp"],
    where: "natpmp",
    strengths: onTheWire
  },
  {
    ...restarts,
    name: "RestartMovesControl",
    what: "A restart changes the port and the control URL.",
    protocols: upnpOnly,
    where: "description",
    strengths: onTheWire
  },
  {
    ...restarts,
    name: "BootIdChanges",
    what: "A restart is announced, with another BOOTID, and loses every mapping.",
    protocols: upnpOnly,
    where: "ssdp",
    strengths: onTheWire
  },
  { ...restarts, name: "LeasesVanishOvernight", what: "Once a day every mapping is gone, whatever its lease." },
  {
    ...restarts,
    name: "PermanentLeasesVanishOvernight",
    what: "Limited leases are refused, and once a day every mapping is gone."
  },

  {
    ...leases,
    item: 10,
    name: "FreedPortsAreTaken",
    what: "An external port that is freed belongs to another host at once, so that only renewal in place keeps it."
  },

  {
    ...surroundings,
    item: 11,
    name: "DeadSecondGateway",
    what: "A second gateway takes requests and never answers.",
    strengths: onTheWire,
    note: "On loopback the router brings the second gateway. In a SimulatedNetwork the host has one more of its gateways, an address at which nobody is."
  },

  {
    ...hosts,
    name: "DockerBridge",
    what: "The host has a bridge to containers beside its network.",
    note: 'The host has it, no router does. In a SimulatedNetwork: one more attachment, { lan: network.addLan({ network: "172.17.0.0/16" }), address: "172.17.0.1", name: "docker0" }, before the others.'
  },
  {
    ...hosts,
    name: "VpnInterface",
    what: "The host has a tunnel that takes part of its routes.",
    note: 'The host has it, no router does. In a SimulatedNetwork: one more attachment, { lan: network.addLan({ network: "10.8.0.0/24" }), address: "10.8.0.2", name: "tun0" }, and after the router one more of its gateways, 10.8.0.1.'
  },
  {
    ...hosts,
    name: "HostOnlyNetwork",
    what: "The host has a network to its virtual machines only.",
    note: 'The host has it, no router does. In a SimulatedNetwork: one more attachment, { lan: network.addLan({ network: "192.168.56.0/24" }), address: "192.168.56.1", name: "vboxnet0" }, before the others.'
  },

  {
    ...overIpv6,
    name: "PinholeNeedsGlobalAddress",
    what: "A pinhole is refused unless the internal client is a global unicast address, and the one that asks.",
    where: "soap",
    note: "The router is reached over IPv6, too. In a SimulatedNetwork: a LAN of its own for IPv6, the host attached to it, on it an appliance whose device has the onRequest of the router's, and after the router one more of the host's gateways, that appliance's address."
  },
  {
    ...overIpv6,
    name: "FailsWhenFamiliesSearchAtOnce",
    what: "The router falls silent for a while when it is searched for over IPv4 and IPv6 at once.",
    where: "ssdp",
    strengths: onTheWire
  },

  {
    ...surroundings,
    item: 14,
    name: "FailoverPair",
    what: "The gateway that maps ports has another address than the default gateway, which maps none.",
    strengths: onTheWire,
    note: "On loopback the host's default gateway is another address than the router. In a SimulatedNetwork the host's only gateway is a second router, which has no devices."
  },

  {
    ...leases,
    item: 15,
    name: "NeverForgets",
    what: "Leases are granted and never end, so what a killed process had mapped stays."
  },

  { ...events, name: "EventsNotOffered", what: "The description has an empty place for subscriptions to events." },
  { ...events, name: "EventsNeverSent", what: "Subscriptions to events are granted, and no event is ever sent." },
  { ...events, name: "SubscriptionsRefused", what: "Every subscription to events is refused with HTTP status 503." },

  {
    ...pcpOnly,
    name: "IgnoresPcp",
    what: "Requests of PCP are not answered, not even to say that only NAT-PMP is spoken.",
    outcome: "NoGateway"
  },
  {
    ...gatewayPort,
    name: "IgnoresNatPmp",
    what: "Requests of NAT-PMP are not answered, not even to say that only PCP is spoken.",
    protocols: ["natpmp"],
    outcome: "NoGateway"
  },
  {
    ...pcpOnly,
    name: "AnswersPcpWithVersion1",
    what: "Requests of PCP are refused with the version 1 of a draft that never became the protocol.",
    outcome: "Unsupported"
  },
  {
    ...pcpOnly,
    name: "RefusesOwnVersion",
    what: "Requests of PCP are refused for their version, and the refusal names that same version: it refuses nothing.",
    outcome: "NoGateway"
  },
  {
    ...pcpOnly,
    name: "SeesAnotherAddress",
    what: "Requests of PCP are refused with ADDRESS_MISMATCH, as through another NAT on the way.",
    outcome: "Unsupported"
  },
  {
    ...gatewayPort,
    name: "RepliesFromOtherPort",
    what: "Answers come from a port other than 5351, and nobody can know whose they are.",
    outcome: "NoGateway"
  },
  {
    ...gatewayPort,
    name: "RepliesCutShort",
    what: "The last four bytes of every answer are missing.",
    outcome: "NoGateway"
  },
  { ...gatewayPort, name: "RepliesPadded", what: "Every answer is followed by four zeros." },
  { ...gatewayPort, name: "RepliesTwice", what: "Every answer comes twice." },
  { ...gatewayPort, name: "RepliesLate", what: "Every answer takes more than a second." },
  {
    ...gatewayPort,
    name: "GrantsOtherPorts",
    what: "The external port is never the one that was suggested, though no other may do."
  },
  {
    ...gatewayPort,
    name: "LeasesAtLeastTwoMinutes",
    what: "Leases that are shorter than two minutes are made longer."
  },
  { ...gatewayPort, name: "LeasesAtMostTwoMinutes", what: "Leases that are longer than two minutes are cut." },
  {
    ...pcpOnly,
    name: "AnnounceUnsupported",
    what: "An ANNOUNCE is refused as an unknown opcode, and everything else works."
  },
  {
    ...pcpOnly,
    name: "PreferFailureUnsupported",
    what: "A MAP with PREFER_FAILURE is refused as one with an unknown option."
  },
  {
    ...pcpOnly,
    name: "IgnoresNonces",
    what: "Mappings are changed and deleted, and the answer is success, whoever asks with whatever nonce."
  },
  {
    ...pcpOnly,
    name: "DeletionSaysNoResources",
    what: "The deletion of a mapping that is not there is refused with NO_RESOURCES."
  }
] as const satisfies ReadonlyArray<Profile>

/**
 * The name of a quirk.
 *
 * @category models
 * @since 0.1.0
 */
export type Quirk = (typeof profiles)[number]["name"]

/**
 * The names of all quirks.
 *
 * @category constants
 * @since 0.1.0
 */
export const names: ReadonlyArray<Quirk> = profiles.map((profile) => profile.name)

/**
 * Describes a quirk.
 *
 * @category accessors
 * @since 0.1.0
 */
export const profileOf = (name: Quirk): Profile & { readonly name: Quirk } => {
  const found = profiles.find((profile) => profile.name === name)
  // Every name is one of the list: there is no other way to get one.
  return found as Profile & { readonly name: Quirk }
}

/**
 * The quirks that can be run in one strength of simulation.
 *
 * @category accessors
 * @since 0.1.0
 */
export const runningIn = (strength: Strength): ReadonlyArray<Profile & { readonly name: Quirk }> =>
  profiles.filter((profile: Profile) => profile.strengths.includes(strength))

/**
 * Whether clients are expected to cope with a quirk.
 *
 * @category guards
 * @since 0.1.0
 */
export const isHandled = (profile: Profile): boolean => profile.handled === "yes"
