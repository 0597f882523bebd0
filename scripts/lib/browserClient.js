/** What a page needs to be a member of a session: the program that `npm run size:client` bundles and measures. */
export * as Invitation from "@effect-nat/dispatcher/Invitation"
export * as Session from "@effect-nat/dispatcher/Session"
export * as WebConnector from "@effect-nat/dispatcher/WebConnector"
export { runFork } from "effect/Effect"
export { inetAddressFromString } from "effect/net/NetAddress"
export { runForEach } from "effect/Stream"
