/**
 * Prints how large the client is that a page downloads: minified, then gzipped, and which packages it is made of.
 */
import * as Path from "node:path"
import * as Zlib from "node:zlib"
import { bundleForBrowser } from "./lib/browserBundle.js"
import { root } from "./lib/workspace.js"

const { code, modules } = await bundleForBrowser(Path.join(root, "scripts/lib/browserClient.js"))

/** @param {number} bytes */
const kilobytes = (bytes) => `${(bytes / 1000).toFixed(1)} kB`

/** @param {string} path */
const packageOf = (path) => /(?:^|\/)(?:node_modules|packages)\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1] ?? "the bundler"

/** @type {Map<string, number>} */
const sizes = new Map()
for (const [path, { renderedLength }] of Object.entries(modules)) {
  const name = packageOf(Path.relative(root, path))
  sizes.set(name, (sizes.get(name) ?? 0) + renderedLength)
}
const total = [...sizes.values()].reduce((sum, size) => sum + size, 0)
const shares = [...sizes]
  .toSorted(([, a], [, b]) => b - a)
  .map(([name, size]) => /** @type {const} */ ([name, Math.round((100 * size) / total)]))
  .filter(([, percent]) => percent > 0)
  .map(([name, percent]) => `${name} ${percent} %`)

console.log(
  `browser client: ${kilobytes(Buffer.byteLength(code))} minified, ${kilobytes(Zlib.gzipSync(code).length)} gzipped`
)
console.log(`of it, before it is minified: ${shares.join(", ")}`)
