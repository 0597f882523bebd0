/** What a hello may open: a session, a new session, or the control of the dispatcher itself. */
import type * as Capability from "@effect-nat/core/Capability"
import * as SessionId from "@effect-nat/core/SessionId"
import type * as MessageRouter from "./messageRouter.ts"

/** What the holder of a control capability may do: look only, or everything. */
export type Right = "observe" | "manage"

export interface ControlGrant {
  readonly capability: Capability.Capability
  readonly right: Right
}

export type Door =
  | { readonly _tag: "Session"; readonly router: MessageRouter.MessageRouter; readonly grant: MessageRouter.Grant }
  /** A session that is made when somebody proves that it may have it made. */
  | {
      readonly _tag: "NewSession"
      readonly sessionId: SessionId.SessionId
      readonly grant: { readonly capability: Capability.Capability }
    }
  | { readonly _tag: "Control"; readonly grant: ControlGrant }

/** Names the dispatcher itself where a session is named. */
export const control = SessionId.SessionId.make("0".repeat(32))

/** The bytes of a control connection, after its welcome. */
export interface ControlPort {
  /** Takes what has come. */
  readonly receive: (chunk: Uint8Array) => void
  /** The peer has gone, or sends no more. */
  readonly ended: () => void
}
