/**
 * Faults that a careless change could make, and that other libraries had: each is written into the sources as they are
 * loaded, in memory, and the campaign has to catch it.
 *
 * A source that no longer has what an edit replaces is an error: then the mutant has to follow it.
 */
import * as Fs from "node:fs"
import type * as Judge from "./judge.ts"

export interface Edit {
  /** From `packages/`. */
  readonly file: string
  /** Occurs exactly once. */
  readonly from: string
  readonly to: string
}

export interface Mutant {
  readonly name: string
  /** What goes wrong, in one sentence. */
  readonly what: string
  /** The invariant that is meant for it: another one may be quicker, and does not do. */
  readonly by: Judge.Invariant
  readonly edits: ReadonlyArray<Edit>
}

const engine = "core/src/LeaseEngine.ts"
const ledger = "core/src/Ledger.ts"
const channel = "natpmp/src/internal/gatewayChannel.ts"
const client = "natpmp/src/NatPmpClient.ts"
const codec = "natpmp/src/NatPmpCodec.ts"
const natPmpLease = "natpmp/src/internal/natPmpLease.ts"
const pcpClient = "natpmp/src/PcpClient.ts"
const pcpCodec = "natpmp/src/PcpCodec.ts"
const pcpEpoch = "natpmp/src/PcpEpoch.ts"
const pcpLease = "natpmp/src/internal/pcpLease.ts"
const refusals = "natpmp/src/internal/refusals.ts"
const announcements = "natpmp/src/internal/announcements.ts"
const silenceWatch = "natpmp/src/internal/silenceWatch.ts"
const lease = "upnp/src/internal/upnpLease.ts"
const current = "upnp/src/internal/currentGateway.ts"
const upnp = "upnp/src/Upnp.ts"
const search = "upnp/src/SsdpSearch.ts"
const probe = "upnp/src/internal/upnpProbe.ts"
const surroundings = "upnp/src/internal/ssdpSurroundings.ts"

const edit = (file: string, from: string, to: string): Edit => ({ file, from, to })

const releasing = "const outcome = yield* Effect.exit(unlessAnothers(protocol, deletion))"
const renewing = "const renewing = yield* Effect.forkDetach(renewals)"
const renewals = "const renewals = Effect.gen(function* () {"
const noting = "noteFailure(cause, failures + 1)"
const failed = `Effect.catchCause((cause) => Effect.as(${noting}, failures + 1))`
const abandoning = "undoFirst(protocol, resolved, cause)"

const openSocket = "udp.open({ connect: peer, bind })"
const fromGateway = "Equal.equals(address, peer) ? conversation.judge(payload, receivedAt) : IgnoredDatagrams.foreign"

/** A socket that hears everybody. */
const unconnected = edit(
  channel,
  openSocket,
  "Effect.map(Effect.flatMap(Effect.scoped(udp.open({ connect: peer, bind })), (one) => udp.open({ bind: { address: one.address.address } })), (open) => ({ ...open, send: (payload: Uint8Array) => open.send(payload, peer) }))"
)

/** What a client of PCP could do wrong. */
const ofPcp: ReadonlyArray<Mutant> = [
  {
    name: "lost-nonce",
    what: "Every request of PCP has a nonce of its own.",
    by: "nonce-kept",
    edits: [
      edit(
        pcpClient,
        "nonce: mapping.nonce,",
        "nonce: Codec.nonceFromBytes(crypto.getRandomValues(new Uint8Array(12))),"
      )
    ]
  },
  {
    name: "released-with-another-nonce",
    what: "A mapping of PCP is deleted with another nonce than it was made with.",
    by: "nonce-kept",
    edits: [
      edit(
        pcpClient,
        "mapFields({ ...mapping, externalPort: 0 }, local)",
        "mapFields({ ...mapping, nonce: Codec.nonceFromBytes(Uint8Array.of(7)), externalPort: 0 }, local)"
      )
    ]
  },
  {
    name: "pcp-foreign-reply-accepted",
    what: "An answer of PCP is believed whoever sent it.",
    by: "live-or-lost",
    edits: [unconnected, edit(channel, fromGateway, fromGateway.replace(" ?", " || payload[0] === 2 ?"))]
  },
  {
    name: "pcp-nonce-unchecked",
    what: "An answer of PCP is believed whatever its nonce.",
    by: "live-or-lost",
    edits: [edit(pcpClient, "self.nonce === that.nonce && self.protocol", "self.protocol")]
  },
  {
    name: "pcp-answer-to-another-accepted",
    what: "An answer of PCP for another internal port is believed.",
    by: "live-or-lost",
    edits: [
      edit(
        pcpClient,
        "self.protocol === that.protocol && self.internalPort === that.internalPort",
        "self.protocol === that.protocol"
      )
    ]
  },
  {
    name: "pcp-short-datagram-crashes",
    what: "A datagram of PCP is read without a look at its length.",
    by: "no-defect",
    edits: [
      edit(
        pcpCodec,
        'if (bytes.length < 4) return refuse("TooShort", bytes)\n  const view = viewOf(bytes)\n  const opcode = view.getUint8(1)\n  if (opcode < responseBit)',
        "const view = viewOf(bytes)\n  const opcode = view.getUint8(1)\n  if (opcode < responseBit)"
      )
    ]
  },
  {
    name: "epoch-test-skipped",
    what: "The epoch of a PCP server is not looked at.",
    by: "recovers-soon",
    edits: [
      edit(
        pcpEpoch,
        "const client = Number(current.receivedAt",
        "if (current.seconds >= 0) return false\n  const client = Number(current.receivedAt"
      ),
      edit(pcpEpoch, "if (current.seconds < previous.seconds - backwardsTolerance) return true", "")
    ]
  },
  {
    name: "announcements-unheard",
    what: "Nobody listens to what gateways announce.",
    by: "recovers-soon",
    edits: [edit(announcements, "if (wanted.size === 0) return", "if (wanted.size >= 0) return")]
  },
  {
    name: "double-nat-unflagged",
    what: "A mapping on a gateway behind another NAT looks like any other.",
    by: "double-nat-told",
    edits: [edit(engine, "return doubleNat === lease.mapping.doubleNat", "return lease.mapping.enabled")]
  },
  {
    name: "negotiation-ignored",
    what: "A gateway that says it speaks NAT-PMP only is asked in PCP all the same.",
    by: "maps-when-healthy",
    edits: [
      edit(
        pcpClient,
        'return error.opcode === opcode || error.opcode === 0 ? Result.succeed(error) : mismatch("an error for another")',
        'return mismatch("an error for another")'
      )
    ]
  },
  {
    name: "error-lifetime-ignored",
    what: "What a PCP server has refused is asked for again before that is over.",
    by: "refusals-last",
    edits: [
      edit(pcpClient, "if (known !== undefined) return yield* known", "if (payload.length === 0) return yield* known")
    ]
  },
  {
    name: "refused-for-ever",
    what: "What a PCP server has refused once is never asked for again.",
    by: "maps-when-healthy",
    edits: [edit(refusals, "BigInt(Math.min(seconds, longest))", "BigInt(Math.max(seconds, 1e6))")]
  },
  {
    name: "retransmission-without-back-off",
    what: "PCP's retransmissions come every three seconds.",
    by: "backs-off",
    edits: [edit(pcpClient, "Math.min(2 * previous, longestPause)", "firstPause")]
  },
  {
    name: "retransmission-in-a-hurry",
    what: "PCP's first retransmission comes after a third of a second.",
    by: "backs-off",
    edits: [edit(pcpClient, "const firstPause = 3000", "const firstPause = 300")]
  },
  {
    name: "pcp-milliseconds-as-seconds",
    what: "A lease of an hour is asked for over PCP as 3,600,000 seconds.",
    by: "lease-as-asked",
    edits: [edit(pcpClient, "Math.ceil(Duration.toSeconds(lifetime))", "Math.ceil(Duration.toMillis(lifetime))")]
  },
  {
    name: "pcp-suggested-port-ignored",
    what: "The external port that is wanted is not suggested over PCP.",
    by: "port-as-asked",
    edits: [
      edit(pcpClient, "externalPort: mapping.externalPort,\n  externalAddress", "externalPort: 0,\n  externalAddress")
    ]
  },
  {
    name: "pcp-tcp-as-udp",
    what: "Everything is mapped and deleted over PCP as UDP.",
    by: "maps-what-was-asked",
    edits: [edit(pcpClient, "protocol: ProtocolNumber[mapping.protocol],", "protocol: ProtocolNumber.udp,")]
  },
  {
    name: "strict-port-not-kept",
    what: "Another port than the one that it must be is taken over PCP.",
    by: "port-as-asked",
    edits: [
      edit(
        pcpLease,
        "if (granted.externalPort === request.externalPort) return granted",
        "if (granted.externalPort > 0) return granted"
      )
    ]
  },
  {
    name: "pcp-release-skipped",
    what: "Nothing is deleted when a mapping of PCP is released.",
    by: "release-leaves-nothing",
    edits: [
      edit(
        pcpLease,
        "inTurn(Deferred.succeed(releasing, undefined), deleteOn(handle, mapping))",
        "inTurn(Deferred.succeed(releasing, undefined), Effect.void)"
      )
    ]
  }
]

export const list: ReadonlyArray<Mutant> = [
  {
    name: "milliseconds-as-seconds",
    what: "A lease of an hour is asked for as 3,600,000 seconds.",
    by: "lease-as-asked",
    edits: [edit(client, "Math.ceil(Duration.toSeconds(lifetime))", "Math.ceil(Duration.toMillis(lifetime))")]
  },
  {
    name: "suggested-port-ignored",
    what: "The external port that is wanted is not asked for.",
    by: "port-as-asked",
    edits: [edit(client, "externalPort: mapping.externalPort,", "externalPort: 0,")]
  },
  {
    name: "flood-after-unmap",
    what: "After a release, the deletion is sent 400 times at once.",
    by: "no-flood",
    edits: [
      edit(
        engine,
        releasing,
        `${releasing}\n        yield* Effect.forkDetach(Effect.repeat(Effect.exit(protocol.release(lease)), { times: 400 }))`
      )
    ]
  },
  {
    name: "renewal-after-unmap",
    what: "The release does not end the renewals.",
    by: "nothing-left",
    edits: [
      edit(engine, "yield* Effect.timeoutOption(Fiber.interrupt(renewing), interruptionTimeout)", "void renewing")
    ]
  },
  {
    name: "delete-by-internal-port",
    what: "The deletion names the internal port, so that nothing is deleted.",
    by: "deletes-what-was-mapped",
    edits: [
      edit(
        lease,
        "yield* clearEntry(session, ours)\n",
        "yield* clearEntry(session, { ...ours, externalPort: ours.internalPort })\n"
      )
    ]
  },
  {
    name: "delete-without-protocol",
    what: "The deletion names no protocol, so that nothing is deleted.",
    by: "deletes-what-was-mapped",
    edits: [
      edit(lease, "yield* clearEntry(session, ours)\n", 'yield* clearEntry(session, { ...ours, protocol: "" })\n')
    ]
  },
  {
    name: "renewal-by-internal-port",
    what: "On renewal the internal port takes the place of the external one.",
    by: "port-as-asked",
    edits: [
      edit(
        lease,
        "const { externalPort } = lease.handle.entry\n",
        "const externalPort = lease.handle.entry.internalPort\n"
      )
    ]
  },
  {
    name: "fixed-client-port",
    what: "The client binds UDP port 5350, which another program holds.",
    by: "maps-when-healthy",
    edits: [edit(channel, openSocket, "udp.open({ connect: peer, bind: { ...bind, port: 5350 } })")]
  },
  {
    name: "second-release-releases-again",
    what: "A mapping that is released by hand is released once more by its scope.",
    by: "one-delete",
    edits: [edit(engine, "Ref.getAndSet(started, true)", "Ref.get(started)")]
  },
  {
    name: "short-datagram-crashes",
    what: "A datagram is read without a look at its length.",
    by: "no-defect",
    edits: [edit(codec, 'if (bytes.length < 4) return refuse("TooShort", bytes)', "")]
  },
  {
    name: "foreign-reply-accepted",
    what: "An answer is believed whoever sent it.",
    by: "live-or-lost",
    edits: [unconnected, edit(channel, fromGateway, "conversation.judge(payload, receivedAt)")]
  },
  {
    name: "answer-to-another-accepted",
    what: "An answer for another internal port is believed.",
    by: "live-or-lost",
    edits: [edit(client, "if (response.internalPort !== request.internalPort)", "if (response.internalPort === -1)")]
  },
  {
    name: "timed-out-request-blocks",
    what: "A request that timed out keeps its turn, so that no other ever has one.",
    by: "recovers",
    edits: [
      edit(
        channel,
        "(question.takesTurn ? turn : places).withPermit(Effect.andThen(checkRefusal, bounded(question)))",
        "Effect.andThen(turn.take(1), Effect.tap(bounded(question), () => turn.release(1)))"
      )
    ]
  },
  {
    name: "renewal-adds-a-timer",
    what: "Each renewal starts one more loop of renewals.",
    by: "one-renewal-loop",
    edits: [
      edit(
        engine,
        "failures = yield* renewOnce.pipe(",
        "yield* Effect.forkChild(Effect.suspend(() => renewals))\n          failures = yield* renewOnce.pipe("
      )
    ]
  },
  {
    name: "double-renewal",
    what: "Every mapping has two loops of renewals.",
    by: "one-renewal-loop",
    edits: [
      edit(
        engine,
        renewing,
        'const renewing = yield* Effect.forkDetach(Effect.all([renewals, renewals], { concurrency: "unbounded" }))'
      )
    ]
  },
  {
    name: "renewal-never-called",
    what: "Nothing is ever renewed.",
    by: "live-or-lost",
    edits: [edit(engine, renewing, "const renewing = yield* Effect.forkDetach(Effect.never)")]
  },
  {
    name: "permanent-retry-with-a-lease",
    what: "After error 725 the request is repeated with the same lease.",
    by: "maps-when-healthy",
    edits: [edit(lease, "wanted = withLease(wanted, leaseDuration)\n", "wanted = { ...wanted }\n")]
  },
  {
    name: "tcp-released-as-udp",
    what: "Every mapping is deleted as one of UDP.",
    by: "maps-what-was-asked",
    edits: [edit(client, "exchangeDeletion(name, mapping.protocol,", 'exchangeDeletion(name, "udp",')]
  },
  {
    name: "first-answer-only",
    what: "Only the first answer to a search is looked at, whatever it is.",
    by: "maps-when-healthy",
    edits: [edit(probe, "Stream.takeUntil((outcome) => isSettled(outcome, selected))", "Stream.take(1)")]
  },
  {
    name: "description-for-every-call",
    what: "The gateway is searched for and described again for every call.",
    by: "one-search",
    edits: [
      edit(
        current,
        "if (!isNews || selected !== undefined) return sought",
        "if (selected !== undefined) return sought\n    return undefined"
      )
    ]
  },
  {
    name: "dead-gateway-kept",
    what: "A gateway that is no longer there is asked for ever.",
    by: "recovers",
    edits: [edit(current, "mayHaveMoved(error) ? giveUp(one) : Effect.void", "Effect.void")]
  },
  {
    name: "release-skipped",
    what: "Nothing is deleted when a mapping is released.",
    by: "release-leaves-nothing",
    edits: [edit(engine, releasing, "const outcome = yield* Effect.exit(Effect.void)")]
  },
  {
    name: "interrupted-request-forgotten",
    what: "What an interrupted request may have left is not taken away.",
    by: "release-leaves-nothing",
    edits: [edit(engine, abandoning, "Effect.void")]
  },
  {
    name: "refresh-by-delete",
    what: "A renewal deletes the mapping first, which leaves a hole.",
    by: "no-delete-while-live",
    edits: [
      edit(
        engine,
        "Effect.suspend(() => protocol.renew(now.lease, again)),",
        "Effect.andThen(Effect.exit(protocol.release(now.lease)), Effect.suspend(() => protocol.renew(now.lease, again))),"
      )
    ]
  },
  {
    name: "loss-not-told",
    what: "A mapping whose lease has run out is still said to be in force.",
    by: "live-or-lost",
    edits: [
      edit(
        engine,
        "publish(new PortMapping.PortMapping({ ...lease.mapping, status }))",
        'publish(new PortMapping.PortMapping({ ...lease.mapping, status: status === "lost" ? "mapped" : status }))'
      )
    ]
  },
  {
    name: "absence-not-told",
    what: "A mapping whose gateway is silent is said to be in force until its lease ends.",
    by: "says-when-away",
    edits: [edit(engine, 'if (failures > 1) yield* publishAs("unconfirmed", now)', "yield* Effect.void")]
  },
  {
    name: "silence-not-noticed",
    what: "A gateway that says nothing is asked how it is, and that it is silent is no news to its mappings.",
    by: "says-when-away",
    edits: [edit(silenceWatch, "yield* isSilent(gateway, isGone ? undefined : held)", "yield* Effect.void")]
  },
  {
    name: "no-pause-after-failure",
    what: "A renewal that failed is tried again at once.",
    by: "no-flood",
    edits: [
      edit(
        engine,
        "Duration.min(Duration.times(shortestPause, 2 ** Math.min(failures - 1, 16)), longestPause)",
        "Duration.millis(failures > 0 ? 1 : 2)"
      )
    ]
  },
  {
    name: "protocols-swapped",
    what: "What is wanted for TCP is mapped for UDP, and the other way round.",
    by: "maps-what-was-asked",
    edits: [
      edit(
        engine,
        "const resolved = yield* MappingRequest.resolve(mappingRequest)",
        'const resolved = yield* Effect.map(MappingRequest.resolve(mappingRequest), (one) => ({ ...one, protocol: one.protocol === "tcp" ? "udp" : "tcp" }))'
      )
    ]
  },
  {
    name: "second-release-dies",
    what: "A mapping that is released by hand a second time throws.",
    by: "no-defect",
    edits: [
      edit(
        engine,
        "renew: Effect.asVoid(Queue.offer(woken, undefined)),\n        release\n",
        'renew: Effect.asVoid(Queue.offer(woken, undefined)),\n        release: ((calls) => Effect.suspend(() => calls++ === 0 ? release : Effect.die(new Error("released already"))))(0)\n'
      )
    ]
  },
  {
    name: "interrupted-request-dies",
    what: "A request that is interrupted throws.",
    by: "no-defect",
    edits: [
      edit(engine, abandoning, `(Cause.hasInterrupts(cause) ? Effect.die(new Error("not expected")) : ${abandoning})`)
    ]
  },
  {
    name: "failed-renewal-adds-a-loop",
    what: "The first renewal that fails starts one more loop of renewals.",
    by: "one-renewal-loop",
    edits: [
      edit(engine, renewals, `let more = 1\n      ${renewals}`),
      edit(
        engine,
        failed,
        failed.replace(
          noting,
          `Effect.andThen(${noting}, Effect.suspend(() => (more-- > 0 ? Effect.forkChild(renewals) : Effect.void)))`
        )
      )
    ]
  },
  {
    name: "failed-renewal-deletes",
    what: "A renewal that fails deletes the mapping, whose lease has not run out.",
    by: "no-delete-while-live",
    edits: [
      edit(
        engine,
        failed,
        failed.replace(
          noting,
          `Effect.andThen(${noting}, Effect.flatMap(Ref.get(held), ({ lease }) => Effect.exit(protocol.release(lease))))`
        )
      )
    ]
  },
  {
    name: "no-external-address",
    what: "No mapping says its external address.",
    by: "live-or-lost",
    edits: [
      edit(
        natPmpLease,
        "externalAddress,\n      externalPort: granted.externalPort,",
        "externalAddress: undefined,\n      externalPort: granted.externalPort,"
      ),
      edit(
        lease,
        "externalAddress,\n    externalPort: entry.externalPort,",
        "externalAddress: undefined,\n    externalPort: entry.externalPort,"
      )
    ]
  },
  {
    name: "changes-tell-nothing",
    what: "The stream of changes never has any.",
    by: "changes-tell",
    edits: [edit(engine, "changes: SubscriptionRef.changes(state).pipe(", "changes: Stream.never.pipe(")]
  },
  {
    name: "changes-never-end",
    what: "The stream of changes goes on after the release.",
    by: "changes-tell",
    edits: [edit(engine, ".pipe(Stream.interruptWhen(Effect.exit(Deferred.await(released))))", "")]
  },
  {
    name: "address-mistrusted-after-failure",
    what: "For five minutes after a renewal that failed, a mapping keeps the external address that it had.",
    by: "hears-of-address",
    edits: [
      edit(engine, renewals, `let mistrusted = 0\n      ${renewals}`),
      edit(
        engine,
        failed,
        failed.replace(
          noting,
          `Effect.andThen(${noting}, Effect.map(Clock.currentTimeMillis, (at) => { mistrusted = at + 300_000 }))`
        )
      ),
      edit(
        engine,
        "const lease = yield* restoreRenewal(asked).pipe(",
        "const lease = yield* restoreRenewal(asked).pipe(Effect.flatMap((one) => Effect.map(Clock.currentTimeMillis, (at) => at < mistrusted ? { ...one, mapping: new PortMapping.PortMapping({ ...one.mapping, externalAddress: now.lease.mapping.externalAddress }) } : one)),"
      )
    ]
  },
  {
    name: "release-deletes-anybodys",
    what: "A release deletes what is at its port, whoever has put it there since.",
    by: "others-untouched",
    edits: [
      edit(
        lease,
        'if (seen._tag === "Entry" && !isOurs(seen.entry, ours, yield* Ref.get(shown))) {',
        'if (seen._tag === "Entry" && seen.entry.externalPort !== ours.externalPort) {'
      )
    ]
  },
  {
    name: "taken-port-overwritten",
    what: "What is in the way of a mapping is deleted, and the mapping put in its place.",
    by: "others-untouched",
    edits: [
      edit(
        lease,
        'if (seen._tag !== "Entry" || isOurs(seen.entry, wanted, yield* Ref.get(shown))) return seen',
        'if (seen._tag === "Entry" || isOurs(wanted, wanted, yield* Ref.get(shown))) return seen'
      ),
      edit(
        lease,
        "    return yield* addSeen(session, request, wanted, added.failure)\n",
        "    if (added.failure.code === 718) {\n      yield* session.connection.deletePortMapping(wanted)\n      yield* session.connection.addPortMapping(wanted)\n      return { session, entry: wanted }\n    }\n    return yield* addSeen(session, request, wanted, added.failure)\n"
      )
    ]
  },
  {
    name: "list-cut-short",
    what: "A list ends after the first mapping.",
    by: "answers-are-true",
    edits: [
      edit(upnp, "Stream.filterMap((mapping) => mapping),", "Stream.filterMap((mapping) => mapping), Stream.take(1),")
    ]
  },
  {
    name: "removal-only-said",
    what: "What the user has removed is left where it is.",
    by: "answers-are-true",
    edits: [edit(lease, "Effect.andThen(deleteEntry(session, key))", "Effect.andThen(Effect.void)")]
  },
  {
    name: "location-not-pinned",
    what: "A description is fetched from wherever an answer to a search says.",
    by: "stays-inside",
    edits: [
      edit(
        search,
        "HttpUrl.fromString(answer.location, sender.success.from)",
        'HttpUrl.fromString(answer.location, Result.getOrElse(NetAddress.ipFromString(/[/]([0-9.]+)[:]/.exec(answer.location)?.[1] ?? ""), () => sender.success.from))'
      )
    ]
  },
  {
    name: "answers-from-outside-trusted",
    what: "An answer to a search is followed wherever it comes from.",
    by: "stays-inside",
    edits: [
      edit(
        surroundings,
        "if (!isDefaultGateway && !NetworkInterfaces.isAttached(interfaces, from)) {",
        'if (text === "") {'
      )
    ]
  },
  {
    name: "taken-port-believed",
    what: "A mapping whose port is another's now is said to be in force until its lease ends.",
    by: "live-or-lost",
    edits: [edit(engine, 'Option.isSome(error) && error.value.reason._tag === "Conflict"', "false")]
  },
  {
    name: "chance-of-its-own",
    what: "The time of a renewal is drawn from a chance that no seed decides.",
    by: "same-trace",
    edits: [
      edit(engine, "yield* Random.nextBetween(0.45, 0.5)", "yield* Effect.sync(() => 0.45 + Math.random() * 0.05)")
    ]
  },
  {
    name: "left-is-not-swept",
    what: "What a killed process has left is not deleted after the next start.",
    by: "nothing-left",
    edits: [edit(engine, "yield* Effect.forkIn(sweep(protocol), scope)", "yield* Effect.void")]
  },
  {
    name: "sweeps-what-is-held",
    what: "What a killed process has left is deleted, also where the next one holds it.",
    by: "no-delete-while-live",
    edits: [edit(ledger, "if ([...noted(), ...living].some(", "if (noted().length < 0 && living.some(")]
  },
  {
    name: "nonce-dies-with-process",
    what: "The next start asks over PCP with another nonce for what the one before has left.",
    by: "nonce-kept",
    edits: [edit(pcpLease, "if (isNonce(earlier?.nonce))", "if (earlier !== earlier && isNonce(earlier?.nonce))")]
  },
  {
    name: "network-changes-unheard",
    what: "Nobody listens to what happens to this host's network.",
    by: "follows-host",
    edits: [edit(engine, "[whenMoved, whenChanged(lease), ", "[whenChanged(lease), ")]
  },
  {
    name: "asks-the-old-gateway",
    what: "In another network the gateway of the one before is asked over NAT-PMP.",
    by: "follows-host",
    edits: [edit(natPmpLease, "if (!gateways.some((gateway) => Equal", "if (!gateways.every((gateway) => !Equal")]
  },
  ...ofPcp
]

export const named = (name: string): Mutant => {
  const found = list.find((mutant) => mutant.name === name)
  if (found === undefined) throw new Error(`there is no mutant "${name}"`)
  return found
}

/** A source with its faults. */
export const apply = (file: string, edits: ReadonlyArray<Edit>): string =>
  edits.reduce(
    (text, { from, to }) => {
      const parts = text.split(from)
      if (parts.length !== 2) throw new Error(`${file} has ${parts.length - 1} times, and not once: ${from}`)
      return parts.join(to)
    },
    Fs.readFileSync(file, "utf8")
  )
