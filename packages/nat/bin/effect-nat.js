#!/usr/bin/env node
// npm links a bin only when its target is there at install time, before anything is built. So this file is committed,
// plain JavaScript, and it must parse on a Node that is too old for the rest.
import { existsSync, readFileSync } from "node:fs"

const manifest = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"))
const args = process.argv.slice(2)
const main = new URL("../dist/bin/main.js", import.meta.url)

/** Whether the version that runs is the one that `engines` asks for, or a later one. */
const isRecentEnough = () => {
  const [major, minor] = process.versions.node.split(".").map(Number)
  const [leastMajor, leastMinor] = manifest.engines.node.replace(/^>=/, "").split(".").map(Number)
  return major === leastMajor ? Number(minor) >= leastMinor : Number(major) > leastMajor
}

/** @param {string} message */
const giveUp = (message) => {
  process.stderr.write(`effect-nat: ${message}\n`)
  process.exitCode = 1
}

if (!isRecentEnough()) {
  giveUp(`needs Node ${manifest.engines.node}, this is ${process.version}`)
} else if (args.length === 1 && (args[0] === "--version" || args[0] === "-v")) {
  // Answered here, as effect/cli would: loading it costs many times what the answer does.
  process.stdout.write(`effect-nat v${manifest.version}\n`)
} else if (!existsSync(main)) {
  giveUp("not built yet: run npm run build")
} else {
  void import(main.href)
}
