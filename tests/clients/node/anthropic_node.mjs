// @anthropic-ai/sdk: messages, raw events and the `.stream()` helper.
import Anthropic from "@anthropic-ai/sdk";
import { ASK, MODEL, RESULT, WEATHER, joined, play, scenario, user } from "./play.mjs";

const tools = [{ name: WEATHER.name, description: WEATHER.description, input_schema: WEATHER.parameters }];
const common = { model: MODEL.messages, max_tokens: 400 };
const client = (way) => new Anthropic({ baseURL: way.base, apiKey: way.key, maxRetries: 0 });
const ask = (way, messages, more = {}) => client(way).messages.create({ ...common, messages, ...more });
const back = (message) => ({ role: "assistant", content: message.content });
const text = (message) => joined(message.content.map((block) => block.text));
const facts = (message) => ({
  id: message.id,
  model: message.model,
  stop: [message.stop_reason, message.stop_sequence],
  usage: message.usage,
  blocks: message.content.map((block) => block.type),
  rest: message.content.filter((block) => block.type !== "text"),
});
const results = (message) => {
  const calls = message.content.filter((block) => block.type === "tool_use");
  return user(calls.map((call) => ({ type: "tool_result", tool_use_id: call.id, content: RESULT })));
};

scenario("messages", "messages", async (way) => {
  const first = await ask(way, [user(ASK.river)]);
  const second = await ask(way, [user(ASK.river), back(first), user(ASK.again)]);
  return { prose: [text(first), text(second)], exact: [facts(first), facts(second)] };
});

scenario("messages", "messages_thinking", async (way) => {
  const first = await ask(way, [user(ASK.think)]);
  const second = await ask(way, [user(ASK.think), back(first), user(ASK.again)]);
  return { prose: [text(first), text(second)], exact: [facts(first), facts(second)] };
});

scenario("messages stream", "messages_stream", async (way) => {
  const events = [];
  for await (const event of await ask(way, [user(ASK.think)], { stream: true })) events.push(event);
  const deltas = events.filter((event) => event.type === "content_block_delta").map((event) => event.delta);
  return {
    prose: joined(deltas.map((delta) => delta.text)),
    exact: {
      thinking: joined(deltas.map((delta) => delta.thinking)),
      signature: joined(deltas.map((delta) => delta.signature)),
      stop: events.filter((event) => event.type === "message_delta").map((event) => [event.delta, event.usage]),
    },
    counted: events.length,
  };
});

scenario("messages stream", "messages_stream_helper", async (way) => {
  const stream = client(way).messages.stream({ ...common, messages: [user(ASK.river)] });
  let deltas = "";
  stream.on("text", (delta) => (deltas += delta));
  const final = await stream.finalMessage();
  return { prose: { deltas, final: text(final), finalText: await stream.finalText() }, exact: facts(final) };
});

scenario("messages stream", "messages_stream_blocks", async (way) => {
  const stream = client(way).messages.stream({ ...common, model: MODEL.blocks, messages: [user(ASK.river)] });
  const final = await stream.finalMessage();
  const second = await ask(way, [user(ASK.river), back(final), user(ASK.again)]);
  const citations = final.content.map((block) => block.citations ?? null);
  return { prose: [text(final), text(second)], exact: [facts(final), citations] };
});

scenario("tools", "tools", async (way) => {
  const first = await ask(way, [user(ASK.weather)], { tools });
  const second = await ask(way, [user(ASK.weather), back(first), results(first)], { tools });
  return { prose: text(second), exact: [facts(first), facts(second)] };
});

scenario("tools", "tools_stream", async (way) => {
  const stream = client(way).messages.stream({ ...common, tools, messages: [user(ASK.look)] });
  const inputs = [];
  stream.on("inputJson", (delta, all) => inputs.push([delta, all]));
  const final = await stream.finalMessage();
  const second = await ask(way, [user(ASK.look), back(final), results(final)], { tools });
  return { opening: text(final), prose: text(second), exact: [inputs, facts(final), facts(second)] };
});

await play("@anthropic-ai/sdk");
