/**
 * Text as a QR code that a terminal can show: two rows of it in one line, by half blocks. Loaded only where it is shown.
 */
import { encodeQR } from "qr"

/** So many modules of light are around the code (ISO/IEC 18004 §5.3.8). */
const quietZone = 4

/** Light is what is written, since the ground of most terminals is dark. */
const halves = (isUpperDark: boolean, isLowerDark: boolean): string => {
  if (isUpperDark) return isLowerDark ? " " : "▄"
  return isLowerDark ? "▀" : "█"
}

/** Rows of modules, `true` is dark; none where the text is longer than any code holds. */
const modulesOf = (text: string): ReadonlyArray<ReadonlyArray<boolean>> | undefined => {
  try {
    // What a screen shows is not torn or stained: the lowest correction makes the smallest code.
    return encodeQR(text, "raw", { ecc: "low", border: quietZone })
  } catch {
    return undefined
  }
}

/** The lines of the code, or one line that says why there is none. */
export const lines = (text: string, columns: number): ReadonlyArray<string> => {
  const modules = modulesOf(text)
  if (modules === undefined) return [`no QR code: ${text.length} characters are more than one can hold`]
  if (modules.length > columns) {
    return [`no QR code: it needs a terminal of ${modules.length} columns, and this one has ${columns}`]
  }
  return modules.flatMap((upper, row) => {
    if (row % 2 === 1) return []
    const lower = modules[row + 1]
    return [upper.map((isDark, column) => halves(isDark, lower?.[column] ?? true)).join("")]
  })
}
