/**
 * A contact point in one word, to be pasted or put into a QR code: `effect-nat:` and its bytes in base64url.
 *
 * **Gotchas**
 *
 * What it opens, it opens for everybody who reads it.
 *
 * @since 0.1.0
 */
import * as Base64Url from "effect/encoding/Base64Url"
import * as Result from "effect/Result"
import type * as ContactPoint from "./ContactPoint.ts"
import * as ContactPointCodec from "./ContactPointCodec.ts"

/**
 * What the URI begins with.
 *
 * @category constants
 * @since 0.1.0
 */
export const scheme = "effect-nat:"

/**
 * The URI of a contact point.
 *
 * @category formatting
 * @since 0.1.0
 */
export const format = (self: ContactPoint.ContactPoint): string =>
  scheme + Base64Url.encode(ContactPointCodec.encode(self))

const notAContactPoint = (detail: string) =>
  ContactPointCodec.fromReason(new ContactPointCodec.NotAContactPoint({ detail }))

/** More is not looked at: four digits for three bytes. */
const longest = scheme.length + 2 * ContactPointCodec.maximumBytes

/**
 * Reads the URI of a contact point. Line breaks and spaces, as they come in when something is copied, are taken out.
 *
 * @category decoding
 * @since 0.1.0
 */
export const fromString = (
  text: string
): Result.Result<ContactPoint.ContactPoint, ContactPointCodec.ContactPointError> => {
  if (text.length > longest) return Result.fail(notAContactPoint(`it is longer than ${longest} characters`))
  const word = text.replaceAll(/\s/g, "")
  if (word.slice(0, scheme.length).toLowerCase() !== scheme) {
    return Result.fail(notAContactPoint(`it does not begin with ${scheme}`))
  }
  return Base64Url.decode(word.slice(scheme.length)).pipe(
    Result.mapError(() => ContactPointCodec.fromReason(new ContactPointCodec.Damaged())),
    Result.flatMap(ContactPointCodec.decode)
  )
}
