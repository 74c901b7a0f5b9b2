// Play scenarios with an unmodified client, the same three ways, and print what its user sees as one JSON document.
// Called as: node SCRIPT CLIENT WAY=BASE_URL …
import { readFileSync } from "node:fs";

const read = (path) => JSON.parse(readFileSync(new URL(path, import.meta.url), "utf8"));
const script = read("../script.json");
export const { prompts: ASK, models: MODEL, weather: WEATHER, weather_result: RESULT, city: CITY } = script;
export const user = (content) => ({ role: "user", content });
export const joined = (texts) => texts.filter(Boolean).join("");

const scenarios = new Map();

/** Register a function `(way) => seen` as a scenario of a surface. */
export function scenario(surface, name, run) {
  scenarios.set(name, { surface, run });
}

async function attempt(run, way) {
  try {
    return JSON.parse(JSON.stringify(await run(way)));
  } catch (error) {
    return { error: `${error.name}: ${error.message}`, trace: error.stack };
  }
}

/** Play every scenario every way. */
export async function play(...packages) {
  const [client, ...ways] = process.argv.slice(2);
  const seen = {};
  for (const argument of ways) {
    const at = argument.indexOf("=");
    const [way, base] = [argument.slice(0, at), argument.slice(at + 1)];
    seen[way] = {};
    for (const [name, { surface, run }] of scenarios) {
      process.stderr.write(`${way} ${name}\n`);
      const where = { way, base, v1: `${base}/v1`, key: `${client}:${name}:${way}` };
      seen[way][name] = { surface, ...(await attempt(run, where)) };
    }
  }
  const version = (name) => read(`node_modules/${name}/package.json`).version;
  const versions = Object.fromEntries(packages.map((name) => [name, version(name)]));
  console.log(JSON.stringify({ versions, ways: seen }));
}
