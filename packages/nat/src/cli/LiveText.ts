/**
 * Text on a terminal that is written again in its own place when it changes.
 */

/** The size of a terminal; where it is not known, as large as they used to be. */
export interface Size {
  readonly rows: number | undefined
}

const usualRows = 24

/** As many lines as fit, with a word on those that do not. */
const fitting = (lines: ReadonlyArray<string>, rows: number): ReadonlyArray<string> => {
  // What is written last ends with a line of its own.
  const most = Math.max(2, rows - 1)
  if (lines.length <= most) return lines
  return [...lines.slice(0, most - 1), `… and ${lines.length - most + 1} more`]
}

/** Up to the first of so many lines, and away with all below. */
const back = (lines: number): string => (lines === 0 ? "" : `\u001B[${lines}A\u001B[0J`)

/**
 * What to write so that a text takes the place of the one before, of which there are so many lines, and how many it has
 * itself. Lines that are too long are cut by the terminal, which knows how wide its characters are. A line end follows.
 */
export const replace = (
  before: number,
  text: string,
  { rows = usualRows }: Size
): { readonly output: string; readonly lines: number } => {
  const lines = fitting(text.split("\n"), rows)
  return { output: `${back(before)}\u001B[?7l${lines.join("\n")}\u001B[?7h`, lines: lines.length }
}
