/** How the load speaks to one kind of server: all that differs between them. */

export interface Driver {
  /** Begins, on a new connection. The member is ready where messages can come and go. */
  readonly open: () => void
  /** Reads what is whole in `Inlet.bytes`; returns where the unfinished rest begins. */
  readonly read: (from: number, to: number) => number
  /** The bytes that send messages with numbers from `first` on. */
  readonly encode: (first: number, count: number, sentAt: number) => Uint8Array
}
