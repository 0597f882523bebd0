/**
 * A real browser: Debian's Chromium without a window, which reaches loopback and nothing else.
 *
 * The page comes from a host that is not loopback by its name, so it has no secure context: no `crypto.subtle`.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Fs from "node:fs"
import * as Http from "node:http"
import { fileURLToPath } from "node:url"
import * as Playwright from "playwright-core"
import { bundleForBrowser } from "../../../scripts/lib/browserBundle.js"

const executablePath = "/usr/bin/chromium"

/** What this machine lacks for it. */
export const missing = Fs.existsSync(executablePath) ? [] : [executablePath]

const host = "page.test"

const launch = Effect.acquireRelease(
  Effect.promise(() =>
    Playwright.chromium.launch({
      executablePath,
      // Tests run as root in CI, where Chromium's sandbox does not start.
      chromiumSandbox: false,
      args: [
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-domain-reliability",
        "--disable-sync",
        "--no-proxy-server",
        "--no-pings",
        `--host-resolver-rules=MAP ${host} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1`
      ],
      // The scope ends it. Should this process be killed, Chromium ends with the pipe that it is driven by.
      handleSIGINT: false,
      handleSIGTERM: false,
      handleSIGHUP: false
    })
  ),
  (browser) => Effect.promise(() => browser.close())
)

/** Serves the page and its program on a port of loopback. */
const servePage = Effect.gen(function* () {
  const { code } = yield* Effect.promise(() => bundleForBrowser(fileURLToPath(new URL("page.ts", import.meta.url))))
  const files = new Map([
    ["/", { type: "text/html", body: '<!doctype html><script type="module" src="/page.js"></script>' }],
    ["/page.js", { type: "text/javascript", body: code }]
  ])
  const server = yield* Effect.acquireRelease(
    Effect.callback<Http.Server>((resume) => {
      const server = Http.createServer((request, response) => {
        const file = files.get(request.url ?? "")
        if (file === undefined) response.writeHead(404).end()
        else response.writeHead(200, { "content-type": `${file.type}; charset=utf-8` }).end(file.body)
      })
      server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
    }),
    (server) =>
      Effect.callback<void>((resume) => {
        server.close(() => resume(Effect.void))
        server.closeAllConnections()
      })
  )
  const address = server.address()
  return typeof address === "object" && address !== null ? address.port : 0
})

const make = Effect.gen(function* () {
  const port = yield* servePage
  const browser = yield* launch
  const openPage = Effect.gen(function* () {
    const page = yield* Effect.acquireRelease(
      Effect.promise(() => browser.newPage()),
      (page) => Effect.promise(() => page.close())
    )
    yield* Effect.promise(() => page.goto(`http://${host}:${port}/`))
    return page
  })
  return { openPage }
})

export class Browser extends Context.Service<
  Browser,
  {
    /** The page with its program loaded; closed with the scope. */
    readonly openPage: Effect.Effect<Playwright.Page, never, Scope.Scope>
  }
>()("test/dispatcher/browser/Browser") {}

export const layer = Layer.effect(Browser, make)
