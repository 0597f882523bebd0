/**
 * What a real router's daemon says, and the simulated router does not, or the other way round.
 */

/** By question: what the daemon answers over PCP, and what the simulated router does. */
export const pcp: Readonly<Record<string, readonly [daemon: string, simulated: string]>> = {
  // The daemon compares the client's address, and looks for mandatory options, in a MAP request only.
  "PCP: announce from another address": ["02800000 for 0", "0280000c"],
  "PCP: announce with a mandatory option": ["02800000 for 0 7e000000", "02800005 7e000000"],
  // A mapping is changed and deleted with its nonce only (RFC 6887 §11.3), and what UPnP has mapped has none. The daemon
  // compares no nonces.
  "PCP: map with another nonce": [
    "02810000 for 3600 protocol 6 14000 at 11.22.33.1:14001 with another nonce",
    "02810002 protocol 6 14000 at 0.0.0.0:14001 with another nonce"
  ],
  "PCP: delete with another nonce": [
    "02810000 for 0 protocol 6 14000 at 11.22.33.1:0 with another nonce",
    "02810002 protocol 6 14000 at 0.0.0.0:0 with another nonce"
  ],
  "PCP: map what UPnP has": [
    "02810000 for 3600 protocol 6 15000 at 11.22.33.1:15000",
    "02810002 protocol 6 15000 at 0.0.0.0:15000"
  ],
  "PCP: delete what UPnP has": [
    "02810000 for 0 protocol 6 15000 at 11.22.33.1:15000",
    "02810002 protocol 6 15000 at 0.0.0.0:15000"
  ],
  // The mapping that there is is the answer; the daemon adds one.
  "PCP: map again at another port": [
    "02810000 for 3600 protocol 6 14000 at 11.22.33.1:14002",
    "02810000 for 3600 protocol 6 14000 at 11.22.33.1:14001"
  ],
  // Which other port is granted is the router's choice.
  "PCP: map the taken port": [
    "02810000 for 3600 protocol 6 14010 at 11.22.33.1:14001 with another nonce",
    "02810000 for 3600 protocol 6 14010 at 11.22.33.1:49152 with another nonce"
  ],
  "PCP: map any port": [
    "02810000 for 3600 protocol 6 14013 at 11.22.33.1:14013",
    "02810000 for 3600 protocol 6 14013 at 11.22.33.1:49153"
  ],
  "PCP: map at another address": [
    "02810000 for 3600 protocol 6 14015 at 11.22.33.1:14004",
    "02810000 for 3600 protocol 6 14015 at 11.22.33.1:49154"
  ],
  // The daemon grants another port to whoever prefers a failure to that (§13.2).
  "PCP: map the taken port and no other": [
    "02810000 for 3600 protocol 6 14011 at 11.22.33.1:14003 02000000",
    "0281000b protocol 6 14011 at 0.0.0.0:14001 02000000"
  ],
  // The daemon's shortest and longest lease are options of it.
  "PCP: map for a minute": [
    "02810000 for 120 protocol 6 14016 at 11.22.33.1:14016",
    "02810000 for 60 protocol 6 14016 at 11.22.33.1:14016"
  ],
  "PCP: map for a year": [
    "02810000 for 86400 protocol 6 14017 at 11.22.33.1:14017",
    "02810000 for 604800 protocol 6 14017 at 11.22.33.1:14017"
  ],
  // No host gets everything, and no other protocol is forwarded.
  "PCP: map internal port 0": [
    "02810000 for 3600 protocol 6 0 at 11.22.33.1:14005",
    "02810002 protocol 6 0 at 0.0.0.0:14001"
  ],
  "PCP: map all protocols": [
    "02810000 for 3600 protocol 0 0 at 11.22.33.1:14001",
    "02810009 protocol 0 0 at 0.0.0.0:14001"
  ],
  "PCP: map sctp": [
    "02810000 for 3600 protocol 132 14018 at 11.22.33.1:14001",
    "02810009 protocol 132 14018 at 0.0.0.0:14001"
  ],
  // What was not processed is left out (§7.3).
  "PCP: map with an optional option": [
    "02810000 for 3600 protocol 6 14019 at 11.22.33.1:14019 fe000000",
    "02810000 for 3600 protocol 6 14019 at 11.22.33.1:14019"
  ],
  // What is deleted is sent back as it was asked for, and what is not there counts as deleted.
  "PCP: delete": ["02810000 for 0 protocol 6 14000 at 11.22.33.1:0", "02810000 for 0 protocol 6 14000 at 0.0.0.0:0"],
  "PCP: delete udp": [
    "02810000 for 0 protocol 17 14000 at 11.22.33.1:0",
    "02810000 for 0 protocol 17 14000 at 0.0.0.0:0"
  ],
  "PCP: delete what UPnP has as well": [
    "02810000 for 0 protocol 6 15000 at 11.22.33.1:15000",
    "02810000 for 0 protocol 6 15000 at 0.0.0.0:15000"
  ],
  "PCP: delete again": ["02810008 protocol 6 14000 at 11.22.33.1:0", "02810000 for 0 protocol 6 14000 at 0.0.0.0:0"],
  // A connection is kept or given up with its nonce only, and has two ends (§12.3). What is given up has its usual time
  // again, which the daemon does not know how to say.
  "PCP: peer with another nonce": [
    "02820000 for 3600 protocol 6 14000 at 11.22.33.1:14001 with another nonce 0050000000000000000000000000ffff0b162102",
    "02820002 protocol 6 14000 at 0.0.0.0:14001 with another nonce 0050000000000000000000000000ffff0b162102"
  ],
  "PCP: peer to no port": [
    "02820000 for 3600 protocol 6 14000 at 11.22.33.1:14001 0000000000000000000000000000ffff0b162102",
    "02820003 protocol 6 14000 at 0.0.0.0:14001 0000000000000000000000000000ffff0b162102"
  ],
  "PCP: peer for no time": [
    "02820008 protocol 6 14000 at 11.22.33.1:14001 0050000000000000000000000000ffff0b162102",
    "02820000 for 0 protocol 6 14000 at 11.22.33.1:14001 0050000000000000000000000000ffff0b162102"
  ],
  // PREFER_FAILURE is an option of MAP only (§13.2): not understood, or not right.
  "PCP: peer with an option of MAP": [
    "02820003 protocol 6 14000 at 0.0.0.0:14001 0050000000000000000000000000ffff0b16210202000000",
    "02820005 protocol 6 14000 at 0.0.0.0:14001 0050000000000000000000000000ffff0b16210202000000"
  ],
  // What was not understood comes back with the end of the client's address (§7.2), and as PCP if it was that.
  "PCP: map with an option cut off": [
    "02810006 protocol 6 14021 at 0.0.0.0:14021 02000008",
    "02810006 to 000000000000ffffc0a84d02 protocol 6 14021 at 0.0.0.0:14021 02000008"
  ],
  "PCP: opcode 5": ["02850004", "02850004 to 000000000000ffffc0a84d02"],
  "PCP: version 3": ["02800001", "02800001 to 000000000000ffffc0a84d02"],
  "PCP: two bytes": ["", "02800003"],
  "PCP: a header cut off": ["00800003", "02800003"],
  "PCP: a length that is not of fours": ["00800003 00000000", "02800003 to 000000000000ffffc0a84d02 00000000"],
  "PCP: a map cut off": [
    "00800003 0102030405060708090a0b0c0600000036b036b100000000",
    "02810003 to 000000000000ffffc0a84d02 0102030405060708090a0b0c0600000036b036b100000000"
  ]
}

/** What each document has that the other router's has not. */
export interface Document {
  readonly daemon: ReadonlyArray<string>
  readonly simulated: ReadonlyArray<string>
}

/** The description, where whoever made the router and which one it is may be anything. */
export const description: Document = {
  daemon: [
    "InternetGatewayDevice:1 manufacturerURL",
    "InternetGatewayDevice:1 modelDescription",
    "InternetGatewayDevice:1 modelNumber",
    "InternetGatewayDevice:1 modelURL",
    "InternetGatewayDevice:1 serialNumber",
    "InternetGatewayDevice:1 WANDevice:1 manufacturerURL",
    "InternetGatewayDevice:1 WANDevice:1 modelDescription",
    "InternetGatewayDevice:1 WANDevice:1 modelNumber",
    "InternetGatewayDevice:1 WANDevice:1 modelURL",
    "InternetGatewayDevice:1 WANDevice:1 serialNumber",
    "InternetGatewayDevice:1 WANDevice:1 UPC",
    "InternetGatewayDevice:1 WANDevice:1 WANConnectionDevice:1 manufacturerURL",
    "InternetGatewayDevice:1 WANDevice:1 WANConnectionDevice:1 modelDescription",
    "InternetGatewayDevice:1 WANDevice:1 WANConnectionDevice:1 modelNumber",
    "InternetGatewayDevice:1 WANDevice:1 WANConnectionDevice:1 modelURL",
    "InternetGatewayDevice:1 WANDevice:1 WANConnectionDevice:1 serialNumber",
    "InternetGatewayDevice:1 WANDevice:1 WANConnectionDevice:1 UPC",
    "InternetGatewayDevice:1 presentationURL"
  ],
  simulated: []
}

/** The service's description. Clients call what they know of, and the simulated router has but strings for them. */
export const service: Document = {
  daemon: [
    "SetConnectionType name=SetConnectionType",
    "SetConnectionType NewConnectionType name=NewConnectionType",
    "SetConnectionType NewConnectionType direction=in",
    "SetConnectionType NewConnectionType relatedStateVariable=ConnectionType",
    "RequestConnection name=RequestConnection",
    "ForceTermination name=ForceTermination",
    "GetGenericPortMappingEntry NewPortMappingIndex relatedStateVariable=PortMappingNumberOfEntries",
    "GetGenericPortMappingEntry NewProtocol relatedStateVariable=PortMappingProtocol",
    "GetGenericPortMappingEntry NewEnabled relatedStateVariable=PortMappingEnabled",
    "GetGenericPortMappingEntry NewLeaseDuration relatedStateVariable=PortMappingLeaseDuration",
    "GetSpecificPortMappingEntry NewProtocol relatedStateVariable=PortMappingProtocol",
    "GetSpecificPortMappingEntry NewEnabled relatedStateVariable=PortMappingEnabled",
    "GetSpecificPortMappingEntry NewLeaseDuration relatedStateVariable=PortMappingLeaseDuration",
    "AddPortMapping NewProtocol relatedStateVariable=PortMappingProtocol",
    "AddPortMapping NewEnabled relatedStateVariable=PortMappingEnabled",
    "AddPortMapping NewLeaseDuration relatedStateVariable=PortMappingLeaseDuration",
    "DeletePortMapping NewProtocol relatedStateVariable=PortMappingProtocol",
    "ConnectionType defaultValue=IP_Routed",
    "PossibleConnectionTypes allowedValue=Unconfigured",
    "PossibleConnectionTypes allowedValue=IP_Routed",
    "PossibleConnectionTypes allowedValue=IP_Bridged",
    "ConnectionStatus defaultValue=Unconfigured",
    "ConnectionStatus allowedValue=Unconfigured",
    "ConnectionStatus allowedValue=Connecting",
    "ConnectionStatus allowedValue=Connected",
    "ConnectionStatus allowedValue=PendingDisconnect",
    "ConnectionStatus allowedValue=Disconnecting",
    "ConnectionStatus allowedValue=Disconnected",
    "Uptime dataType=ui4",
    "LastConnectionError defaultValue=ERROR_NONE",
    "LastConnectionError allowedValue=ERROR_NONE",
    "RSIPAvailable dataType=boolean",
    "RSIPAvailable defaultValue=0",
    "NATEnabled dataType=boolean",
    "NATEnabled defaultValue=1",
    "PortMappingNumberOfEntries dataType=ui2",
    "PortMappingEnabled name=PortMappingEnabled",
    "PortMappingEnabled dataType=boolean",
    "PortMappingLeaseDuration name=PortMappingLeaseDuration",
    "PortMappingLeaseDuration dataType=ui4",
    "PortMappingLeaseDuration defaultValue=3600",
    "PortMappingLeaseDuration minimum=0",
    "PortMappingLeaseDuration maximum=604800",
    "ExternalPort dataType=ui2",
    "InternalPort dataType=ui2",
    "InternalPort minimum=1",
    "InternalPort maximum=65535",
    "PortMappingProtocol name=PortMappingProtocol",
    "PortMappingProtocol dataType=string",
    "PortMappingProtocol allowedValue=TCP",
    "PortMappingProtocol allowedValue=UDP",
    "SystemUpdateID name=SystemUpdateID",
    "SystemUpdateID dataType=ui4",
    "A_ARG_TYPE_Manage name=A_ARG_TYPE_Manage",
    "A_ARG_TYPE_Manage dataType=boolean",
    "A_ARG_TYPE_PortListing name=A_ARG_TYPE_PortListing",
    "A_ARG_TYPE_PortListing dataType=string"
  ],
  simulated: [
    "GetAutoDisconnectTime name=GetAutoDisconnectTime",
    "GetAutoDisconnectTime NewAutoDisconnectTime name=NewAutoDisconnectTime",
    "GetAutoDisconnectTime NewAutoDisconnectTime direction=out",
    "GetAutoDisconnectTime NewAutoDisconnectTime relatedStateVariable=AutoDisconnectTime",
    "GetIdleDisconnectTime name=GetIdleDisconnectTime",
    "GetIdleDisconnectTime NewIdleDisconnectTime name=NewIdleDisconnectTime",
    "GetIdleDisconnectTime NewIdleDisconnectTime direction=out",
    "GetIdleDisconnectTime NewIdleDisconnectTime relatedStateVariable=IdleDisconnectTime",
    "GetWarnDisconnectDelay name=GetWarnDisconnectDelay",
    "GetWarnDisconnectDelay NewWarnDisconnectDelay name=NewWarnDisconnectDelay",
    "GetWarnDisconnectDelay NewWarnDisconnectDelay direction=out",
    "GetWarnDisconnectDelay NewWarnDisconnectDelay relatedStateVariable=WarnDisconnectDelay",
    "GetGenericPortMappingEntry NewPortMappingIndex relatedStateVariable=PortMappingIndex",
    "GetGenericPortMappingEntry NewProtocol relatedStateVariable=Protocol",
    "GetGenericPortMappingEntry NewEnabled relatedStateVariable=Enabled",
    "GetGenericPortMappingEntry NewLeaseDuration relatedStateVariable=LeaseDuration",
    "GetSpecificPortMappingEntry NewProtocol relatedStateVariable=Protocol",
    "GetSpecificPortMappingEntry NewEnabled relatedStateVariable=Enabled",
    "GetSpecificPortMappingEntry NewLeaseDuration relatedStateVariable=LeaseDuration",
    "AddPortMapping NewProtocol relatedStateVariable=Protocol",
    "AddPortMapping NewEnabled relatedStateVariable=Enabled",
    "AddPortMapping NewLeaseDuration relatedStateVariable=LeaseDuration",
    "DeletePortMapping NewProtocol relatedStateVariable=Protocol",
    "Uptime dataType=string",
    "AutoDisconnectTime name=AutoDisconnectTime",
    "AutoDisconnectTime dataType=string",
    "IdleDisconnectTime name=IdleDisconnectTime",
    "IdleDisconnectTime dataType=string",
    "WarnDisconnectDelay name=WarnDisconnectDelay",
    "WarnDisconnectDelay dataType=string",
    "RSIPAvailable dataType=string",
    "NATEnabled dataType=string",
    "PortMappingIndex name=PortMappingIndex",
    "PortMappingIndex dataType=string",
    "ExternalPort dataType=string",
    "Protocol name=Protocol",
    "Protocol dataType=string",
    "InternalPort dataType=string",
    "Enabled name=Enabled",
    "Enabled dataType=string",
    "LeaseDuration name=LeaseDuration",
    "LeaseDuration dataType=string",
    "PortMappingNumberOfEntries dataType=string"
  ]
}
