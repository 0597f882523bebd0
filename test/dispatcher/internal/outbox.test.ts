import { assert, it } from "@effect/vitest"
import * as Outbox from "../../../packages/dispatcher/src/internal/outbox.ts"
import * as Traffic from "../../../packages/dispatcher/src/internal/traffic.ts"

const noop = () => {}

const sizeOf = (blocks: ReadonlyArray<Uint8Array>): number => blocks.reduce((sum, block) => sum + block.length, 0)

/** An outbox on a connection that takes a write when it is told to. */
const make = (onProgress: (outbox: Outbox.Outbox) => void) => {
  const writes: Array<{ readonly size: number; readonly flushed: () => void }> = []
  let drained = 0
  const connection = {
    remoteAddress: undefined,
    isForwarded: false,
    localAddress: undefined,
    write: (blocks: ReadonlyArray<Uint8Array>, flushed: () => void) => {
      writes.push({ size: sizeOf(blocks), flushed })
    },
    pause: noop,
    resume: noop,
    end: noop,
    destroy: noop
  }
  const listener = { onProgress: () => onProgress(outbox), onDrained: () => drained++ }
  const outbox = new Outbox.Outbox(connection, 1_000_000, listener, new Traffic.Traffic())
  const takeOne = (): number => {
    const one = writes.shift()
    one?.flushed()
    return one?.size ?? 0
  }
  return { outbox, underWay: () => writes.length, takeOne, drained: () => drained }
}

it("has one write under way, also where its owner sends as it hears of progress", () => {
  let more = 1
  const { drained, outbox, takeOne, underWay } = make((outbox) => {
    if (more-- > 0) outbox.send(new Uint8Array(30))
  })
  outbox.send(new Uint8Array(10))
  outbox.send(new Uint8Array(70_000))
  const taken: Array<number> = []
  while (underWay() > 0) {
    assert.strictEqual(underWay(), 1)
    taken.push(takeOne())
  }
  assert.deepStrictEqual(taken, [10, 65_536, 4494])
  assert.strictEqual(outbox.backlog, 0)
  assert.strictEqual(drained(), 1)
})

it("writes a block that goes straight out, and one that is larger than a piece, in pieces", () => {
  const { outbox, takeOne } = make(noop)
  outbox.send(new Uint8Array(65_536))
  assert.strictEqual(takeOne(), 65_536)
  outbox.send(new Uint8Array(150_000))
  outbox.send(new Uint8Array(7))
  assert.deepStrictEqual([takeOne(), takeOne(), takeOne(), takeOne()], [65_536, 65_536, 18_935, 0])
  assert.strictEqual(outbox.backlog, 0)
})
