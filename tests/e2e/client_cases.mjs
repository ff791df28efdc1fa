// What test_client.py does with perigee.js in Node: node client_cases.mjs CLIENT NAME runs one case. The
// socket, the clock and the dice are the case's own, so that nothing takes time and all of it is known.
import assert from "node:assert/strict";
import { pathToFileURL } from "node:url";

const [clientPath, name] = process.argv.slice(2);
const { connect, RpcError } = await import(pathToFileURL(clientPath));

// ---- the world ------------------------------------------------------------------------------------

let now = 1_000_000;
let random = 1;
let lastTimer = 0;
const timers = new Map(); // id -> { due, fn }
Date.now = () => now;
Math.random = () => random;
globalThis.setTimeout = (fn, ms) => {
  timers.set(++lastTimer, { due: now + ms, fn });
  return lastTimer;
};
globalThis.clearTimeout = (id) => timers.delete(id);

/** Lets promises settle. */
const settle = () => new Promise((resolve) => setImmediate(resolve));

/** Lets time pass. */
async function pass(ms) {
  const end = now + ms;
  for (;;) {
    await settle();
    const [next] = [...timers].filter(([, timer]) => timer.due <= end).sort(([, a], [, b]) => a.due - b.due);
    if (!next) break;
    timers.delete(next[0]);
    now = next[1].due;
    next[1].fn();
  }
  now = end;
  await settle();
}

const complaints = [];
console.error = console.warn = (...words) => complaints.push(words.join(" "));

const sockets = [];
class Socket {
  readyState = 0;
  sent = [];
  constructor(url, protocols) {
    Object.assign(this, { url, protocols });
    sockets.push(this);
  }
  open() {
    this.readyState = 1;
    this.onopen({});
  }
  send(text) {
    assert.equal(this.readyState, 1, "sent on a socket that is not open");
    this.sent.push(JSON.parse(text));
  }
  say(message) {
    this.onmessage({ data: typeof message === "string" ? message : JSON.stringify(message) });
  }
  lose(code = 1006, reason = "") {
    this.readyState = 3;
    this.onclose({ code, reason });
  }
  close(code, reason) {
    this.readyState = 2;
    this.closedWith = [code, reason];
  }
}
const latest = () => sockets.at(-1);

function start(options) {
  const connection = connect("ws://server/chat", { WebSocket: Socket, ...options });
  connection.states = [connection.state];
  connection.addEventListener("state", () => connection.states.push(connection.state));
  return connection;
}

function open(options) {
  const connection = start(options);
  latest().open();
  return connection;
}

/** What became of a promise: { value } or { error }, or undefined while it is pending. */
function watch(promise) {
  const outcome = { now: undefined };
  promise.then((value) => (outcome.now = { value }), (error) => (outcome.now = { error }));
  return outcome;
}

async function codeOf(outcome) {
  await settle();
  assert.ok(outcome.now?.error instanceof RpcError, `no RpcError: ${JSON.stringify(outcome.now)}`);
  return outcome.now.error.code;
}

// ---- the cases ------------------------------------------------------------------------------------

const cases = {
  async calls_and_answers() {
    const c = open();
    const sum = watch(c.call("add", [1, 2]));
    const named = watch(c.call("greet", { name: "Ann" }));
    const bare = watch(c.call("ping"));
    assert.deepEqual(latest().sent, [
      { jsonrpc: "2.0", id: 1, method: "add", params: [1, 2] },
      { jsonrpc: "2.0", id: 2, method: "greet", params: { name: "Ann" } },
      { jsonrpc: "2.0", id: 3, method: "ping" },
    ]);
    latest().say({ jsonrpc: "2.0", id: 3, result: null });
    latest().say({ jsonrpc: "2.0", id: 1, result: 3 });
    latest().say({ jsonrpc: "2.0", id: 2, error: { code: 7, message: "No", data: { why: "so" } } });
    await settle();
    assert.deepEqual([sum.now, bare.now], [{ value: 3 }, { value: null }]);
    const { error } = named.now;
    assert.ok(error instanceof RpcError && error instanceof Error);
    assert.deepEqual([error.name, error.code, error.message, error.data], ["RpcError", 7, "No", { why: "so" }]);
    assert.equal(timers.size, 0, "no timer stays behind");
  },

  async notifications() {
    const c = open();
    const heard = [];
    const first = (params) => heard.push(["first", params]);
    const second = (params) => heard.push(["second", params]);
    assert.equal(c.on("news", first).on("news", () => { throw new Error("clumsy"); }).on("news", second), c);
    latest().say({ jsonrpc: "2.0", method: "news", params: { n: 1 } });
    assert.deepEqual(heard, [["first", { n: 1 }], ["second", { n: 1 }]]);
    assert.match(complaints[0], /clumsy/);
    c.off("news", first);
    latest().say({ jsonrpc: "2.0", method: "news", params: [2], id: null }); // as JSON-RPC 1.0 says it
    assert.deepEqual(heard.slice(2), [["second", [2]]]);
    c.off("news").off("news").off("no such", first);
    latest().say({ jsonrpc: "2.0", method: "news", params: [3] });
    latest().say({ jsonrpc: "2.0", method: "__proto__", params: [3] });
    assert.equal(heard.length, 3);
    assert.equal(c.notify("typing", { room: "lobby" }), true);
    assert.deepEqual(latest().sent, [{ jsonrpc: "2.0", method: "typing", params: { room: "lobby" } }]);
    assert.throws(() => c.on("news", "fn"), TypeError);
  },

  async calls_from_the_server() {
    const c = open();
    c.handle("name", ({ of }) => `Ann of ${of}`)
      .handle("nothing", async () => {})
      .handle("refuse", () => { throw new RpcError(5, "I will not", { ever: true }); })
      .handle("stumble", async () => { throw new Error("oops"); })
      .handle("odd", () => { throw null; })
      .handle("loop", () => { const a = []; a.push(a); return a; })
      .handle("gone", () => 1).handle("gone", null);
    const asked = ["name", "nothing", "refuse", "stumble", "odd", "loop", "gone", "toString"];
    asked.forEach((method, i) => latest().say({ jsonrpc: "2.0", id: `p-${i}`, method, params: { of: "Oz" } }));
    await settle();
    const answers = Object.fromEntries(latest().sent.map(({ id, ...rest }) => [asked[id.slice(2)], rest]));
    assert.deepEqual(answers.name, { jsonrpc: "2.0", result: "Ann of Oz" });
    assert.deepEqual(answers.nothing, { jsonrpc: "2.0", result: null });
    assert.deepEqual(answers.refuse.error, { code: 5, message: "I will not", data: { ever: true } });
    assert.deepEqual(answers.stumble.error, { code: -32603, message: "oops" });
    assert.deepEqual(answers.odd.error, { code: -32603, message: "null" });
    assert.equal(answers.loop.error.code, -32603);
    assert.deepEqual(answers.gone.error, { code: -32601, message: "Method not found", data: { method: "gone" } });
    assert.equal(answers.toString.error.code, -32601);
    assert.throws(() => c.handle("name", 1), TypeError);
  },

  async an_answer_belongs_to_who_asked() {
    const c = open();
    let answer;
    c.handle("ask", () => new Promise((resolve) => { answer = resolve; }));
    latest().say({ jsonrpc: "2.0", id: "p-1", method: "ask" });
    await settle();
    latest().lose();
    await pass(1_000);
    latest().open();
    answer("late");
    await settle();
    assert.equal(sockets.length, 2);
    assert.deepEqual(sockets.map((s) => s.sent), [[], []]);
  },

  async what_is_no_message_is_ignored() {
    const c = open();
    const call = watch(c.call("ping"));
    for (const text of ["", "hello", "1", "null", "[]", '"x"', "{}", '{"id":99,"result":1}', '{"id":null,"error":{"code":1}}']) {
      latest().say(text);
    }
    latest().onmessage({ data: new ArrayBuffer(4) });
    await settle();
    assert.equal(call.now, undefined);
    assert.equal(complaints.length, 6);
    latest().say({ id: 1, result: "pong" });
    await settle();
    assert.deepEqual(call.now, { value: "pong" });
  },

  async states() {
    const c = start();
    assert.deepEqual([c.state, c.retryAt, c.lastClose], ["connecting", 0, null]);
    latest().open();
    latest().lose(1001, "restart");
    assert.deepEqual([c.state, c.retryAt, c.lastClose], ["waiting", now + 1_000, { code: 1001, reason: "restart" }]);
    await pass(1_000);
    assert.deepEqual([c.state, c.retryAt], ["connecting", 0]);
    latest().lose();
    await pass(2_000);
    latest().open();
    c.close();
    assert.deepEqual(c.states, ["connecting", "open", "waiting", "connecting", "waiting", "connecting", "open", "closed"]);
    assert.equal(timers.size, 0);
  },

  async waits_double_up_to_a_cap() {
    const c = start();
    const waits = [];
    for (let i = 0; i < 8; i++) {
      latest().lose();
      waits.push(c.retryAt - now);
      await pass(c.retryAt - now);
    }
    assert.deepEqual(waits, [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
    assert.equal(sockets.length, 9);
  },

  async waits_are_spread_from_nothing_to_the_most() {
    const c = start({ firstWait: 100, longestWait: 350 });
    const waits = [];
    for (const dice of [0, 0.25, 0.5, 0.75, 0.999]) {
      random = dice;
      latest().lose();
      waits.push(Math.round(c.retryAt - now));
      await pass(c.retryAt - now);
    }
    assert.deepEqual(waits, [0, 50, 175, 263, 350]);
  },

  async a_steady_connection_starts_afresh() {
    const c = start();
    for (const wait of [1_000, 2_000, 4_000]) {
      latest().lose();
      assert.equal(c.retryAt - now, wait);
      await pass(wait);
    }
    latest().open();
    await pass(4_999); // not long enough: a server that drops everybody at once is no success
    latest().lose();
    assert.equal(c.retryAt - now, 8_000);
    await pass(8_000);
    latest().open();
    await pass(5_000);
    latest().lose();
    assert.equal(c.retryAt - now, 1_000);
  },

  async calls_in_flight_are_lost_and_not_sent_again() {
    const c = open();
    const outcomes = [watch(c.call("pay", [10])), watch(c.call("say", ["hi"], { timeout: 0 }))];
    latest().lose();
    assert.deepEqual([await codeOf(outcomes[0]), await codeOf(outcomes[1])], ["lost", "lost"]);
    assert.match(outcomes[0].now.error.message, /^pay: /);
    await pass(1_000);
    latest().open();
    await pass(60_000);
    assert.deepEqual(latest().sent, []);
  },

  async calls_wait_for_a_connection_being_made() {
    const c = start();
    const early = watch(c.call("say", ["early"]));
    c.addEventListener("open", () => c.call("join").catch(() => {}));
    assert.equal(c.notify("typing"), false);
    latest().open();
    // who listens for "open" speaks first
    assert.deepEqual(latest().sent.map((m) => m.method), ["join", "say"]);
    latest().say({ id: 1, result: "heard" });
    await settle();
    assert.deepEqual(early.now, { value: "heard" });
  },

  async calls_that_were_never_sent_are_offline() {
    const c = start();
    const early = watch(c.call("say"));
    latest().lose();
    assert.equal(await codeOf(early), "offline");
    assert.equal(c.state, "waiting");
    assert.equal(await codeOf(watch(c.call("say"))), "offline"); // at once: it may take long
    assert.equal(c.notify("say"), false);
    await pass(1_000);
    latest().open();
    latest().readyState = 2; // the browser knows already, its event is on the way
    assert.equal(await codeOf(watch(c.call("say"))), "offline");
    assert.equal(c.notify("say"), false);
    assert.deepEqual(latest().sent, []);
    assert.equal(timers.size, 0);
  },

  async not_too_many_calls_wait() {
    const c = start();
    const outcomes = Array.from({ length: 1_001 }, () => watch(c.call("say")));
    assert.equal(await codeOf(outcomes[1_000]), "offline");
    assert.match(outcomes[1_000].now.error.message, /too many/);
    latest().open();
    assert.equal(latest().sent.length, 1_000);
  },

  async timeouts() {
    const c = open({ timeout: 10_000 });
    const outcomes = [c.call("a"), c.call("b", null, { timeout: 50 }), c.call("c", [], { timeout: 0 }),
      c.call("d", [], { timeout: Infinity })].map(watch);
    await pass(50);
    assert.equal(await codeOf(outcomes[1]), "timeout");
    assert.equal(outcomes[1].now.error.message, "b: no answer within 0.05 s");
    assert.deepEqual(latest().sent.at(-1), { jsonrpc: "2.0", method: "$/cancelRequest", params: { id: 2 } });
    assert.equal(outcomes[0].now, undefined);
    await pass(10_000);
    assert.equal(await codeOf(outcomes[0]), "timeout");
    await pass(1e9);
    assert.deepEqual([outcomes[2].now, outcomes[3].now], [undefined, undefined]);
    latest().say({ id: 2, result: "too late" });
    await settle();
    assert.equal(c.state, "open");
  },

  async a_call_that_waits_for_a_connection_times_out() {
    const c = start({ connectTimeout: 60_000 });
    const outcome = watch(c.call("a", [], { timeout: 100 }));
    await pass(100);
    assert.equal(await codeOf(outcome), "timeout");
    latest().open();
    assert.deepEqual(latest().sent, []); // neither the call nor its cancellation
  },

  async aborting() {
    const c = open();
    const controller = new AbortController();
    const { signal } = controller;
    const outcome = watch(c.call("search", ["x"], { signal }));
    const other = watch(c.call("other", [], { signal: new AbortController().signal }));
    controller.abort();
    await settle();
    assert.equal(outcome.now.error.name, "AbortError");
    assert.deepEqual(latest().sent.at(-1), { jsonrpc: "2.0", method: "$/cancelRequest", params: { id: 1 } });
    const sent = latest().sent.length;
    const late = watch(c.call("search", [], { signal }));
    await settle();
    assert.equal(late.now.error.name, "AbortError");
    assert.equal(latest().sent.length, sent);
    assert.equal(other.now, undefined);
    const answered = watch(c.call("quick", [], { signal: new AbortController().signal }));
    latest().say({ id: latest().sent.at(-1).id, result: 1 });
    await settle();
    assert.deepEqual(answered.now, { value: 1 });
  },

  async aborting_before_it_was_sent() {
    const c = start();
    const controller = new AbortController();
    const outcome = watch(c.call("search", [], { signal: controller.signal }));
    controller.abort(new Error("changed my mind"));
    latest().open();
    await settle();
    assert.equal(outcome.now.error.message, "changed my mind");
    assert.deepEqual(latest().sent, []);
  },

  async what_has_no_form_in_json() {
    const c = open();
    const loop = [];
    loop.push(loop);
    for (const params of [loop, { n: 1n }]) {
      const outcome = watch(c.call("say", params));
      await settle();
      assert.ok(outcome.now.error instanceof TypeError);
    }
    assert.throws(() => c.notify("say", loop), TypeError);
    assert.equal(timers.size, 0);
  },

  async closing() {
    const c = open();
    const outcome = watch(c.call("say"));
    assert.equal(c.close(3001, "bye"), undefined);
    assert.deepEqual(latest().closedWith, [3001, "bye"]);
    assert.equal(await codeOf(outcome), "lost");
    assert.deepEqual([c.state, c.lastClose], ["closed", { code: 3001, reason: "bye" }]);
    latest().onclose({ code: 3001, reason: "bye" }); // the socket's own end changes nothing any more
    latest().say({ method: "news" });
    c.retry();
    c.close();
    await pass(100_000);
    assert.equal(sockets.length, 1);
    assert.deepEqual(c.states, ["connecting", "open", "closed"]);
    assert.equal(await codeOf(watch(c.call("say"))), "offline");
  },

  async closing_while_it_waits() {
    const c = start();
    latest().lose();
    c.close();
    await pass(100_000);
    assert.deepEqual([sockets.length, c.state, timers.size], [1, "closed", 0]);
  },

  async some_ends_are_final() {
    const c = start({ reconnect: (code) => code !== 4001 });
    latest().lose(1006);
    assert.equal(c.state, "waiting");
    await pass(1_000);
    latest().open();
    latest().lose(4001, "you are banned");
    assert.deepEqual([c.state, c.lastClose], ["closed", { code: 4001, reason: "you are banned" }]);
    const never = start({ reconnect: false });
    latest().lose();
    await pass(100_000);
    assert.deepEqual([never.state, sockets.length], ["closed", 3]);
  },

  async connecting_may_not_take_forever() {
    const c = start();
    const first = latest();
    await pass(10_000);
    assert.deepEqual([c.state, c.lastClose.code, first.closedWith], ["waiting", 1006, [undefined, undefined]]);
    await pass(1_000);
    first.onclose({ code: 1006, reason: "" }); // of the one that was given up
    assert.equal(c.state, "connecting");
    latest().open();
    first.onopen({});
    assert.equal(c.state, "open");
  },

  async retrying_now() {
    const c = open();
    c.retry();
    assert.equal(sockets.length, 1);
    latest().lose();
    c.retry();
    assert.deepEqual([sockets.length, c.state], [2, "connecting"]);
    await pass(9_999); // the timer of the wait is gone
    assert.equal(sockets.length, 2);
  },

  async the_page_comes_back() {
    const page = new EventTarget();
    page.hidden = true;
    globalThis.document = page;
    const world = new EventTarget();
    globalThis.addEventListener = world.addEventListener.bind(world);
    const c = start();
    latest().lose();
    page.dispatchEvent(new Event("visibilitychange"));
    assert.equal(c.state, "waiting"); // still hidden
    page.hidden = false;
    page.dispatchEvent(new Event("visibilitychange"));
    assert.equal(c.state, "connecting");
    latest().lose();
    world.dispatchEvent(new Event("online"));
    assert.equal(c.state, "connecting");
    c.close();
    world.dispatchEvent(new Event("online"));
    assert.equal(sockets.length, 3);
  },

  async addresses() {
    const url = (text, options) => {
      connect(text, { WebSocket: Socket, ...options }).close();
      return latest().url;
    };
    assert.equal(url("http://a.b/chat?x=1#part"), "ws://a.b/chat?x=1");
    assert.equal(url("https://a.b:444/chat"), "wss://a.b:444/chat");
    assert.equal(url(new URL("wss://a.b/")), "wss://a.b/");
    assert.throws(() => url("/chat"), /outside of a page it begins with ws/);
    assert.throws(() => url("ftp://a.b/"), /no address of a WebSocket/);
    globalThis.location = new URL("https://page.example/room/1");
    assert.equal(url("/chat"), "wss://page.example/chat");
    url("/chat", { protocols: ["a", "b"] });
    assert.deepEqual(latest().protocols, ["a", "b"]);
    delete globalThis.WebSocket;
    assert.throws(() => connect("/chat"), /there is no WebSocket here/);
  },
};

if (name) await cases[name]();
else console.log(Object.keys(cases).join("\n"));
