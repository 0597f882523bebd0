/** The text protocol of NATS: a session is a subject. */
import * as Inlet from "../inlet.ts"
import type * as Member from "../member.ts"
import * as Payload from "../payload.ts"
import * as Batch from "./batch.ts"
import type * as Driver from "./driver.ts"

const ascii = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, "latin1"))

const lineEnd = 0x0a
const endLength = 2

const startsWith = (at: number, expected: Uint8Array): boolean => {
  for (let i = 0; i < expected.length; i++) {
    if (Inlet.bytes[at + i] !== expected[i]) return false
  }
  return true
}

export const make = (member: Member.Member): Driver.Driver => {
  const { session } = member
  const { template } = member.run
  const size = template.length
  /** What the server writes before each message; the same every time. */
  const head = ascii(`MSG ${session} 1 ${size}\r\n`)
  const whole = head.length + size + endLength
  const unit = Buffer.concat([ascii(`PUB ${session} ${size}\r\n`), template, ascii("\r\n")])
  const dataInUnit = unit.length - size - endLength
  let batch: Batch.Batch | undefined

  const readLine = (at: number, to: number): number => {
    const end = Inlet.bytes.subarray(at, to).indexOf(lineEnd)
    if (end < 0) return at
    const line = Buffer.from(Inlet.bytes.subarray(at, at + end))
      .toString("latin1")
      .trim()
    if (line === "PING") member.write(ascii("PONG\r\n"))
    else if (line === "PONG") member.onReady()
    else if (!line.startsWith("INFO ")) member.fail(`unexpected: ${line}`)
    return at + end + 1
  }

  return {
    open: () => member.write(ascii(`CONNECT {"verbose":false,"pedantic":false}\r\nSUB ${session} 1\r\nPING\r\n`)),
    read: (from, to) => {
      let at = from
      for (;;) {
        if (to - at >= whole && startsWith(at, head)) {
          const data = at + head.length
          member.take(Payload.counterAt(Inlet.view, data), data)
          if (Inlet.bytes[data + size + 1] !== lineEnd) member.fail("a message without an end")
          at += whole
          continue
        }
        // An unfinished message, whose first four bytes are "MSG ".
        if (to - at < 4 || Inlet.view.getUint32(at) === 0x4d534720) return at
        const next = readLine(at, to)
        if (next === at) return at
        at = next
      }
    },
    encode: (first, count, sentAt) => {
      batch ??= new Batch.Batch(unit)
      return batch.make(count, (_bytes, view, at, index) => Payload.write(view, at + dataInUnit, first + index, sentAt))
    }
  }
}
