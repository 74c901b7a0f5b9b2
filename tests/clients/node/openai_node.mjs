// openai-node: every surface it speaks, raw iteration and the `.stream()` helpers.
import OpenAI from "openai";
import { zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";
import { ASK, MODEL, RESULT, WEATHER, joined, play, scenario, user } from "./play.mjs";

const City = z.object({ name: z.string(), population: z.number().int() });
const tools = [{ type: "function", function: { ...WEATHER, strict: true } }];
const responsesTools = [{ type: "function", ...WEATHER, strict: true }];
const client = (way) => new OpenAI({ baseURL: way.v1, apiKey: way.key, maxRetries: 0 });
const ask = (way, model, prompt, more = {}) =>
  client(way).chat.completions.create({ model: MODEL[model], messages: [user(ASK[prompt])], ...more });
const facts = (answer) => ({
  id: answer.id,
  created: answer.created,
  model: answer.model,
  usage: answer.usage,
  finish: answer.choices.map((choice) => choice.finish_reason),
  logprobs: answer.choices.map((choice) => choice.logprobs ?? null),
});
const contents = (answer) => answer.choices.map((choice) => choice.message.content);

scenario("chat", "chat", async (way) => {
  const first = await ask(way, "chat", "river");
  const messages = [user(ASK.river), first.choices[0].message, user(ASK.again)];
  const second = await client(way).chat.completions.create({ model: MODEL.chat, messages });
  return { prose: [contents(first), contents(second)], exact: [facts(first), facts(second)] };
});

for (const [name, model, prompt, more] of [
  ["chat_choices", "choices", "river", { n: 2 }],
  ["chat_reasoning", "chat", "think", {}],
  ["chat_logprobs", "logprobs", "river", { logprobs: true }],
  ["chat_odd", "odd", "river", {}],
]) {
  scenario("chat", name, async (way) => {
    const answer = await ask(way, model, prompt, more);
    const reasoning = answer.choices.map((choice) => choice.message.reasoning_content ?? null);
    return { prose: contents(answer), exact: [facts(answer), reasoning] };
  });
}

scenario("chat", "chat_error", async (way) => {
  try {
    await ask(way, "error", "river");
  } catch (error) {
    return { exact: [error.constructor.name, error.status, error.code, error.message] };
  }
  throw new Error("no error was raised");
});

scenario("chat stream", "chat_stream", async (way) => {
  const stream = await ask(way, "chat", "think", { stream: true, stream_options: { include_usage: true } });
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  const choices = chunks.flatMap((chunk) => chunk.choices);
  return {
    prose: joined(choices.map((choice) => choice.delta.content)),
    exact: {
      reasoning: joined(choices.map((choice) => choice.delta.reasoning_content)),
      roles: choices.map((choice) => choice.delta.role).filter(Boolean),
      finish: choices.map((choice) => choice.finish_reason).filter(Boolean),
      usage: chunks.map((chunk) => chunk.usage).filter(Boolean),
    },
    counted: chunks.length,
  };
});

for (const [name, model, prompt, more] of [
  ["chat_stream_helper", "chat", "river", { stream_options: { include_usage: true } }],
  ["chat_stream_choices", "choices", "river", { n: 2 }],
  ["chat_stream_odd", "odd", "river", {}],
]) {
  scenario("chat stream", name, async (way) => {
    const stream = client(way).chat.completions.stream({ model: MODEL[model], messages: [user(ASK[prompt])], ...more });
    const done = [];
    stream.on("content.done", (event) => done.push(event.content));
    let [deltas, snapshot] = ["", ""];
    if (!more.n) stream.on("content", (delta, all) => ([deltas, snapshot] = [deltas + delta, all]));
    const final = await stream.finalChatCompletion();
    const prose = { done, final: contents(final) };
    return { prose: more.n ? prose : { ...prose, deltas, snapshot }, exact: facts(final) };
  });
}

scenario("tools", "tools", async (way) => {
  const first = await ask(way, "chat", "weather", { tools });
  const message = first.choices[0].message;
  const results = message.tool_calls.map((call) => ({ role: "tool", tool_call_id: call.id, content: RESULT }));
  const messages = [user(ASK.weather), message, ...results];
  const second = await client(way).chat.completions.create({ model: MODEL.chat, messages, tools });
  return { prose: contents(second), exact: [message, facts(first), facts(second)] };
});

scenario("tools", "tools_runner", async (way) => {
  const given = [];
  const run = (argument) => given.push(argument) && RESULT;
  const tool = { type: "function", function: { ...WEATHER, function: run, parse: JSON.parse } };
  const request = { model: MODEL.chat, messages: [user(ASK.look)], tools: [tool], stream: true };
  const runner = client(way).chat.completions.runTools(request);
  const last = await runner.finalContent();
  const said = runner.messages.filter((message) => message.role === "assistant");
  const calls = said.map((message) => message.tool_calls ?? null);
  return { opening: said[0].content, prose: last, exact: [given, calls] };
});

scenario("structured", "structured", async (way) => {
  const response_format = zodResponseFormat(City, "City");
  const messages = [user(ASK.extract)];
  const answer = await client(way).chat.completions.parse({ model: MODEL.chat, messages, response_format });
  return { exact: [contents(answer), answer.choices[0].message.parsed, facts(answer)] };
});

scenario("structured", "structured_stream", async (way) => {
  const response_format = zodResponseFormat(City, "City");
  const stream = client(way).chat.completions.stream({ model: MODEL.chat, messages: [user(ASK.extract)], response_format });
  const final = await stream.finalChatCompletion();
  return { exact: [contents(final), final.choices[0].message.parsed, facts(final)] };
});

scenario("completions", "completions", async (way) => {
  const answer = await client(way).completions.create({ model: MODEL.completions, prompt: ASK.river, n: 2 });
  return { prose: answer.choices.map((choice) => choice.text), exact: facts(answer) };
});

scenario("completions", "completions_stream", async (way) => {
  const stream = await client(way).completions.create({ model: MODEL.completions, prompt: ASK.river, stream: true });
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  const choices = chunks.flatMap((chunk) => chunk.choices);
  const finish = choices.map((choice) => choice.finish_reason).filter(Boolean);
  return { prose: joined(choices.map((choice) => choice.text)), exact: finish, counted: chunks.length };
});

const about = (response) => ({
  id: response.id,
  status: response.status,
  model: response.model,
  usage: response.usage,
  items: response.output.map((item) => [item.type, item.id, item.status]),
  rest: response.output.filter((item) => item.type !== "message"),
});

scenario("responses", "responses", async (way) => {
  const first = await client(way).responses.create({ model: MODEL.chat, input: ASK.river });
  const input = [user(ASK.river), ...first.output, user(ASK.again)];
  const second = await client(way).responses.create({ model: MODEL.chat, input });
  return { prose: [first.output_text, second.output_text], exact: [about(first), about(second)] };
});

scenario("responses stream", "responses_stream", async (way) => {
  const stream = await client(way).responses.create({ model: MODEL.chat, input: ASK.think, stream: true });
  const events = [];
  for await (const event of stream) events.push(event);
  const of = (type) => events.filter((event) => event.type === `response.${type}`);
  const message = of("output_item.done").map((event) => event.item).filter((item) => item.type === "message");
  const parts = of("completed")[0].response.output.filter((item) => item.type === "message").flatMap((item) => item.content);
  return {
    prose: {
      deltas: joined(of("output_text.delta").map((event) => event.delta)),
      done: joined(of("output_text.done").map((event) => event.text)),
      part: joined(of("content_part.done").map((event) => event.part.text)),
      item: joined(message.flatMap((item) => item.content).map((part) => part.text)),
      final: joined(parts.map((part) => part.text)),
    },
    exact: [about(of("completed")[0].response), events.map((event) => event.type)],
  };
});

scenario("responses stream", "responses_stream_phases", async (way) => {
  const stream = client(way).responses.stream({ model: MODEL.phases, input: ASK.river });
  const deltas = ["", ""];
  stream.on("response.output_text.delta", (event) => (deltas[event.output_index] += event.delta));
  const final = await stream.finalResponse();
  const [said, answer] = final.output.map((item) => item.content[0]);
  const [source] = answer.annotations;
  const cited = answer.text.slice(source.start_index, source.end_index);
  return { prose: { deltas: deltas[1], final: answer.text }, exact: [deltas[0], said.text, cited, about(final)] };
});

scenario("responses stream", "responses_stream_helper", async (way) => {
  const stream = client(way).responses.stream({ model: MODEL.chat, input: ASK.river });
  let [deltas, snapshot] = ["", ""];
  stream.on("response.output_text.delta", (event) => ([deltas, snapshot] = [deltas + event.delta, event.snapshot]));
  const final = await stream.finalResponse();
  return { prose: { deltas, snapshot, final: final.output_text }, exact: about(final) };
});

scenario("tools", "responses_tools", async (way) => {
  const first = await client(way).responses.create({ model: MODEL.chat, input: ASK.weather, tools: responsesTools });
  const call = first.output.find((item) => item.type === "function_call");
  const result = { type: "function_call_output", call_id: call.call_id, output: RESULT };
  const input = [user(ASK.weather), ...first.output, result];
  const second = await client(way).responses.create({ model: MODEL.chat, input, tools: responsesTools });
  return { prose: second.output_text, exact: [about(first), about(second)] };
});

scenario("structured", "responses_structured", async (way) => {
  const text = { format: zodTextFormat(City, "City") };
  const answer = await client(way).responses.parse({ model: MODEL.chat, input: ASK.extract, text });
  return { exact: [answer.output_text, answer.output_parsed, about(answer)] };
});

await play("openai");
