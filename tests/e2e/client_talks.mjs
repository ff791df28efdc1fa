// perigee.js with Node's "ws" against a server: node client_talks.mjs CLIENT URL NAME prints JSON.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const WebSocket = createRequire(import.meta.url)("/usr/share/nodejs/ws");
const [clientPath, base, name] = process.argv.slice(2);
const { connect, RpcError } = await import(pathToFileURL(clientPath));
const start = (path, options) => connect(base + path, { WebSocket, firstWait: 50, longestWait: 200, ...options });
const opened = (c) => new Promise((resolve) => c.addEventListener("open", resolve, { once: true }));
const codeOf = (promise) => promise.then(() => "answered", (error) => error.code);

const talks = {
  async calls() {
    const [timers, echo] = [start("/timers"), start("/echo")];
    const found = {
      early: await timers.call("ping"), // before the connection was there
      echo: await echo.call("echo", [{ text: "é😀\0", list: [1, null, {}] }]),
      overlapping: await Promise.all([timers.call("sleep", [0.1, "slow"]), timers.call("sleep", { seconds: 0, value: "fast" })]),
      error: await timers.call("no_such").catch((error) => [error instanceof RpcError, error.code, error.data]),
      timeout: await codeOf(timers.call("sleep", [30], { timeout: 20 })),
      aborted: await timers.call("sleep", [30], { signal: AbortSignal.timeout(20) }).catch((error) => error.name),
      after: await timers.call("ping"),
    };
    timers.close();
    echo.close(3000, "done");
    return found;
  },

  async calls_from_the_server() {
    const c = start("/caller");
    c.handle("add", ([a, b]) => a + b).handle("fail", () => { throw new RpcError(9, "I will not", { why: "so" }); });
    const found = {
      add: await c.call("ask", { method: "add", params: [1, 2] }),
      fail: await c.call("ask", { method: "fail" }),
      unknown: (await c.call("ask", { method: "nothing" })).code,
    };
    c.close();
    return found;
  },

  async notifications() {
    const c = start("/timers");
    const word = new Promise((resolve) => c.on("spawned", ([heard]) => resolve(heard)));
    await c.call("spawn", ["hello"]);
    const found = { heard: await word };
    c.close();
    return found;
  },

  // Says what it does; the test ends the server and starts another one in between.
  async a_new_server() {
    const c = start("/gate", { timeout: 0 });
    const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
    const say = async (word) => {
      console.log(word);
      await lines.next();
    };
    await opened(c);
    const inFlight = codeOf(c.call("wait", ["here"]));
    await c.call("ping");
    await say("waiting");
    const found = { inFlight: await inFlight, state: c.state !== "open", now: await codeOf(c.call("ping")) };
    await say("lost");
    if (c.state !== "open") await opened(c);
    found.again = await c.call("ping");
    found.notSentAgain = await c.call("waiting", ["here"]);
    c.close();
    lines.return();
    return found;
  },

  async a_refusal() {
    const c = start("/doors/shut", { reconnect: false });
    const code = await codeOf(c.call("ping"));
    return { code, state: c.state };
  },
};

console.log(JSON.stringify(await talks[name]()));
process.stdin.destroy();
