/**
 * What the tests of the toolchain share: processes as a user would start them, and folders that go away again.
 */
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"

export const root = fileURLToPath(new URL("../../", import.meta.url))

export interface Finished {
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
  /** Both outputs, for a failed assertion's message. */
  readonly output: string
}

export interface RunOptions {
  readonly cwd?: string | undefined
  readonly env?: NodeJS.ProcessEnv | undefined
  readonly input?: string | undefined
}

export const run = (command: string, args: ReadonlyArray<string>, options: RunOptions = {}): Promise<Finished> =>
  new Promise((resolve, reject) => {
    const child = ChildProcess.spawn(command, args, {
      cwd: options.cwd ?? root,
      env: options.env ?? process.env,
      stdio: [options.input === undefined ? "ignore" : "pipe", "pipe", "pipe"]
    })
    const chunks = { stdout: "", stderr: "" }
    child.stdout?.setEncoding("utf8").on("data", (text: string) => (chunks.stdout += text))
    child.stderr?.setEncoding("utf8").on("data", (text: string) => (chunks.stderr += text))
    child.stdin?.end(options.input)
    child.on("error", reject)
    child.on("close", (status) =>
      resolve({
        status,
        ...chunks,
        output: `${command} ${args.join(" ")} ended with ${status}\n${chunks.stdout}\n${chunks.stderr}`
      })
    )
  })

/** As `run`, for commands that must succeed. */
export const succeed = async (
  command: string,
  args: ReadonlyArray<string>,
  options: RunOptions = {}
): Promise<string> => {
  const finished = await run(command, args, options)
  if (finished.status !== 0) throw new Error(finished.output)
  return finished.stdout
}

/**
 * The environment of somebody who types a command in a shell: npm's own variables are gone, and the programs of this
 * repository's node_modules (its Node among them) are not found before the machine's.
 */
export const userEnvironment = (): NodeJS.ProcessEnv => {
  const environment: NodeJS.ProcessEnv = {}
  for (const [name, value] of Object.entries(process.env)) {
    if (/^(npm_(?!config_)|npm_config_(local_)?prefix$|VITEST|NODE$|NODE_ENV$|NODE_OPTIONS$|INIT_CWD$)/i.test(name)) {
      continue
    }
    environment[name] = value
  }
  const isOurs = (folder: string) => folder.split(Path.sep).includes("node_modules")
  const path = (process.env["PATH"] ?? "").split(Path.delimiter)
  environment["PATH"] = path.filter((folder) => !isOurs(folder)).join(Path.delimiter)
  return environment
}

export const temporaryFolder = (): { readonly path: string; readonly remove: () => void } => {
  const path = Fs.realpathSync(Fs.mkdtempSync(Path.join(Os.tmpdir(), "effect-nat-toolchain-")))
  return { path, remove: () => Fs.rmSync(path, { recursive: true, force: true, maxRetries: 3 }) }
}

/** Writes files, given by their paths relative to a folder. */
export const write = (folder: string, files: Readonly<Record<string, string>>): void => {
  for (const [name, text] of Object.entries(files)) {
    const path = Path.join(folder, name)
    Fs.mkdirSync(Path.dirname(path), { recursive: true })
    Fs.writeFileSync(path, text)
  }
}

export interface Manifest {
  readonly name: string
  readonly version: string
  readonly license: string
  readonly type: string
  readonly sideEffects: boolean
  readonly files: ReadonlyArray<string>
  readonly exports: Readonly<Record<string, unknown>>
  readonly engines: Readonly<Record<string, string>>
  readonly dependencies?: Readonly<Record<string, string>>
  readonly devDependencies?: Readonly<Record<string, string>>
  readonly peerDependencies?: Readonly<Record<string, string>>
}

export const readManifest = (folder: string): Manifest =>
  JSON.parse(Fs.readFileSync(Path.join(folder, "package.json"), "utf8")) as Manifest

/** The packages of the workspace: their folders' names and their manifests. */
export const workspace: ReadonlyArray<{ readonly directory: string; readonly manifest: Manifest }> = Fs.readdirSync(
  Path.join(root, "packages")
)
  .filter((directory) => Fs.existsSync(Path.join(root, "packages", directory, "package.json")))
  .map((directory) => ({ directory, manifest: readManifest(Path.join(root, "packages", directory)) }))
