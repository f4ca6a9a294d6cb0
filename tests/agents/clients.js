// Conversations of three turns with one of Node's clients, many at once: as clients.py.
//
//     node clients.js CLIENT BASE_URL COUNT

const net = require("node:net");

const [client, base, count] = process.argv.slice(2);
const system = { role: "system", content: "You are terse." };
const prompts = (number) => [0, 1, 2].map((turn) => `${number}.${turn}: ${"words ".repeat(turn * 50)}`);

async function converse(number, ask) {
  const history = [system];
  for (const prompt of prompts(number)) {
    history.push({ role: "user", content: prompt });
    history.push({ role: "assistant", content: await ask(history) });
  }
}

function openai() {
  const { OpenAI } = require("openai");
  return new OpenAI({ baseURL: `${base}/v1`, apiKey: "none" });
}

const clients = {
  "node-openai-sync": (number) => {
    const api = openai();
    return converse(number, async (messages) => {
      const answer = await api.chat.completions.create({ model: "m", messages, stream: false });
      return answer.choices[0].message.content;
    });
  },
  "node-openai-stream": (number) => {
    const api = openai();
    return converse(number, async (messages) => {
      let text = "";
      for await (const part of await api.chat.completions.create({ model: "m", messages, stream: true })) {
        text += part.choices[0].delta.content ?? "";
      }
      return text;
    });
  },
  "node-fetch": (number) =>
    converse(number, async (messages) => {
      const body = JSON.stringify({ model: "m", messages, stream: false });
      const headers = { "content-type": "application/json" };
      const answer = await fetch(`${base}/v1/chat/completions`, { method: "POST", headers, body });
      return (await answer.json()).choices[0].message.content;
    }),
};

// By eBPF a library is looked into milliseconds after it is mapped; a snapshot waits for all before it.
function recorderIsReady() {
  return new Promise((resolve, reject) => {
    const recorder = net.connect(process.env.AGENTREC_SOCKET, () => {
      recorder.write('{"type": "snapshot", "req": 1}\n');
    });
    recorder.on("error", reject);
    recorder.on("data", (answer) => {
      recorder.end();
      answer.includes('"ok":true') ? resolve() : reject(new Error(answer.toString()));
    });
  });
}

recorderIsReady()
  .then(() => Promise.all(Array.from({ length: Number(count) }, (_, number) => clients[client](number))))
  .catch((error) => {
    console.error(error);
    process.exit(1);
  });
