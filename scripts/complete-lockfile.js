/**
 * Adds to package-lock.json the optional platform packages that npm left out.
 *
 * npm writes an optional dependency into the lock file only when it could read that package when the file was made. A
 * lock file that lacks some is refused by `npm ci` everywhere ("Missing: … from lock file"). The names and versions
 * are known from the parents' own entries, so the entries can be completed without
 * asking any registry. Run `npm run lockfile` after each change of the dependencies. With `--check` nothing is written,
 * and a lock file that would change is a failure.
 */
import * as Fs from "node:fs"

const path = new URL("../package-lock.json", import.meta.url)
const lock = JSON.parse(Fs.readFileSync(path, "utf8"))

const systems = ["aix", "android", "darwin", "freebsd", "linux", "netbsd", "openbsd", "openharmony", "sunos", "win32"]
const processors = ["arm", "arm64", "ia32", "loong64", "mips64el", "ppc64", "riscv64", "s390x", "wasm32", "x64"]

/**
 * The `os`, `cpu` and `libc` fields that a platform package's name spells out.
 *
 * @param {string} name
 */
const platformOf = (name) => {
  const words = name.slice(name.indexOf("/") + 1).split("-")
  const os = systems.find((system) => words.includes(system))
  const cpu = processors.find((processor) => words.includes(processor))
  if (cpu === undefined || (os === undefined && cpu !== "wasm32")) return undefined
  const libc = words.includes("musl") ? "musl" : words.includes("gnu") ? "glibc" : undefined
  return { cpu: [cpu], ...(libc === undefined ? {} : { libc: [libc] }), ...(os === undefined ? {} : { os: [os] }) }
}

const added = []
for (const [location, entry] of Object.entries(lock.packages)) {
  for (const [name, version] of Object.entries(entry.optionalDependencies ?? {})) {
    const target = `node_modules/${name}`
    if (target in lock.packages || `${location}/${target}` in lock.packages) continue
    const platform = platformOf(name)
    if (platform === undefined) throw new Error(`${name}: no platform can be read from this name; lock it by hand`)
    lock.packages[target] = { version, ...platform, ...(entry.dev ? { dev: true } : {}), optional: true }
    added.push(name)
  }
}

lock.packages = Object.fromEntries(Object.entries(lock.packages).sort(([a], [b]) => a.localeCompare(b, "en")))

const list = added.length > 0 ? `: ${added.join(", ")}` : ""
if (!process.argv.includes("--check")) {
  Fs.writeFileSync(path, `${JSON.stringify(lock, null, 2)}\n`)
  console.log(`package-lock.json: ${added.length} platform packages added${list}`)
} else if (added.length > 0) {
  console.error(`package-lock.json: ${added.length} platform packages are missing${list}: run npm run lockfile`)
  process.exitCode = 1
}
