/** Certificates of Node, looked at with Node's own parser and with openssl where it is there. */
import * as Certificate from "@effect-nat/dispatcher/Certificate"
import type * as CertificateError from "@effect-nat/dispatcher/CertificateError"
import * as NodeCertificate from "@effect-nat/dispatcher/NodeCertificate"
import { assert, describe, it } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as TestClock from "effect/testing/TestClock"
import * as Crypto from "node:crypto"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"

/** 2026-11-01, a time at which TestClock stands when told so. */
const start = Date.UTC(2026, 10, 1)

const makeDirectory = Effect.acquireRelease(
  Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "effect-nat-certificate-"))),
  (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true }))
)

const reasonOf = <A, R>(effect: Effect.Effect<A, CertificateError.CertificateError, R>) =>
  Effect.map(Effect.flip(effect), ({ message, reason }) => ({ tag: reason._tag, message }))

const isoOf = (time: DateTime.Utc) => DateTime.formatIso(time)

const modeOf = (path: string) => (Fs.statSync(path).mode & 0o777).toString(8)

describe("a self-signed certificate", () => {
  it.effect("belongs to its key, says what it is for and is known by the hash of its bytes", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(start + 300)
      const made = yield* NodeCertificate.selfSigned({ name: "island" })
      const x509 = new Crypto.X509Certificate(made.certificate)
      assert.strictEqual(x509.subject, "CN=island")
      assert.strictEqual(x509.issuer, "CN=island")
      assert.isTrue(x509.verify(x509.publicKey))
      assert.isTrue(x509.checkPrivateKey(Crypto.createPrivateKey(Redacted.value(made.key))))
      assert.strictEqual(x509.publicKey.asymmetricKeyDetails?.namedCurve, "prime256v1")
      assert.isFalse(x509.ca)
      assert.deepStrictEqual(x509.keyUsage, ["1.3.6.1.5.5.7.3.1"])
      assert.strictEqual(x509.subjectAltName, "DNS:localhost, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1")
      assert.strictEqual(made.fingerprint, x509.fingerprint256.replaceAll(":", "").toLowerCase())
      assert.strictEqual(isoOf(made.notBefore), "2026-10-31T23:00:00.000Z")
      assert.strictEqual(isoOf(made.notAfter), "2027-12-02T23:00:00.000Z")
      assert.strictEqual(x509.validFromDate.toISOString(), isoOf(made.notBefore))
      assert.strictEqual(x509.validToDate.toISOString(), isoOf(made.notAfter))
      assert.match(x509.serialNumber, /^[4-7][0-9A-F]{31}$/)
    })
  )

  it.effect("is another one each time, and keeps its key from being shown", () =>
    Effect.gen(function* () {
      const [one, other] = [yield* NodeCertificate.selfSigned(), yield* NodeCertificate.selfSigned()]
      assert.notStrictEqual(one.fingerprint, other.fingerprint)
      assert.notInclude(`${JSON.stringify(one)}${String(one)}`, "PRIVATE KEY")
    })
  )

  it.effect("has a name that a certificate can have", () =>
    Effect.gen(function* () {
      for (const name of ["", "x".repeat(65), "\ud800"]) {
        assert.strictEqual((yield* reasonOf(NodeCertificate.selfSigned({ name }))).tag, "InvalidName")
      }
      const name = 'a, "b"=ü+漢#'
      const { certificate } = yield* NodeCertificate.selfSigned({ name })
      assert.deepStrictEqual(new Crypto.X509Certificate(certificate).toLegacyObject().subject.CN, name)
    })
  )

  it.effect("is valid from its first second to its last", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(start)
      const { certificate, key, notAfter, notBefore } = yield* NodeCertificate.selfSigned()
      const now = yield* NodeCertificate.fromPem({ certificate, key })
      assert.isTrue(Certificate.isValidAt(now, notBefore))
      assert.isTrue(Certificate.isValidAt(now, notAfter))
      yield* TestClock.setTime(notAfter.epochMilliseconds + 1)
      const late = yield* reasonOf(NodeCertificate.fromPem({ certificate, key }))
      assert.deepStrictEqual(late, {
        tag: "Expired",
        message: "the certificate has expired on 2027-12-02T23:00:00.000Z: get a new one"
      })
      yield* TestClock.setTime(notBefore.epochMilliseconds - 1)
      assert.strictEqual((yield* reasonOf(NodeCertificate.fromPem({ certificate, key }))).tag, "NotYetValid")
    })
  )
})

describe("a certificate in PEM", () => {
  it.effect("comes with those that lead to its authority, and text around them does no harm", () =>
    Effect.gen(function* () {
      const [own, authority] = [yield* NodeCertificate.selfSigned(), yield* NodeCertificate.selfSigned()]
      const certificate = `subject=/CN=x\n${own.certificate}\nissuer\n${authority.certificate}`
      const read = yield* NodeCertificate.fromPem({ certificate, key: own.key })
      assert.strictEqual(read.fingerprint, own.fingerprint)
      assert.strictEqual(read.certificate, `${own.certificate}${authority.certificate}`)
    })
  )

  it.effect("is refused, with what to do, where it is not one", () =>
    Effect.gen(function* () {
      const [own, other] = [yield* NodeCertificate.selfSigned(), yield* NodeCertificate.selfSigned()]
      const { certificate, key } = own
      const damaged = certificate.replace(/\n[A-Za-z0-9+/]{8}/, "\nAAAAAAAA")
      const locked = Crypto.createPrivateKey(Redacted.value(key)).export({
        type: "pkcs8",
        format: "pem",
        cipher: "aes-256-cbc",
        passphrase: "secret"
      })
      const cases = [
        ["NotACertificate", { certificate: "", key }],
        ["NotACertificate", { certificate: Redacted.value(key), key }],
        ["NotACertificate", { certificate: damaged, key }],
        ["NotACertificate", { certificate: `${certificate}${damaged}`, key }],
        ["NotAKey", { certificate, key: Redacted.make(certificate) }],
        ["NotAKey", { certificate, key: Redacted.make(String(locked)) }],
        [
          "NotAKey",
          { certificate, key: Redacted.make("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----") }
        ],
        ["KeyMismatch", { certificate, key: other.key }]
      ] as const
      for (const [tag, pem] of cases) {
        const reason = yield* reasonOf(NodeCertificate.fromPem(pem))
        assert.strictEqual(reason.tag, tag)
        assert.notInclude(reason.message, "undefined")
      }
    })
  )

  it.effect("is read from one file or two", () =>
    Effect.gen(function* () {
      const directory = yield* makeDirectory
      const file = (name: string, text: string) => {
        const path = Path.join(directory, name)
        Fs.writeFileSync(path, text)
        return path
      }
      const { certificate, fingerprint, key } = yield* NodeCertificate.selfSigned()
      const paths = { certificate: file("c.pem", certificate), key: file("k.pem", Redacted.value(key)) }
      assert.strictEqual((yield* NodeCertificate.fromFiles(paths)).fingerprint, fingerprint)
      const both = file("both.pem", `${Redacted.value(key)}${certificate}`)
      assert.strictEqual((yield* NodeCertificate.fromFiles({ certificate: both, key: both })).fingerprint, fingerprint)
      const missing = Path.join(directory, "missing.pem")
      const { message, tag } = yield* reasonOf(NodeCertificate.fromFiles({ ...paths, key: missing }))
      assert.strictEqual(tag, "Unreadable")
      assert.include(message, missing)
      const huge = file("huge.pem", "x".repeat(1_048_577))
      assert.strictEqual(
        (yield* reasonOf(NodeCertificate.fromFiles({ ...paths, certificate: huge }))).tag,
        "Unreadable"
      )
    })
  )
})

describe("a self-signed certificate in a file", () => {
  it.effect("is the same at the next start, and nobody else may read it", () =>
    Effect.gen(function* () {
      const path = Path.join(yield* makeDirectory, "new", "certificate.pem")
      const first = yield* NodeCertificate.selfSignedIn(path, { name: "island" })
      const second = yield* NodeCertificate.selfSignedIn(path, { name: "another name" })
      assert.deepStrictEqual(second, first)
      assert.strictEqual(modeOf(path), "600")
      assert.strictEqual(modeOf(Path.dirname(path)), "700")
      assert.deepStrictEqual(Fs.readdirSync(Path.dirname(path)), ["certificate.pem"])
    })
  )

  it.effect("is the same for all that make it at once", () =>
    Effect.gen(function* () {
      const path = Path.join(yield* makeDirectory, "certificate.pem")
      const made = yield* Effect.all(
        Array.from({ length: 8 }, () => NodeCertificate.selfSignedIn(path)),
        { concurrency: "unbounded" }
      )
      assert.strictEqual(new Set(made.map(({ fingerprint }) => fingerprint)).size, 1)
      assert.strictEqual((yield* NodeCertificate.selfSignedIn(path)).fingerprint, made[0]?.fingerprint)
      assert.deepStrictEqual(Fs.readdirSync(Path.dirname(path)), ["certificate.pem"])
    })
  )

  it.effect("is made anew once it has expired", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(start)
      const path = Path.join(yield* makeDirectory, "certificate.pem")
      const first = yield* NodeCertificate.selfSignedIn(path)
      yield* TestClock.setTime(first.notAfter.epochMilliseconds + 1)
      const second = yield* NodeCertificate.selfSignedIn(path)
      assert.notStrictEqual(second.fingerprint, first.fingerprint)
      assert.strictEqual((yield* NodeCertificate.selfSignedIn(path)).fingerprint, second.fingerprint)
      assert.strictEqual(modeOf(path), "600")
    })
  )

  it.effect("never takes the place of something else", () =>
    Effect.gen(function* () {
      const directory = yield* makeDirectory
      const path = Path.join(directory, "notes.txt")
      Fs.writeFileSync(path, "dear diary")
      assert.strictEqual((yield* reasonOf(NodeCertificate.selfSignedIn(path))).tag, "NotACertificate")
      assert.strictEqual(Fs.readFileSync(path, "utf8"), "dear diary")
      assert.strictEqual((yield* reasonOf(NodeCertificate.selfSignedIn(directory))).tag, "Unreadable")
      const below = Path.join(path, "certificate.pem")
      const { message, tag } = yield* reasonOf(NodeCertificate.selfSignedIn(below))
      assert.strictEqual(tag, "Unwritable")
      assert.include(message, below)
    })
  )
})
