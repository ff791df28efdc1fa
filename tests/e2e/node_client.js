// What test_node.py does with Node's "ws": node node_client.js URL NAME... prints an object as JSON.
"use strict";
const WebSocket = require("ws");

const [base, name] = process.argv.slice(2);

function open(path, ...more) {
  return new Promise((resolve, reject) => {
    const ws = new WebSocket(base + path, ...more);
    ws.once("open", () => resolve(ws));
    ws.once("error", reject);
  });
}

const once = (ws, event) => new Promise((resolve) => ws.once(event, (...args) => resolve(args)));

// A JSON-RPC connection: call(method, ...params) returns a promise.
async function talk(ws) {
  if (ws.readyState !== WebSocket.OPEN) await once(ws, "open");
  const waiting = new Map();
  let last = 0;
  ws.on("message", (data) => {
    const answer = JSON.parse(data);
    waiting.get(answer.id)(answer);
  });
  const call = (method, ...params) => new Promise((resolve, reject) => {
    const id = ++last;
    waiting.set(id, (answer) => (answer.error ? reject(answer.error) : resolve(answer.result)));
    ws.send(JSON.stringify({ jsonrpc: "2.0", method, params, id }));
  });
  return { ws, call };
}

const connect = async (path) => talk(await open(path));

// Code and reason with which a connection ends; the reason is null when it is the server's own.
async function ending(ws, isOwnReason) {
  const [code, reason] = await once(ws, "close");
  return [code, isOwnReason ? null : reason.toString()];
}

const talks = {
  async calls() {
    const { ws, call } = await connect("/timers");
    const echo = await connect("/echo");
    const order = [];
    await Promise.all([
      call("sleep", 0.1, "slow").then((word) => order.push(word)),
      call("sleep", 0, "fast").then((word) => order.push(word)),
    ]);
    const numbers = [...Array(200).keys()];
    const found = {
      pong: await call("ping"),
      echo: await echo.call("echo", { text: "é😀\0", list: [1, null, {}], big: "x".repeat(100000) }),
      overlapping: order,
      many: await Promise.all(numbers.map((i) => call("sleep", 0.001 * (i % 5), i))),
      error: await call("no_such").catch((error) => error.code),
    };
    ws.close();
    echo.ws.close();
    await once(ws, "close");
    return found;
  },

  async fragments() {
    const ws = await open("/frames/raw");
    ws.send("hello", { fin: false });
    ws.ping("between");
    ws.send(", ", { fin: false });
    ws.send("world", { fin: true });
    const [[pong], [text]] = await Promise.all([once(ws, "pong"), once(ws, "message")]);
    const half = Buffer.from("00ff01fe".repeat(500), "hex");
    ws.send(half, { fin: false });
    ws.send(half, { fin: true });
    const [binary, isBinary] = await once(ws, "message");
    ws.terminate();
    return { text: text.toString(), binary: isBinary ? binary.toString("hex") : "text", ponged: pong.toString() };
  },

  async pings() {
    const ws = await open("/echo");
    ws.ping("are you there?");
    const [pong] = await once(ws, "pong");
    ws.ping();
    const [empty] = await once(ws, "pong");
    ws.close();
    return { pong: pong.toString(), empty: empty.toString() };
  },

  async closing() {
    const found = {};
    let ws = await open("/diary?name=node");
    ws.close(4001, "bye");
    found["by us"] = await ending(ws);
    ws = await open("/diary?name=node-thrown");
    ws.send(JSON.stringify({ jsonrpc: "2.0", method: "bye", params: [4002, "good night"], id: 1 }));
    found["by the server"] = await ending(ws);
    ws = await open("/echo");
    ws.close();
    found["without a code"] = await ending(ws);
    ws = await open("/echo");
    ws.send(Buffer.from([1, 2, 3]));
    found["of bad data"] = await ending(ws, true);
    ws = await open("/echo/small");
    ws.send("x".repeat(301));
    found["too big"] = await ending(ws, true);
    return found;
  },

  async refusals() {
    const status = (path, options) => new Promise((resolve) => {
      const ws = new WebSocket(base + path, options);
      ws.on("unexpected-response", (_, response) => {
        resolve(response.statusCode);
        response.destroy();
      });
      ws.on("error", () => {});
      ws.on("open", () => resolve("accepted"));
    });
    return {
      "no path": await status("/nowhere"),
      refused: await status("/doors/shut"),
      "in its own words": await status("/doors/teapot"),
      "other origin": await status("/echo", { origin: "http://evil.example" }),
    };
  },

  async handshake() {
    const ws = await open("/echo/speaker", ["other", "jsonrpc.v1", "jsonrpc.v2"]);
    const found = { protocol: ws.protocol, extensions: ws.extensions };
    ws.close();
    return found;
  },

  // The session that begins on one connection goes on with the next that brings its cookie.
  async visits() {
    let lines;
    const open = async (options) => {
      const ws = new WebSocket(base + "/visits", options);
      ws.once("upgrade", (response) => { lines = response.headers["set-cookie"]; });
      return talk(ws);
    };
    const first = await open({});
    const [line] = lines;
    const headers = { Cookie: line.split(";")[0] };
    const n = [await first.call("push", "list", 1), await first.call("push", "list", 2)];
    first.ws.close();
    const second = await open({ headers });
    n.push(await second.call("push", "list", 3));
    second.ws.close();
    return { cookie: line.startsWith("perigee_session_"), n, again: Boolean(lines) };
  },
};

talks[name]().then(
  (found) => {
    process.stdout.write(JSON.stringify(found));
    process.exitCode = 0;
  },
  (error) => {
    console.error(error);
    process.exitCode = 1;
  },
);
