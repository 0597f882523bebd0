/**
 * What a document asks of clients, requirement by requirement, beside the tests that show it.
 *
 * A test shows a requirement by naming it in square brackets in its title, or in the title of a `describe` around it:
 * `it("wraps around [UDA 4.3.2-d]", …)`. Several are separated by commas, and need not repeat what stays the same:
 * `[UDA 4.1.1-ab, 4.1.2-a, IP1 2.3-a]` are four. `scripts/conformance.js` compares the tags in the sources with the
 * requirements and writes the page; `scripts/conformance-reporter.js` compares them with the tests that passed.
 */

/** One thing that a document asks of clients. */
export interface Requirement {
  readonly level: "MUST" | "SHOULD"
  /** One sentence, in our own words. */
  readonly text: string
  /** Why no test shows it: what it speaks of does not occur here. */
  readonly doesNotApply?: string | undefined
}

export interface Document {
  /** What the document is called in tags: a word, which a number may follow, as in `UDA` and `RFC 6887`. */
  readonly key: string
  readonly title: string
  /** What the reader should know of the sections that are listed, and of those that are not. */
  readonly scope?: string | undefined
  /** The sections that ask something of clients: their numbers and titles. Each needs a requirement. */
  readonly sections: Readonly<Record<string, string>>
  /** By section and letter, for example `1.3.2-a`. */
  readonly requirements: Readonly<Record<string, Requirement>>
}

/** One page of the documentation. */
export interface Page {
  readonly title: string
  readonly intro: string
  readonly documents: ReadonlyArray<Document>
}

/** A test whose title has tags, as it stands in the sources. */
export interface TaggedTest {
  /** Relative to the folder of the tests. */
  readonly file: string
  /** Without its tags. */
  readonly title: string
  /** Those of the blocks around it, and its own, as they stand in the sources: what is only known later is an ellipsis. */
  readonly titles: ReadonlyArray<string>
  readonly ids: ReadonlyArray<string>
}

/** How a test ended in a run. */
export interface TestResult {
  /** Relative to the folder of the tests. */
  readonly file: string
  /** Those of the blocks around it, and its own, as they are shown. */
  readonly titles: ReadonlyArray<string>
  readonly state: "passed" | "failed" | "skipped" | "pending"
}

export const must = (text: string, doesNotApply?: string): Requirement => ({ level: "MUST", text, doesNotApply })

export const should = (text: string, doesNotApply?: string): Requirement => ({ level: "SHOULD", text, doesNotApply })

const bracketed = / ?\[([^[\]]*)\]/g
const localId = /^(\d+(?:\.\d+)*)-[a-z]$/
const part = /^(?:([A-Za-z]\S*(?: \d{4})?) )?(\d+(?:\.\d+)*)-([a-z]+)$/

/** What stands in brackets is a list of tags as a whole, or something else. */
const idsIn = (text: string): ReadonlyArray<string> => {
  const ids: Array<string> = []
  let key: string | undefined
  for (const one of text.split(",")) {
    const [, named, section = "", letters = ""] = part.exec(one.trim()) ?? []
    key = named ?? key
    if (key === undefined || section === "") return []
    for (const letter of letters) ids.push(`${key} ${section}-${letter}`)
  }
  return ids
}

/** The tags of a title, each once. */
export const idsOf = (title: string): ReadonlyArray<string> => [
  ...new Set(Array.from(title.matchAll(bracketed), ([, text = ""]) => idsIn(text)).flat())
]

/** A title without its tags. */
export const withoutIds = (title: string): string =>
  title.replace(bracketed, (whole, text: string) => (idsIn(text).length > 0 ? "" : whole)).trim()

/** All requirements of some pages, by the tags that name them. */
export const requirements = (pages: ReadonlyArray<Page>): ReadonlyMap<string, Requirement> =>
  new Map(
    pages
      .flatMap((page) => page.documents)
      .flatMap(({ key, requirements }) =>
        Object.entries(requirements).map(([local, requirement]) => [`${key} ${local}`, requirement] as const)
      )
  )

const documentMistakes = ({ key, requirements, sections }: Document): ReadonlyArray<string> => {
  const ids = Object.keys(requirements)
  const sectionOf = (local: string) => localId.exec(local)?.[1] ?? ""
  const covered = new Set(ids.map(sectionOf))
  return [
    ...ids.filter((local) => !localId.test(local)).map((local) => `${key} ${local} is no section with a letter`),
    ...ids.filter((local) => !(sectionOf(local) in sections)).map((local) => `${key} ${local} is of no listed section`),
    ...Object.keys(sections)
      .filter((section) => !covered.has(section))
      .map((section) => `${key} ${section} has requirements for clients and no row`)
  ]
}

/** What is wrong with the requirements and the tags of the tests, one line each. */
export const mistakes = (pages: ReadonlyArray<Page>, tests: ReadonlyArray<TaggedTest>): ReadonlyArray<string> => {
  const known = requirements(pages)
  const shown = new Set(tests.flatMap(({ ids }) => ids))
  return [
    ...pages.flatMap((page) => page.documents).flatMap(documentMistakes),
    ...tests.flatMap(({ file, ids, title }) =>
      ids.filter((id) => !known.has(id)).map((id) => `${file}: "${title}" shows ${id}, which is no requirement`)
    ),
    ...[...known].flatMap(([id, { doesNotApply }]) => {
      if (doesNotApply === undefined && !shown.has(id)) return [`${id} is shown by no test`]
      return doesNotApply !== undefined && shown.has(id) ? [`${id} does not apply, and a test shows it`] : []
    })
  ]
}

const special = /[\\^$.*+?()[\]{}|/]/g

/** What is only known when the test runs: the sources' ellipsis, and what `each` fills in, `$name` and `%s`. */
const unknown = /…|%%|%[sdifjoOc#$]|\$[A-Za-z_#][\w.]*/g

/** A title as it is shown, by what the sources have. */
const shownAs = (title: string): RegExp => {
  const known = title.split(unknown).map((text) => text.replaceAll(special, "\\$&"))
  return new RegExp(`^${known.join("[^]*")}$`)
}

/** Whether a result is of a test, or of one within a block of tests. */
const isOf = (test: TaggedTest): ((result: TestResult) => boolean) => {
  const patterns = test.titles.map(shownAs)
  return ({ file, titles }) =>
    file === test.file && patterns.every((pattern, index) => pattern.test(titles[index] ?? ""))
}

const isState =
  (...states: ReadonlyArray<TestResult["state"]>) =>
  ({ state }: TestResult): boolean =>
    states.includes(state)

/** What is wrong with the results of a test, or of those in a block; `undefined` where all passed. */
const complaint = (results: ReadonlyArray<TestResult>): string | undefined => {
  if (results.some(isState("failed"))) return "a test failed"
  return results.length === 0 || results.some(isState("skipped", "pending")) ? "a test did not run" : undefined
}

/** The requirements that a run of all tests has not shown, one line each, with why. */
export const notShown = (
  pages: ReadonlyArray<Page>,
  tests: ReadonlyArray<TaggedTest>,
  results: ReadonlyArray<TestResult>
): ReadonlyArray<string> => {
  const complaints = tests.map((test) => [test, complaint(results.filter(isOf(test)))] as const)
  return [...requirements(pages)].flatMap(([id, { doesNotApply }]) => {
    if (doesNotApply !== undefined) return []
    const those = complaints.filter(([{ ids }]) => ids.includes(id))
    if (those.length === 0) return [`${id}: no test ran`]
    return those.flatMap(([{ file, title }, why]) => (why === undefined ? [] : [`${id}: ${why} (${file}: ${title})`]))
  })
}

const escapeCell = (text: string): string => text.replaceAll("|", "\\|").replaceAll(/\s+/g, " ")

/** Titles may have what Markdown or HTML would take for its own. */
const escapeTitle = (title: string): string => escapeCell(title.replaceAll(/[\\`*_<>]/g, "\\$&"))

const bySection = (one: string, other: string): number => one.localeCompare(other, "en", { numeric: true })

const shownBy = (id: string, { doesNotApply }: Requirement, tests: ReadonlyArray<TaggedTest>): string => {
  if (doesNotApply !== undefined) return `does not apply: ${escapeCell(doesNotApply)}`
  return tests
    .filter(({ ids }) => ids.includes(id))
    .map(({ file, title }) => `[${file.slice(file.lastIndexOf("/") + 1)}](../test/${file}): ${escapeTitle(title)}`)
    .join("<br>")
}

const count = (all: number, notApplying: number): string => {
  const requirements = `${all} requirement${all === 1 ? "" : "s"}`
  if (notApplying === 0) return `${requirements}.`
  return `${requirements}, ${notApplying} of which ${notApplying === 1 ? "does" : "do"} not apply.`
}

const formatDocument = ({ key, requirements, scope, sections, title }: Document, tests: ReadonlyArray<TaggedTest>) => {
  const entries = Object.entries(requirements).toSorted(([one], [other]) => bySection(one, other))
  const notApplying = entries.filter(([, { doesNotApply }]) => doesNotApply !== undefined).length
  const rows = entries.map(([local, requirement]) => {
    const section = local.slice(0, local.lastIndexOf("-"))
    const cells = [
      `${key} ${local}`,
      sections[section] ?? "",
      requirement.level,
      escapeCell(requirement.text),
      shownBy(`${key} ${local}`, requirement, tests)
    ]
    return `| ${cells.join(" | ")} |`
  })
  return [
    `## ${title}`,
    "",
    ...(scope === undefined ? [] : [scope, ""]),
    `In tags: \`${key}\`. ${count(entries.length, notApplying)}`,
    "",
    "| | section | level | requirement | shown by |",
    "| --- | --- | --- | --- | --- |",
    ...rows,
    ""
  ].join("\n")
}

/** The page as Markdown. */
export const format = (page: Page, tests: ReadonlyArray<TaggedTest>): string =>
  [
    `<!-- Written by "npm run generate" from test/conformance and the titles of the tests. Do not edit. -->`,
    "",
    `# ${page.title}`,
    "",
    page.intro,
    "",
    ...page.documents.map((document) => formatDocument(document, tests))
  ].join("\n")
