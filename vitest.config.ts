import { defineConfig } from "vitest/config"

const source = (directory: string) => new URL(`./packages/${directory}/src/`, import.meta.url).pathname

export default defineConfig({
  resolve: {
    // Tests run against the sources: a failing line is the line that was written.
    alias: [
      ...["core", "upnp", "natpmp", "dispatcher", "testing"].flatMap((name) => [
        { find: new RegExp(`^@effect-nat/${name}$`), replacement: `${source(name)}index.ts` },
        { find: new RegExp(`^@effect-nat/${name}/(.+)$`), replacement: `${source(name)}$1.ts` }
      ]),
      { find: /^effect-nat$/, replacement: `${source("nat")}index.ts` },
      { find: /^effect-nat\/(.+)$/, replacement: `${source("nat")}$1.ts` }
    ]
  },
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: ["test/state.setup.ts"],
    reporters: ["default", "./scripts/counts-reporter.js", "./scripts/conformance-reporter.js"],
    // Real processes and routers are at work beside the pure tests: a busy machine must not look like a failure.
    testTimeout: 30_000,
    hookTimeout: 60_000,
    // Nor must a pause of the machine. What is wrong fails twice: the pure tests and the simulated network do the same
    // each time. What passes only then is named at the end of .ci/run, to be mended (CONTRIBUTING.md).
    retry: 1,
    maxWorkers: 2
  }
})
