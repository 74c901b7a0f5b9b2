// Vercel AI SDK with its OpenAI-compatible, OpenAI (chat, responses, completions) and Anthropic providers.
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { Output, generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";
import { ASK, CITY, MODEL, RESULT, WEATHER, joined, play, scenario, user } from "./play.mjs";

const compatible = (way) => createOpenAICompatible({ name: "house", baseURL: way.v1, apiKey: way.key, includeUsage: true });
const openai = (way) => createOpenAI({ baseURL: way.v1, apiKey: way.key });
const anthropic = (way) => createAnthropic({ baseURL: way.v1, apiKey: way.key });
const MODELS = {
  chat: [(way) => compatible(way)(MODEL.chat), (way) => openai(way).chat(MODEL.chat)],
  responses: [(way) => openai(way).responses(MODEL.chat)],
  messages: [(way) => anthropic(way)(MODEL.messages)],
};
const tools = { get_weather: tool({ description: WEATHER.description, inputSchema: jsonSchema(WEATHER.parameters), execute: () => RESULT }) };
const common = { maxRetries: 0 };
const call = ({ toolName, input, output }) => [toolName, input, output ?? null];
const facts = (result) => [result.finishReason, result.usage, result.reasoningText ?? null, result.toolCalls.map(call)];

for (const [surface, models] of Object.entries(MODELS)) {
  models.forEach((model, at) => {
    const name = at ? `${surface}_${at + 1}` : surface;

    // Two turns: the messages of the first answer go back as they came.
    scenario(surface, name, async (way) => {
      const first = await generateText({ ...common, model: model(way), prompt: ASK.river });
      const messages = [user(ASK.river), ...first.response.messages, user(ASK.again)];
      const second = await generateText({ ...common, model: model(way), messages });
      return { prose: [first.text, second.text], exact: [facts(first), facts(second)] };
    });

    // Text and reasoning parts open and close once each.
    scenario(`${surface} stream`, `${name}_stream`, async (way) => {
      const result = streamText({ ...common, model: model(way), prompt: ASK.think, onError: ({ error }) => { throw error; } });
      const parts = [];
      for await (const part of result.fullStream) parts.push(part);
      const fault = parts.find((part) => part.type === "error");
      if (fault) throw fault.error;
      const of = (type) => parts.filter((part) => part.type === type);
      const kinds = parts.map((part) => part.type).filter((type, i, all) => type !== all[i - 1]);
      const finish = of("finish").map((part) => [part.finishReason, part.totalUsage]);
      const deltas = joined(of("text-delta").map((part) => part.text));
      const reasoning = joined(of("reasoning-delta").map((part) => part.text));
      return { prose: { deltas, text: await result.text }, exact: [kinds, reasoning, finish], counted: parts.length };
    });

    scenario("tools", `${name}_tools`, async (way) => {
      const result = await generateText({ ...common, model: model(way), prompt: ASK.weather, tools, stopWhen: stepCountIs(3) });
      const steps = result.steps.map((step) => [step.finishReason, step.toolCalls.map(call), step.toolResults.map(call)]);
      return { prose: result.text, exact: [steps, result.totalUsage] };
    });

    scenario("tools", `${name}_tools_stream`, async (way) => {
      const result = streamText({ ...common, model: model(way), prompt: ASK.look, tools, stopWhen: stepCountIs(3) });
      const parts = [];
      for await (const part of result.fullStream) parts.push(part);
      const fault = parts.find((part) => part.type === "error");
      if (fault) throw fault.error;
      const steps = await result.steps;
      const calls = steps.map((step) => [step.finishReason, step.toolCalls.map(call), step.toolResults.map(call)]);
      return { opening: steps[0].text, prose: steps.at(-1).text, exact: calls };
    });

    scenario("structured", `${name}_structured`, async (way) => {
      const output = Output.object({ schema: jsonSchema(CITY), name: "City" });
      const result = await generateText({ ...common, model: model(way), prompt: ASK.extract, output });
      return { exact: [result.output, facts(result)] };
    });

    scenario("structured", `${name}_structured_stream`, async (way) => {
      const output = Output.object({ schema: jsonSchema(CITY), name: "City" });
      const result = streamText({ ...common, model: model(way), prompt: ASK.extract, output });
      const partial = [];
      for await (const value of result.partialOutputStream) partial.push(value);
      return { exact: [partial, await result.output] };
    });
  });
}

// Commentary and answer, blocks with citations: as one text, and as parts.
for (const [surface, name, model] of [
  ["responses stream", "responses_stream_phases", (way) => openai(way).responses(MODEL.phases)],
  ["messages stream", "messages_stream_blocks", (way) => anthropic(way)(MODEL.blocks)],
]) {
  scenario(surface, name, async (way) => {
    const result = streamText({ ...common, model: model(way), prompt: ASK.river });
    const parts = [];
    for await (const part of result.fullStream) parts.push(part);
    const fault = parts.find((part) => part.type === "error");
    if (fault) throw fault.error;
    const ids = [...new Set(parts.filter((part) => part.type === "text-delta").map((part) => part.id))];
    const texts = ids.map((id) => joined(parts.filter((part) => part.type === "text-delta" && part.id === id).map((part) => part.text)));
    const sources = parts.filter((part) => part.type === "source").map((part) => part.url);
    const spoken = surface.startsWith("responses") ? texts.slice(1) : [texts.join("")];
    const rest = surface.startsWith("responses") ? texts[0] : ids.length;
    return { prose: spoken, exact: [rest, sources, await result.finishReason, await result.usage] };
  });
}

scenario("completions", "completions", async (way) => {
  const model = compatible(way).completionModel(MODEL.completions);
  const whole = await generateText({ ...common, model, prompt: ASK.river });
  const stream = streamText({ ...common, model, prompt: ASK.river });
  return { prose: [whole.text, await stream.text], exact: [facts(whole)] };
});

await play("ai", "@ai-sdk/openai", "@ai-sdk/openai-compatible", "@ai-sdk/anthropic");
