/**
 * Where the numbers of the last test run are.
 */
import { fileURLToPath } from "node:url"

export const countsFile = fileURLToPath(new URL("../../node_modules/.cache/test-counts.json", import.meta.url))
