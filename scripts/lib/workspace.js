/**
 * Where things are in the workspace. Needs nothing but Node.
 */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"

export const root = fileURLToPath(new URL("../../", import.meta.url))

/** The folders below packages/ that are packages. */
export const packageDirectories = (base = root) =>
  Fs.readdirSync(Path.join(base, "packages"))
    .filter((name) => Fs.existsSync(Path.join(base, "packages", name, "package.json")))
    .toSorted()

/**
 * A package's public modules: what `exports` shows under `./*`, without the index.
 *
 * @param {string} directory
 * @param {string} [base]
 */
export const publicModules = (directory, base = root) => {
  const source = Path.join(base, "packages", directory, "src")
  if (!Fs.existsSync(source)) return []
  return Fs.readdirSync(source)
    .filter((name) => /^[A-Z][A-Za-z0-9]*\.ts$/.test(name))
    .map((name) => name.slice(0, -".ts".length))
    .toSorted()
}

/**
 * All files below a folder whose name ends so, as paths relative to the folder.
 *
 * @param {string} folder
 * @param {string} ending
 */
export const filesBelow = (folder, ending) =>
  Fs.existsSync(folder)
    ? Fs.readdirSync(folder, { recursive: true, encoding: "utf8" })
        .filter((name) => name.endsWith(ending) && !name.split(Path.sep).includes("node_modules"))
        .toSorted()
    : []
