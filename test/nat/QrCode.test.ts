/**
 * The QR code in the terminal, read back from what is printed.
 */
import { assert, describe, it } from "@effect/vitest"
import { decodeQR } from "qr/decode.js"
import * as QrCode from "../../packages/nat/src/cli/QrCode.ts"

const uri = `effect-nat:${"AQEACmVmZmVjdC1uYXQCAAbAqE0CLuADAAcBCyIhAS7hBAAm".repeat(3)}`

/** What a camera sees of a terminal whose ground is dark: each half of a character is a square of its own. */
const photograph = (lines: ReadonlyArray<string>, scale: number) => {
  const [width, height] = [(lines[0]?.length ?? 0) * scale, lines.length * 2 * scale]
  const data = new Uint8Array(width * height * 3)
  const isLight = (column: number, row: number) => {
    const character = lines[Math.floor(row / 2)]?.[column] ?? " "
    return character === "█" || character === (row % 2 === 0 ? "▀" : "▄")
  }
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (isLight(Math.floor(x / scale), Math.floor(y / scale)))
        data.fill(255, (y * width + x) * 3, (y * width + x + 1) * 3)
    }
  }
  return { width, height, data }
}

describe("QrCode", () => {
  it("says what was put into it", () => {
    for (const text of [uri, "effect-nat:AQ", "x".repeat(600)]) {
      const lines = QrCode.lines(text, 200)
      assert.strictEqual(decodeQR(photograph(lines, 4)), text)
    }
  })

  it("has light around it on all sides, so that a dark terminal is no part of it", () => {
    const lines = QrCode.lines(uri, 200)
    const width = lines[0]?.length ?? 0
    assert.deepStrictEqual(lines.slice(0, 2), ["█".repeat(width), "█".repeat(width)])
    assert.deepStrictEqual(lines.slice(-2), ["█".repeat(width), "▀".repeat(width)])
    for (const line of lines) assert.match(line, /^████.*████$|^▀+$/)
  })

  it("is of equal length in all lines, and takes no more columns than it says", () => {
    const lines = QrCode.lines(uri, 200)
    const width = lines[0]?.length ?? 0
    assert.deepStrictEqual(new Set(lines.map((line) => line.length)), new Set([width]))
    assert.strictEqual(lines.length, Math.ceil(width / 2))
    assert.lengthOf(QrCode.lines(uri, width), lines.length)
    assert.deepStrictEqual(QrCode.lines(uri, width - 1), [
      `no QR code: it needs a terminal of ${width} columns, and this one has ${width - 1}`
    ])
  })

  it("says that a text is too long", () => {
    assert.deepStrictEqual(QrCode.lines("x".repeat(3000), 500), [
      "no QR code: 3000 characters are more than one can hold"
    ])
  })
})
