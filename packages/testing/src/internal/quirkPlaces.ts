/**
 * Quirks that a router is given where they cannot show: a test that has one would test nothing.
 */
import * as Quirk from "../Quirk.ts"

const places: Readonly<Record<Quirk.Strength, string>> = {
  mock: "in the mock layer",
  loopback: "on loopback",
  network: "in a SimulatedNetwork"
}

const whyNot = (strength: Quirk.Strength, name: string): string | undefined => {
  const profile: Quirk.Profile | undefined = Quirk.profiles.find((one) => one.name === name)
  if (profile === undefined) return `there is no quirk ${JSON.stringify(name)}: Quirk.names has them all`
  if (profile.strengths.includes(strength)) return undefined
  const runs = profile.strengths.map((one) => places[one]).join(" and ")
  return `the quirk ${name} cannot show ${places[strength]}: it runs ${runs}`
}

/** What is wrong with the first one that does not run there. */
export const misplaced = (strength: Quirk.Strength, quirks: Iterable<string>): string | undefined => {
  for (const name of quirks) {
    const wrong = whyNot(strength, name)
    if (wrong !== undefined) return wrong
  }
  return undefined
}
