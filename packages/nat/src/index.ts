// Written by "npm run generate" from the modules' headers. Do not edit.

/**
 * The automatic strategy: asks every protocol at once who answers, then maps by the one that did.
 *
 * @since 0.1.0
 */
export * as Automatic from "./Automatic.ts"

/**
 * Strategies one after the other: for programs that know in which order they want to try, and for those that serve
 * their own network where there is no gateway.
 *
 * @since 0.1.0
 */
export * as Fallback from "./Fallback.ts"
