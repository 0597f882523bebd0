/** A plain room server over WebSocket: the room is the path, and what comes are the messages alone. */
import * as Inlet from "../inlet.ts"
import type * as Member from "../member.ts"
import * as Payload from "../payload.ts"
import * as Batch from "./batch.ts"
import type * as Driver from "./driver.ts"
import * as WebSocket from "./webSocket.ts"

export const make = (member: Member.Member): Driver.Driver => {
  const { template } = member.run
  const size = template.length
  let isOpen = false
  let batch: Batch.Batch | undefined

  const readMessages = (from: number, to: number): number => {
    let at = from
    for (;;) {
      const header = WebSocket.headerLengthAt(at, to)
      if (header === 0) return at
      const length = WebSocket.dataLengthAt(at)
      if (!WebSocket.isBinary(at) || length !== size) member.fail(`a message of ${length} bytes, not ${size}`)
      const data = at + header
      if (data + length > to) return at
      member.take(Payload.counterAt(Inlet.view, data), data)
      at = data + length
    }
  }

  return {
    open: () => member.write(WebSocket.request(`/${member.session}`)),
    read: (from, to) => {
      if (isOpen) return readMessages(from, to)
      const end = WebSocket.responseEnd(from, to, (detail) => member.fail(detail))
      if (end === undefined) return from
      isOpen = true
      member.onReady()
      return readMessages(end, to)
    },
    encode: (first, count, sentAt) => {
      const { bytes, headerLength } = WebSocket.frame(size)
      bytes.set(template, headerLength)
      WebSocket.maskBytes(bytes, headerLength, bytes.length)
      batch ??= new Batch.Batch(bytes)
      return batch.make(count, (bytes, view, at, index) => {
        const data = at + headerLength
        Payload.write(view, data, first + index, sentAt)
        WebSocket.maskBytes(bytes, data, data + Payload.headerLength)
      })
    }
  }
}
