/** By what a certificate is known. */
import * as ContactPoint from "@effect-nat/core/ContactPoint"
import * as Crypto from "node:crypto"

/** The SHA-256 of the whole certificate, in DER. */
export const of = ({ raw }: Crypto.X509Certificate): ContactPoint.Fingerprint =>
  ContactPoint.Fingerprint.make(Crypto.createHash("sha256").update(raw).digest("hex"))
