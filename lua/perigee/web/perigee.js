// @ts-self-types="./perigee.d.ts"
// Perigee's client: JSON-RPC 2.0 on one WebSocket that comes back by itself when it is lost. Every
// server has it at /-/perigee.js. It needs nothing else, in a browser or in Node.js.
//
//   import { connect } from "/-/perigee.js";
//
//   const chat = connect("/chat");
//   chat.addEventListener("open", () => chat.call("join", { room: "lobby" })); // each time it connects
//   chat.addEventListener("state", () => show(chat.state)); // connecting, open, waiting or closed
//   chat.on("message", ({ from, text }) => …);              // the server says something
//   chat.handle("confirm", ({ question }) => ask(question)); // the server asks something
//   const answer = await chat.call("say", { text: "hello" }); // throws an RpcError
//   chat.notify("typing");                                  // expects no answer
//
// A call is sent once. What is in flight when the connection is lost fails at once with the code
// "lost": it may or may not have been carried out, and whether to try again is the caller's decision.
// What could not even be sent fails with "offline". All times are milliseconds.

const CALL_TIMEOUT = 30_000;
const CONNECT_TIMEOUT = 10_000;
const FIRST_WAIT = 1_000; // before the first new attempt at most; doubled with each that fails …
const LONGEST_WAIT = 30_000; // … up to this
const STEADY = 5_000; // a connection that lasted this long was a success
const MOST_UNSENT = 1_000; // calls that wait for a connection being made

const OPEN = 1; // WebSocket.OPEN
const METHOD_NOT_FOUND = -32601;
const INTERNAL_ERROR = -32603;

export class RpcError extends Error {
  /** code: the server's number; or "offline", "lost" or "timeout" when there was no answer. */
  constructor(code, message, data) {
    super(message);
    this.name = "RpcError";
    this.code = code;
    this.data = data;
  }
}

/** Connects to a consumer. url: "/chat", or a whole address with ws:, wss:, http: or https:. */
export function connect(url, options) {
  return new Connection(url, options);
}

export class Connection extends EventTarget {
  #url;
  #options;
  #WebSocket;
  #socket = null;
  #state = "connecting";
  #retryAt = 0;
  #closed = null; // { code, reason } of the last connection that ended
  #listeners = new Map(); // method -> Set of functions
  #handlers = new Map(); // method -> function
  #calls = new Map(); // id -> { method, text, isSent, settle }, in the order they were made
  #lastId = 0;
  #failures = 0; // attempts in a row that led to no steady connection
  #retryTimer;
  #leave = new AbortController(); // takes our listeners off the page

  constructor(url, options = {}) {
    super();
    this.#url = address(url);
    this.#options = options;
    this.#WebSocket = options.WebSocket ?? globalThis.WebSocket;
    if (!this.#WebSocket) {
      throw new TypeError('connect: there is no WebSocket here; give one, as in { WebSocket } from "ws"');
    }
    const page = globalThis.document;
    const { signal } = this.#leave;
    globalThis.addEventListener?.("online", () => this.retry(), { signal });
    page?.addEventListener("visibilitychange", () => page.hidden || this.retry(), { signal });
    this.#connect();
  }

  /** "connecting", "open", "waiting" (for the next attempt, at retryAt) or "closed" (for good). */
  get state() {
    return this.#state;
  }

  /** When the next attempt to connect comes, as Date.now() counts; 0 unless it is waiting. */
  get retryAt() {
    return this.#retryAt;
  }

  /** How the last connection ended: { code, reason }, or null. */
  get lastClose() {
    return this.#closed;
  }

  /**
   * Calls a method; params is an object (by name) or an array (by position). While a connection is
   * being made the call waits for it.
   */
  call(method, params, { timeout = this.#options.timeout ?? CALL_TIMEOUT, signal } = {}) {
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      const id = ++this.#lastId;
      const text = JSON.stringify({ jsonrpc: "2.0", id, method, params });
      const isOpen = this.#isOpen();
      if (!isOpen && this.#state !== "connecting") {
        throw new RpcError("offline", `${method}: there is no connection to the server`);
      }
      if (!isOpen && this.#calls.size >= MOST_UNSENT) {
        throw new RpcError("offline", `${method}: too many calls wait for a connection`);
      }
      const give = (error) => {
        const { isSent } = call;
        call.settle(error);
        // the server need not go on with what nobody waits for
        if (isSent) this.notify("$/cancelRequest", { id });
      };
      const abort = () => give(signal.reason);
      const timer = timeout > 0 && timeout < 2 ** 31
        ? setTimeout(() => give(new RpcError("timeout", `${method}: no answer within ${timeout / 1000} s`)), timeout)
        : 0;
      const call = {
        method,
        text,
        isSent: false,
        settle: (error, result) => {
          this.#calls.delete(id);
          clearTimeout(timer);
          signal?.removeEventListener("abort", abort);
          if (error) reject(error);
          else resolve(result);
        },
      };
      signal?.addEventListener("abort", abort);
      this.#calls.set(id, call);
      if (isOpen) this.#sendCall(call);
    });
  }

  /** Sends a notification. False when there is no connection: it is not kept. */
  notify(method, params) {
    return this.#send({ jsonrpc: "2.0", method, params });
  }

  /** fn(params) for each notification of that method from now on. */
  on(method, fn) {
    if (typeof fn !== "function") throw new TypeError(`on("${method}"): a function is needed`);
    if (!this.#listeners.has(method)) this.#listeners.set(method, new Set());
    this.#listeners.get(method).add(fn);
    return this;
  }

  /** No longer; without fn: none of that method. */
  off(method, fn) {
    const set = this.#listeners.get(method);
    if (fn) set?.delete(fn);
    if (!fn || set?.size === 0) this.#listeners.delete(method);
    return this;
  }

  /**
   * Answers the server's calls of that method with what fn(params) returns, or with the error it
   * throws. One function per method; null takes it away.
   */
  handle(method, fn) {
    if (fn === null) this.#handlers.delete(method);
    else if (typeof fn === "function") this.#handlers.set(method, fn);
    else throw new TypeError(`handle("${method}"): a function or null is needed`);
    return this;
  }

  /** When waiting: tries to connect now. */
  retry() {
    if (this.#state === "waiting") this.#connect();
  }

  /** Ends the connection for good. */
  close(code = 1000, reason = "") {
    const socket = this.#socket;
    socket?.close(code, reason); // first: it throws when code or reason cannot be sent
    if (this.#state === "closed") return;
    this.#socket = null;
    this.#end({ code, reason });
  }

  // ---- the connection ---------------------------------------------------------------------------

  #connect() {
    clearTimeout(this.#retryTimer);
    const socket = new this.#WebSocket(this.#url, this.#options.protocols ?? []);
    this.#socket = socket;
    this.#retryAt = 0;
    this.#setState("connecting");
    let openedAt = 0;
    const lost = (code, reason) => {
      clearTimeout(giveUp);
      if (this.#socket !== socket) return;
      this.#socket = null;
      this.#lost(code, reason, openedAt > 0 && Date.now() - openedAt >= STEADY);
    };
    const giveUp = setTimeout(() => {
      lost(1006, "connecting took too long");
      socket.close();
    }, this.#options.connectTimeout ?? CONNECT_TIMEOUT);
    socket.onopen = () => {
      clearTimeout(giveUp);
      if (this.#socket !== socket) return;
      openedAt = Date.now();
      this.#setState("open");
      // who listens speaks first: joining a room must come before what is said in it
      this.dispatchEvent(new Event("open"));
      for (const call of this.#calls.values()) if (!call.isSent) this.#sendCall(call);
    };
    socket.onmessage = ({ data }) => {
      if (this.#socket === socket) this.#receive(data, socket);
    };
    socket.onerror = () => {}; // a close event follows, which tells as much
    socket.onclose = ({ code, reason }) => lost(code, reason);
  }

  #lost(code, reason, wasSteady) {
    const { reconnect = true, firstWait = FIRST_WAIT, longestWait = LONGEST_WAIT } = this.#options;
    const isWanted = typeof reconnect === "function" ? reconnect(code, reason) : reconnect;
    if (!isWanted) {
      this.#end({ code, reason });
      return;
    }
    this.#closed = { code, reason };
    // Full jitter: when a server restarts, its clients must not all come back at the same moment.
    this.#failures = wasSteady ? 0 : this.#failures + 1;
    const wait = Math.random() * Math.min(longestWait, firstWait * 2 ** Math.max(0, this.#failures - 1));
    this.#retryAt = Date.now() + wait;
    this.#retryTimer = setTimeout(() => this.#connect(), wait);
    this.#rejectAll("The connection was lost");
    this.#setState("waiting");
  }

  #end(how) {
    clearTimeout(this.#retryTimer);
    this.#leave.abort();
    this.#closed = how;
    this.#retryAt = 0;
    this.#rejectAll("The connection was closed");
    this.#setState("closed");
  }

  #setState(state) {
    if (state === this.#state) return;
    this.#state = state;
    this.dispatchEvent(new Event("state"));
  }

  #rejectAll(why) {
    for (const { method, isSent, settle } of [...this.#calls.values()]) {
      settle(isSent
        ? new RpcError("lost", `${method}: ${why.toLowerCase()} before the answer came`)
        : new RpcError("offline", `${method}: ${why.toLowerCase()} before the call was sent`));
    }
  }

  // ---- messages ---------------------------------------------------------------------------------

  #isOpen() {
    return this.#state === "open" && this.#socket.readyState === OPEN;
  }

  #send(message) {
    if (!this.#isOpen()) return false;
    this.#socket.send(JSON.stringify(message));
    return true;
  }

  #sendCall(call) {
    call.isSent = true;
    this.#socket.send(call.text);
  }

  #receive(data, socket) {
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      // not JSON: not for us
    }
    if (typeof message !== "object" || message === null) {
      console.warn(`perigee: ${this.#url} sent what is no JSON-RPC message`);
    } else if (typeof message.method === "string") {
      const { id, method, params } = message;
      if (id === undefined || id === null) this.#hear(method, params);
      else this.#answer(id, method, params, socket);
    } else {
      const call = this.#calls.get(message.id); // none: the answer came too late
      const { error } = message;
      if (error) call?.settle(new RpcError(error.code, error.message, error.data));
      else call?.settle(null, message.result);
    }
  }

  #hear(method, params) {
    for (const fn of [...(this.#listeners.get(method) ?? [])]) {
      try {
        fn(params);
      } catch (error) { // the others shall hear it all the same
        console.error(error);
      }
    }
  }

  async #answer(id, method, params, socket) {
    let answer;
    try {
      const handler = this.#handlers.get(method);
      if (!handler) throw new RpcError(METHOD_NOT_FOUND, "Method not found", { method });
      answer = JSON.stringify({ jsonrpc: "2.0", id, result: (await handler(params)) ?? null });
    } catch (error) {
      const isOurs = error instanceof RpcError && Number.isInteger(error.code);
      if (!isOurs) console.error(error);
      const { code, data } = isOurs ? error : { code: INTERNAL_ERROR };
      answer = JSON.stringify({ jsonrpc: "2.0", id, error: { code, message: String(error?.message ?? error), data } });
    }
    // an answer belongs to the connection that asked
    if (this.#socket === socket && this.#isOpen()) socket.send(answer);
  }
}

function address(url) {
  let found;
  try {
    found = new URL(url, globalThis.location?.href);
  } catch {
    throw new TypeError(`connect: "${url}" is not an address; outside of a page it begins with ws:// or wss://`);
  }
  found.protocol = { "http:": "ws:", "https:": "wss:" }[found.protocol] ?? found.protocol;
  if (!/^wss?:$/.test(found.protocol)) throw new TypeError(`connect: "${url}" is no address of a WebSocket`);
  found.hash = "";
  return found.href;
}
