/**
 * Default routes as the operating system knows them: Linux from `/proc/net`, macOS from `route`, Windows from
 * PowerShell.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { execFile } from "node:child_process"
import { readFileSync } from "node:fs"
import * as NetAddress from "effect/net/NetAddress"
import { endianness, networkInterfaces } from "node:os"
import * as DefaultRoute from "./DefaultRoute.ts"
import * as RouteTables from "./internal/routeTables.ts"

/** Milliseconds: PowerShell takes seconds to start on a slow machine. */
const commandTimeout = 10_000

/**
 * A table that cannot be read has no routes. The kernel writes it as it is read, so nothing waits for a disk; to have
 * it read elsewhere would cost a program that has just started some 30 ms for the threads.
 */
const read = (path: string) =>
  Effect.orElseSucceed(Effect.try({ try: () => readFileSync(path, "utf8"), catch: () => undefined }), () => "")

const run = (command: string, args: ReadonlyArray<string>) =>
  Effect.callback<string>((resume, signal) => {
    execFile(command, args, { signal, timeout: commandTimeout, windowsHide: true, encoding: "utf8" }, (error, stdout) =>
      resume(Effect.succeed(error ? "" : stdout))
    )
  })

const linux = Effect.all([
  Effect.map(read("/proc/net/route"), (text) => RouteTables.parseProcNetRoute(text, endianness())),
  Effect.map(read("/proc/net/ipv6_route"), RouteTables.parseProcNetIpv6Route)
])

const macOs = Effect.all(
  [
    Effect.map(run("/sbin/route", ["-n", "get", "default"]), RouteTables.parseRouteGet),
    Effect.map(run("/sbin/route", ["-n", "get", "-inet6", "default"]), RouteTables.parseRouteGet)
  ],
  { concurrency: "unbounded" }
)

const windows = Effect.map(
  run("powershell.exe", [
    "-NoProfile",
    "-NonInteractive",
    "-Command",
    "Get-NetRoute -DestinationPrefix '0.0.0.0/0','::/0' -ErrorAction SilentlyContinue |" +
      " Select-Object NextHop, InterfaceAlias, RouteMetric, InterfaceMetric | ConvertTo-Json"
  ]),
  (text) => [RouteTables.parseNetRoute(text)]
)

const tables: Partial<Record<NodeJS.Platform, Effect.Effect<ReadonlyArray<ReadonlyArray<DefaultRoute.Route>>>>> = {
  linux,
  android: linux,
  darwin: macOs,
  win32: windows
}

/** Node has the number with each IPv6 address of an interface; a link-local gateway's interface has one. */
const scopeIdOf = (name: string): number | undefined => {
  const scopes = networkInterfaces()[name]?.map((one) => (one.family === "IPv6" ? one.scopeid : 0)) ?? []
  const scopeId = Math.max(0, ...scopes)
  return scopeId === 0 ? undefined : scopeId
}

const withScope = (route: DefaultRoute.Route): DefaultRoute.Route =>
  NetAddress.isIpv6Address(route.gateway) && NetAddress.isLinkLocal(route.gateway)
    ? { ...route, scopeId: scopeIdOf(route.interface) }
    : route

/**
 * The routes of this host. On a platform that is not known the list is empty.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<DefaultRoute.DefaultRoute> = Layer.succeed(DefaultRoute.DefaultRoute, {
  routes: Effect.map(tables[process.platform] ?? Effect.succeed([]), (lists) => lists.flat().map(withScope))
})
