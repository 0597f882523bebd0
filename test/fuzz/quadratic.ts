/** A decoder that does what no decoder may do, to see that it is noticed. */
import type { Decoder } from "./decoder.ts"

/** Looks at every byte again for each byte. */
export const quadratic: Decoder = {
  name: "quadratic",
  maximumBytes: 4096,
  longestRead: 4096,
  tokens: [Uint8Array.of(1)],
  frames: [(repeated) => repeated],
  message: () => Uint8Array.of(1),
  decode: (bytes) => {
    let sum = 0
    for (const one of bytes) {
      for (const other of bytes) sum += one * other
    }
    return sum > 0
  },
  check: () => true,
  checkIdentity: () => undefined
}
