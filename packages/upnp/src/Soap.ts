/**
 * The SOAP messages of UPnP control, between text and values, both ways.
 *
 * Pure: `SoapClient` sends them. What is sent is byte for byte what strict routers expect (UPnP Device Architecture
 * 1.1 §3): the arguments in the order given, no white space between elements.
 *
 * @since 0.1.0
 */
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as WireText from "./internal/wireText.ts"
import * as Xml from "./internal/xml.ts"

/**
 * Names and values in the order of the service's document.
 *
 * @category models
 * @since 0.1.0
 */
export type Arguments = ReadonlyArray<readonly [name: string, value: string]>

/**
 * One call of an action.
 *
 * @category models
 * @since 0.1.0
 */
export interface Call {
  readonly serviceType: string
  readonly action: string
  readonly arguments: Arguments
}

/**
 * The device understood a call and refused it (§3.2.5). The numbers are in `UpnpErrorCode`.
 *
 * @category errors
 * @since 0.1.0
 */
export class UpnpFault extends Schema.TaggedError<UpnpFault>("@effect-nat/upnp/UpnpFault")("UpnpFault", {
  code: Schema.Int,
  /** What the device says about it, in one line; may be empty. */
  description: Schema.String
}) {
  override get message(): string {
    return `error ${this.code} ${this.description}`.trim()
  }
}

/**
 * A text that is not the SOAP message that was expected.
 *
 * @category errors
 * @since 0.1.0
 */
export class SoapError extends Schema.TaggedError<SoapError>("@effect-nat/upnp/SoapError")("SoapError", {
  detail: Schema.String
}) {
  override get message(): string {
    return this.detail
  }
}

/**
 * The largest message that is read, in bytes; real ones have a few hundred.
 *
 * @category constants
 * @since 0.1.0
 */
export const maximumBytes: number = 64 * 1024

const maximumDescriptionLength = 200

/** Element names come from this library's own code and from decoded calls; anything else would break the message. */
const elementName = (name: string): string => name.replace(/[^A-Za-z0-9_.-]/g, "_")

const envelope = (body: string): string =>
  `<?xml version="1.0"?>\r\n<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>${body}</s:Body></s:Envelope>\r\n`

const encodeArguments = (list: Arguments): string =>
  list.map(([name, value]) => `<${elementName(name)}>${Xml.escape(value)}</${elementName(name)}>`).join("")

const element = (name: string, serviceType: string, list: Arguments): string =>
  `<u:${elementName(name)} xmlns:u="${Xml.escape(serviceType)}">${encodeArguments(list)}</u:${elementName(name)}>`

/**
 * The value of the header `SOAPAction`, quotes included (§3.2.1).
 *
 * @category encoding
 * @since 0.1.0
 */
export const soapAction = (call: Pick<Call, "serviceType" | "action">): string => `"${call.serviceType}#${call.action}"`

/**
 * Writes the body of a call.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeCall = (call: Call): string => envelope(element(call.action, call.serviceType, call.arguments))

/**
 * Writes the body of a successful answer.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeAnswer = (call: Pick<Call, "serviceType" | "action">, results: Arguments): string =>
  envelope(element(`${call.action}Response`, call.serviceType, results))

/**
 * Writes the body of a refusal, which goes out with HTTP status 500.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeFault = (fault: UpnpFault): string =>
  envelope(
    `<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail><UPnPError xmlns="urn:schemas-upnp-org:control-1-0"><errorCode>${fault.code}</errorCode><errorDescription>${Xml.escape(fault.description)}</errorDescription></UPnPError></detail></s:Fault>`
  )

const malformed = (detail: string) => new SoapError({ detail })

/** A value that is a document should be escaped; some routers put it in as it is. */
const valueOf = (self: Xml.XmlElement): string =>
  self.children.length === 0 ? self.text : self.children.map(Xml.format).join("")

const argumentsOf = (self: Xml.XmlElement): Arguments => self.children.map((one) => [one.name, valueOf(one)] as const)

/** The one element in the body of an envelope. */
const content = (body: Uint8Array): Result.Result<Xml.XmlElement, SoapError> =>
  Result.flatMap(Result.mapError(Xml.parse(body, maximumBytes), malformed), (root) => {
    // A page of the router's own has a body as well.
    const isEnvelope = root.name.toLowerCase() === "envelope"
    const element = isEnvelope ? Xml.child(root, "Body")?.children[0] : undefined
    return element === undefined ? Result.fail(malformed("the answer is not a SOAP envelope")) : Result.succeed(element)
  })

/** Some routers leave out `detail` or `UPnPError`, or add elements of their own around them. */
const decodeFault = (fault: Xml.XmlElement): UpnpFault | SoapError => {
  const code = WireText.parseUint32(Xml.find(fault, "errorCode")?.text)
  if (code === undefined) {
    const text = WireText.oneLine(Xml.find(fault, "faultstring")?.text ?? "", maximumDescriptionLength)
    return malformed(`the device refused without a UPnP error code${text === "" ? "" : `: ${text}`}`)
  }
  return new UpnpFault({
    code,
    description: WireText.oneLine(Xml.find(fault, "errorDescription")?.text ?? "", maximumDescriptionLength)
  })
}

/**
 * Reads the answer to a call of `action`: its results, or the device's refusal as `UpnpFault`.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decodeAnswer = (body: Uint8Array, action: string): Result.Result<Arguments, UpnpFault | SoapError> =>
  Result.flatMap(content(body), (answer): Result.Result<Arguments, UpnpFault | SoapError> => {
    const name = answer.name.toLowerCase()
    if (name === "fault") return Result.fail(decodeFault(answer))
    if (name !== `${action.toLowerCase()}response`) {
      return Result.fail(malformed(`the device answered ${WireText.oneLine(answer.name, 60)} to ${action}`))
    }
    return Result.succeed(argumentsOf(answer))
  })

/**
 * Reads a call from its body and its `SOAPAction` header.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decodeCall = (body: Uint8Array, header: string): Result.Result<Call, SoapError> =>
  Result.flatMap(content(body), (element) => {
    const match = /^"?([^"#\s]{1,200})#([A-Za-z0-9_.-]{1,100})"?$/.exec(header.trim())
    const [, serviceType = "", action = ""] = match ?? []
    if (action !== element.name) return Result.fail(malformed("the SOAPAction header does not name the action"))
    return Result.succeed({ serviceType, action, arguments: argumentsOf(element) })
  })

/**
 * The value of an argument or result, ignoring the case of its name; `undefined` where it is missing.
 *
 * @category accessors
 * @since 0.1.0
 */
export const argument = (self: Arguments, name: string): string | undefined => {
  const wanted = name.toLowerCase()
  return self.find(([one]) => one.toLowerCase() === wanted)?.[1]
}
