/**
 * Bundles a program for browsers as an application does it: one minified module, of what it uses only. The packages are
 * taken from their sources, so nothing need be built before.
 */
import { build } from "rolldown"
import { packageDirectories, root } from "./workspace.js"

/** @param {string} input the file of the program */
export const bundleForBrowser = async (input) => {
  const { output } = await build({
    input,
    platform: "browser",
    write: false,
    // What a browser does not have, a module of Node first of all, must not be left out with a warning.
    onLog: (_level, { message }) => {
      throw new Error(message)
    },
    resolve: {
      alias: Object.fromEntries(
        packageDirectories().map((directory) => [`@effect-nat/${directory}`, `${root}packages/${directory}/src`])
      )
    },
    output: { format: "esm", minify: true, codeSplitting: false }
  })
  const [program] = output
  if (program.imports.length > 0) throw new Error(`not in the bundle: ${program.imports.join(", ")}`)
  return program
}
