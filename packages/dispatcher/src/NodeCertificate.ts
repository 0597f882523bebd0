/**
 * Certificates on Node: given in PEM, or self-signed.
 *
 * A self-signed certificate is enough for clients that connect by a contact point, which has its fingerprint. Browsers
 * take one from an authority that they trust only.
 *
 * **Example** (The same certificate at every start)
 *
 * ```ts
 * import * as NodeCertificate from "@effect-nat/dispatcher/NodeCertificate"
 * import * as Effect from "effect/Effect"
 *
 * export const program = Effect.gen(function* () {
 *   const certificate = yield* NodeCertificate.selfSignedIn("/var/lib/island/certificate.pem", { name: "island" })
 *   yield* Effect.log(`known by ${certificate.fingerprint}`)
 *   return certificate
 * })
 * ```
 *
 * @since 0.1.0
 */
import * as WebCrypto from "effect/crypto/WebCrypto"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Hex from "effect/encoding/Hex"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Crypto from "node:crypto"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Certificate from "./Certificate.ts"
import * as CertificateError from "./CertificateError.ts"
import * as NodeFingerprint from "./internal/NodeFingerprint.ts"

const { fromReason } = CertificateError

const detailOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))

const certificateBlock = /-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g

/** The certificate itself, and that each one after it can be read. */
const parseChain = Effect.fnUntraced(function* (pem: string) {
  const blocks = pem.match(certificateBlock) ?? []
  const chain = yield* Effect.forEach(blocks, (block) =>
    Effect.try({
      try: () => new Crypto.X509Certificate(block),
      catch: (error) => fromReason(new CertificateError.NotACertificate({ detail: detailOf(error) }))
    })
  )
  const [own] = chain
  if (own === undefined) {
    return yield* fromReason(new CertificateError.NotACertificate({ detail: "there is none in it" }))
  }
  return { own, text: `${blocks.join("\n")}\n` }
})

const keyBlock = /-----BEGIN ([A-Z ]*)PRIVATE KEY-----[^-]*-----END \1PRIVATE KEY-----/

const parseKey = Effect.fnUntraced(function* (pem: Redacted.Redacted<string>) {
  const [text] = keyBlock.exec(Redacted.value(pem)) ?? []
  if (text === undefined) return yield* fromReason(new CertificateError.NotAKey({ detail: "there is none in it" }))
  const key = yield* Effect.try({
    try: () => Crypto.createPrivateKey(text),
    catch: (error) => fromReason(new CertificateError.NotAKey({ detail: detailOf(error) }))
  })
  return { key, text: Redacted.make(`${text}\n`) }
})

const dateOf = (date: Date): Effect.Effect<DateTime.Utc, CertificateError.CertificateError> =>
  Option.match(DateTime.make(date), {
    onNone: () => Effect.fail(fromReason(new CertificateError.NotACertificate({ detail: "its dates make no sense" }))),
    onSome: (time) => Effect.succeed(DateTime.toUtc(time))
  })

const checkTime = Effect.fnUntraced(function* (certificate: Certificate.Certificate) {
  const { notAfter, notBefore } = certificate
  const now = yield* DateTime.now
  if (Certificate.isValidAt(certificate, now)) return certificate
  return yield* fromReason(
    DateTime.isGreaterThan(now, notAfter)
      ? new CertificateError.Expired({ notAfter })
      : new CertificateError.NotYetValid({ notBefore })
  )
})

/**
 * What is given in PEM.
 *
 * @category models
 * @since 0.1.0
 */
export interface Pem {
  /** The certificate, and after it those that lead to its authority. */
  readonly certificate: string
  readonly key: Redacted.Redacted<string>
}

/** Whatever its time. */
const parse = Effect.fnUntraced(function* (pem: Pem) {
  const { own, text } = yield* parseChain(pem.certificate)
  const key = yield* parseKey(pem.key)
  if (!own.checkPrivateKey(key.key)) return yield* fromReason(new CertificateError.KeyMismatch())
  const certificate = new Certificate.Certificate({
    certificate: text,
    key: key.text,
    fingerprint: NodeFingerprint.of(own),
    notBefore: yield* dateOf(own.validFromDate),
    notAfter: yield* dateOf(own.validToDate)
  })
  return { certificate, isSelfSigned: own.verify(own.publicKey) }
})

/**
 * A certificate that is given in PEM, with its key. Fails with `NotACertificate`, `NotAKey`, `KeyMismatch`, `Expired` and
 * `NotYetValid`. Whether an authority has signed it is not checked: that is for those who connect.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromPem = Effect.fn("NodeCertificate.fromPem")(function* (
  pem: Pem
): Effect.fn.Return<Certificate.Certificate, CertificateError.CertificateError> {
  const { certificate } = yield* parse(pem)
  return yield* checkTime(certificate)
})

/** Many times what a chain and its key have. */
const maximumBytes = 1_048_576

const unreadable = (path: string, detail: string) => fromReason(new CertificateError.Unreadable({ path, detail }))

/** Files are small and read at once. */
const read = Effect.fnUntraced(function* (path: string) {
  const attempt = <A>(run: () => A) => Effect.try({ try: run, catch: (error) => unreadable(path, detailOf(error)) })
  const { size } = yield* attempt(() => Fs.statSync(path))
  if (size > maximumBytes) return yield* unreadable(path, `it has more than ${maximumBytes} bytes`)
  return yield* attempt(() => Fs.readFileSync(path, "utf8"))
})

/**
 * A certificate and its key in files of PEM, which may be one. Fails with `Unreadable` and as `fromPem` does.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromFiles = Effect.fn("NodeCertificate.fromFiles")(function* (paths: {
  readonly certificate: string
  readonly key: string
}): Effect.fn.Return<Certificate.Certificate, CertificateError.CertificateError> {
  const certificate = yield* read(paths.certificate)
  return yield* fromPem({ certificate, key: Redacted.make(yield* read(paths.key)) })
})

/**
 * How a self-signed certificate is made.
 *
 * @category models
 * @since 0.1.0
 */
export interface SelfSignedOptions {
  /** Whose it is, 1 to 64 characters. Whoever connects can read it. Defaults to `"effect-nat"`. */
  readonly name?: string | undefined
}

const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" }

/** What browsers take at most, of a certificate that is to be trusted by hand. */
const lifetime = { days: 397 }

/** For hosts whose clock is behind. */
const earlier = { hours: 1 }

const serialLength = 16

type WebCryptoApi = typeof globalThis.crypto

/** A positive number of 128 bits at most, as X.509 has it. */
const makeSerial = (crypto: WebCryptoApi): string => {
  const bytes = crypto.getRandomValues(new Uint8Array(serialLength))
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x40
  return Hex.encode(bytes)
}

/** Heavy, and of use here only: a program that is given its certificate does not load it. */
const loadX509 = async () => {
  await import("reflect-metadata")
  return import("@peculiar/x509")
}

const generate = async (crypto: WebCryptoApi, name: string, notBefore: Date, notAfter: Date) => {
  const x509 = await loadX509()
  const keys = await crypto.subtle.generateKey(algorithm, true, ["sign", "verify"])
  const { digitalSignature } = x509.KeyUsageFlags
  const certificate = await x509.X509CertificateGenerator.createSelfSigned(
    {
      // As a value of its own: in text, commas and quotation marks would mean something.
      name: new x509.Name([{ CN: [{ utf8String: name }] }]),
      serialNumber: makeSerial(crypto),
      notBefore,
      notAfter,
      keys,
      signingAlgorithm: algorithm,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(digitalSignature, true),
        new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
        // Elsewhere it is known by its fingerprint: which addresses it is shown at changes with the mapping.
        new x509.SubjectAlternativeNameExtension([
          { type: "dns", value: "localhost" },
          { type: "ip", value: "127.0.0.1" },
          { type: "ip", value: "::1" }
        ])
      ]
    },
    crypto
  )
  const key = x509.PemConverter.encode(await crypto.subtle.exportKey("pkcs8", keys.privateKey), "PRIVATE KEY")
  return { certificate: certificate.toString("pem"), key: Redacted.make(key) }
}

/**
 * A new self-signed certificate: ECDSA with P-256, valid for 397 days from an hour ago. Fails with `InvalidName` and
 * `NotMade`.
 *
 * **Details**
 *
 * The library that makes it is loaded when this is first run, which takes some 0.2 seconds and 14 MB.
 *
 * @category constructors
 * @since 0.1.0
 */
export const selfSigned = Effect.fn("NodeCertificate.selfSigned")(function* (
  options: SelfSignedOptions = {}
): Effect.fn.Return<Certificate.Certificate, CertificateError.CertificateError> {
  const name = options.name ?? "effect-nat"
  const length = [...name].length
  if (length < 1 || length > 64 || !name.isWellFormed()) {
    return yield* fromReason(new CertificateError.InvalidName({ name }))
  }
  const crypto = yield* WebCrypto.WebCrypto
  const notBefore = DateTime.subtract(DateTime.startOf(yield* DateTime.now, "second"), earlier)
  const notAfter = DateTime.add(notBefore, lifetime)
  const pem = yield* Effect.tryPromise({
    try: () => generate(crypto, name, DateTime.toDateUtc(notBefore), DateTime.toDateUtc(notAfter)),
    catch: (error) => fromReason(new CertificateError.NotMade({ detail: detailOf(error) }))
  })
  return (yield* parse(pem)).certificate
})

/** Whole or not at all. `isNew`: what another process has put there meanwhile stays. */
const write = (path: string, text: string, isNew: boolean): void => {
  Fs.mkdirSync(Path.dirname(path), { recursive: true, mode: 0o700 })
  const temporary = `${path}.${Crypto.randomBytes(6).toString("hex")}.tmp`
  try {
    Fs.writeFileSync(temporary, text, { mode: 0o600, flag: "wx" })
    if (isNew) linkOrRename(temporary, path)
    else Fs.renameSync(temporary, path)
  } finally {
    Fs.rmSync(temporary, { force: true })
  }
}

/** A name that is taken is left alone, where the file system can tell. */
const linkOrRename = (from: string, to: string): void => {
  try {
    Fs.linkSync(from, to)
  } catch (error) {
    if (codeOf(error) === "EEXIST") return
    Fs.renameSync(from, to)
  }
}

const codeOf = (error: unknown): string | undefined => (error as NodeJS.ErrnoException).code

const unwritable = (path: string) => (error: unknown) =>
  fromReason(new CertificateError.Unwritable({ path, detail: detailOf(error) }))

const load = Effect.fnUntraced(function* (path: string) {
  const text = yield* read(path)
  return yield* parse({ certificate: text, key: Redacted.make(text) })
})

const create = Effect.fnUntraced(function* (path: string, options: SelfSignedOptions, isNew: boolean) {
  const { certificate, key } = yield* selfSigned(options)
  yield* Effect.try({
    try: () => write(path, `${certificate}${Redacted.value(key)}`, isNew),
    catch: unwritable(path)
  })
  // Of two processes that make one at once both have the same.
  return (yield* load(path)).certificate
})

/**
 * The self-signed certificate in a file, with its key: made where there is none, and again where it has expired. So its
 * fingerprint in contact points that were handed out stays right over restarts. The file is written at once (mode 0600),
 * in a directory that is made for it (mode 0700).
 *
 * Fails with `Unreadable`, `Unwritable`, `NotMade`, `InvalidName` and `NotYetValid`, and with `NotACertificate`,
 * `NotAKey`, `KeyMismatch` and `Expired` where the file has something else in it, which is never replaced.
 *
 * @category constructors
 * @since 0.1.0
 */
export const selfSignedIn = Effect.fn("NodeCertificate.selfSignedIn")(function* (
  path: string,
  options: SelfSignedOptions = {}
): Effect.fn.Return<Certificate.Certificate, CertificateError.CertificateError> {
  if (!Fs.existsSync(path)) return yield* create(path, options, true)
  const { certificate, isSelfSigned } = yield* load(path)
  const isOver = DateTime.isGreaterThan(yield* DateTime.now, certificate.notAfter)
  return yield* isOver && isSelfSigned ? create(path, options, false) : checkTime(certificate)
})
