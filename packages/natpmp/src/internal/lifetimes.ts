/**
 * How long mappings are asked for over both protocols of port 5351, which map nothing for good.
 */
import type * as MappingRequest from "@effect-nat/core/MappingRequest"
import * as Duration from "effect/Duration"

/** The lifetime that is asked for where a permanent mapping is wanted. */
export const permanent: Duration.Duration = Duration.days(1)

/** The lifetime to ask for. */
export const asked = ({ lifetime }: Pick<MappingRequest.Resolved, "lifetime">): Duration.Duration =>
  Duration.isFinite(lifetime) ? lifetime : permanent
