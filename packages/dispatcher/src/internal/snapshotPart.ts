/** Into which parts a snapshot is cut. */
import * as Wire from "../Wire.ts"

/** The bytes of a whole part, where no message may be larger than so many bytes; the last part may have fewer. */
export const wholeBytes = (maxDataBytes: number): number => Math.min(65_536, maxDataBytes - Wire.snapshotHeaderLength)
