// compatcanary, the scanner, as its user runs it: the reports of all ways must agree.
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { MODEL, play, scenario } from "./play.mjs";

const CLI = fileURLToPath(new URL("node_modules/compatcanary/src/cli.js", import.meta.url));
const PROBES = {
  "models.list": "chat",
  "chat.basic": "chat",
  "chat.streaming": "chat stream",
  "responses.basic": "responses",
  "responses.streaming": "responses stream",
  "chat.tool_call": "tools",
  "chat.structured_output": "structured",
};
const reports = new Map();

function scan(way) {
  if (reports.has(way.way)) return reports.get(way.way);
  const client = way.key.split(":")[0];
  const environment = { ...process.env, OPENAI_API_KEY: `${client}:scan:${way.way}` };
  const options = ["scan", "--base-url", way.v1, "--model", MODEL.chat, "--format", "json", "--fail-on", "never"];
  const done = spawnSync(process.execPath, [CLI, ...options], { env: environment, encoding: "utf8" });
  if (done.status !== 0) throw new Error(`compatcanary ended with ${done.status}: ${done.stderr}`);
  reports.set(way.way, JSON.parse(done.stdout));
  return reports.get(way.way);
}

for (const [probe, surface] of Object.entries(PROBES)) {
  scenario(surface, probe, (way) => {
    const report = scan(way);
    const { status, evidence, summary } = report.results.find((result) => result.id === probe);
    if (status !== "pass") throw new Error(`${status}: ${summary}`);
    return { exact: [status, report.score, report.compatible], counted: [summary, evidence] };
  });
}

await play("compatcanary");
