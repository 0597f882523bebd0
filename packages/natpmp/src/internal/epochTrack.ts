/**
 * The epochs that a gateway has told, in answers and in announcements, and which of them mean that it has restarted.
 *
 * An announcement may be forged, so it does not change what answers are compared with: after a forged one the gateway's
 * next answer looks like no restart. One that was announced and is then answered is one restart and not two.
 */
import type * as Notices from "./notices.ts"

export interface EpochTrack {
  /** Takes note of an epoch; whether the gateway has restarted, as far as was not known. */
  readonly note: (count: Notices.Count, isAnnounced: boolean) => boolean
  /** The latest one. */
  readonly latest: () => Notices.Count | undefined
  /** The latest one in an answer, which not anybody could have told. */
  readonly answered: () => Notices.Count | undefined
  /** How often it has restarted. */
  readonly restarts: () => number
}

export const make = (hasRestarted: (previous: Notices.Count, current: Notices.Count) => boolean): EpochTrack => {
  let latest: Notices.Count | undefined
  let answered: Notices.Count | undefined
  let restarts = 0

  const isRestartAfter = (previous: Notices.Count | undefined, current: Notices.Count): boolean =>
    previous !== undefined && hasRestarted(previous, current)

  return {
    note: (count, isAnnounced) => {
      const isNews =
        isRestartAfter(latest, count) && (isAnnounced || answered === undefined || isRestartAfter(answered, count))
      latest = count
      if (!isAnnounced) answered = count
      if (isNews) restarts += 1
      return isNews
    },
    latest: () => latest,
    answered: () => answered,
    restarts: () => restarts
  }
}
