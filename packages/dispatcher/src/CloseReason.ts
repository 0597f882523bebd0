/**
 * Why a dispatcher refuses or closes a connection, in words and as one byte on the wire.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"

/** A code never changes its meaning and is never used again. Code 0 says "accepted" in a reply, and "done" at the end. */
const codes = {
  /** An ordinary end. */
  Done: 0,
  /** The dispatcher does not speak the client's version of the wire. */
  UnsupportedVersion: 1,
  /** The bytes break the wire's rules. */
  Malformed: 2,
  /** No such session on this dispatcher. */
  UnknownSession: 3,
  /** The handshake was not complete in time. */
  HandshakeTimeout: 4,
  /** Too many other handshakes are under way: try again. */
  TooManyHandshakes: 5,
  /** The session has as many members as it may have. */
  SessionFull: 6,
  /** A frame is longer than the dispatcher takes. */
  FrameTooLarge: 7,
  /** The member did not read fast enough: too much was waiting for it, or something for too long. */
  TooSlow: 8,
  /** A frame of a type that the receiver must know and does not. */
  UnknownFrameType: 9,
  /** The session was unregistered. */
  SessionClosed: 10,
  /** The dispatcher is ending. */
  ShuttingDown: 11,
  /** The handshake asks for an extension that the dispatcher must know and does not. */
  UnsupportedExtension: 12,
  /** Nothing shows that the client may join the session. */
  NotGranted: 13,
  /** A frame carries a facet that was not granted, or is no longer. */
  UnknownFacet: 14,
  /** The data of a frame is not what its checksum says. */
  BadChecksum: 15,
  /** Too many connections from the client's address are open. */
  TooManyConnections: 16,
  /** The capability that the client came in with was revoked. */
  Revoked: 17
} as const

/**
 * Why a connection was refused or closed: `"UnsupportedVersion"`, `"Malformed"`, `"UnknownSession"`,
 * `"HandshakeTimeout"`, `"TooManyHandshakes"`, `"SessionFull"`, `"FrameTooLarge"`, `"TooSlow"`,
 * `"UnknownFrameType"`, `"SessionClosed"`, `"ShuttingDown"`, `"UnsupportedExtension"`, `"NotGranted"`,
 * `"UnknownFacet"`, `"BadChecksum"`, `"TooManyConnections"`, `"Revoked"`, or `"Done"` for an ordinary end. `"Unknown"`
 * stands for the code of a later version and is never sent.
 *
 * @category schemas
 * @since 0.1.0
 */
export const CloseReason = Schema.Literals([
  "Done",
  "UnsupportedVersion",
  "Malformed",
  "UnknownSession",
  "HandshakeTimeout",
  "TooManyHandshakes",
  "SessionFull",
  "FrameTooLarge",
  "TooSlow",
  "UnknownFrameType",
  "SessionClosed",
  "ShuttingDown",
  "UnsupportedExtension",
  "NotGranted",
  "UnknownFacet",
  "BadChecksum",
  "TooManyConnections",
  "Revoked",
  "Unknown"
])

/**
 * Why a connection was refused or closed.
 *
 * @category models
 * @since 0.1.0
 */
export type CloseReason = typeof CloseReason.Type

/**
 * A reason that can be sent: every reason but `"Unknown"`.
 *
 * @category models
 * @since 0.1.0
 */
export type Sendable = keyof typeof codes

/**
 * A reason to refuse or cut off a connection: every reason that can be sent but `"Done"`.
 *
 * @category models
 * @since 0.1.0
 */
export type Refusal = Exclude<Sendable, "Done">

const reasons = new Map<number, CloseReason>(CloseReason.literals.flatMap((reason) => entry(reason)))

function entry(reason: CloseReason): ReadonlyArray<readonly [number, CloseReason]> {
  return reason === "Unknown" ? [] : [[codes[reason], reason]]
}

/**
 * The byte that stands for a reason on the wire.
 *
 * @category encoding
 * @since 0.1.0
 */
export const toCode = (self: Sendable): number => codes[self]

/**
 * The reason that a byte stands for; `"Unknown"` for the codes of later versions.
 *
 * @category decoding
 * @since 0.1.0
 */
export const fromCode = (code: number): CloseReason => reasons.get(code) ?? "Unknown"

const descriptions: Readonly<Record<CloseReason, string>> = {
  Done: "the other side is done",
  UnsupportedVersion: "the dispatcher speaks another version of the protocol",
  Malformed: "the bytes received break the protocol",
  UnknownSession: "no such session on this dispatcher",
  HandshakeTimeout: "the handshake was not complete in time",
  TooManyHandshakes: "too many other handshakes are under way: try again",
  SessionFull: "the session is full",
  FrameTooLarge: "a frame was larger than allowed",
  TooSlow: "messages were not read fast enough: too many were waiting, or for too long",
  UnknownFrameType: "a frame was of a type that the receiver does not know",
  SessionClosed: "the session was closed",
  ShuttingDown: "the dispatcher is shutting down",
  UnsupportedExtension: "the dispatcher lacks an extension that the client needs",
  NotGranted: "the capability does not open this session: ask for another invitation",
  UnknownFacet: "a frame named a facet that was not granted",
  BadChecksum: "a frame was damaged on its way",
  TooManyConnections: "too many connections from this address are open",
  Revoked: "the invitation was revoked",
  Unknown: "for a reason that only a later version knows"
}

/**
 * What a person wants to read.
 *
 * @category formatting
 * @since 0.1.0
 */
export const format = (self: CloseReason): string => descriptions[self]
