// A JSON-RPC 2.0 client on one WebSocket that comes back by itself when the connection is lost.
// It needs nothing but a browser: copy this file and use it.
//
//   const rpc = new Rpc("/chat");
//   rpc.onopen = () => rpc.call("join", { room: "lobby" });   // now, and after each reconnect
//   rpc.onstate = (state) => …                                // see below
//   rpc.on("message", ({ from, text }) => …);                 // the server says something
//   const answer = await rpc.call("say", { text: "hello" });  // or throws an RpcError
//   rpc.notify("typing");                                     // expects no answer
//
// state is "connecting", "open", "waiting" (for the next try, at the time rpc.retryAt) or "closed"
// (by rpc.close()). Calls are never sent twice: those in flight when the connection is lost are
// rejected, and whether to try again is up to you.

const CALL_TIMEOUT = 30_000; // milliseconds, as everything here
const CONNECT_TIMEOUT = 10_000;
const FIRST_WAIT = 500; // doubled after each failed try …
const LONGEST_WAIT = 20_000; // … up to this
const STEADY = 5_000; // a connection that lasted this long was a success

export class RpcError extends Error {
  /** code: the server's number, or "lost", "timeout" or "offline" when no answer came. */
  constructor(code, message, data) {
    super(message);
    this.name = "RpcError";
    this.code = code;
    this.data = data;
  }
}

export class Rpc {
  state = "connecting";
  retryAt = 0;
  onopen = () => {};
  onstate = () => {};

  #url;
  #socket = null;
  #handlers = new Map(); // method -> function(params)
  #calls = new Map(); // id -> { resolve, reject, timer }
  #lastId = 0;
  #failures = 0;
  #retryTimer = 0;

  constructor(path) {
    this.#url = new URL(path, location.href);
    this.#url.protocol = this.#url.protocol.replace("http", "ws");
    addEventListener("online", () => this.retry());
    document.addEventListener("visibilitychange", () => document.hidden || this.retry());
    queueMicrotask(() => this.#connect()); // when the caller has set its handlers
  }

  /** Sets what is done when the server sends this notification, or calls this method. */
  on(method, handler) {
    this.#handlers.set(method, handler);
    return this;
  }

  /** Calls a method. params: an object (by name) or an array (by position). */
  call(method, params) {
    return new Promise((resolve, reject) => {
      const id = ++this.#lastId;
      if (!this.#send({ jsonrpc: "2.0", id, method, params })) {
        reject(new RpcError("offline", "There is no connection to the server"));
        return;
      }
      const timer = setTimeout(() => {
        this.#calls.delete(id);
        reject(new RpcError("timeout", "The server did not answer in time"));
      }, CALL_TIMEOUT);
      this.#calls.set(id, { resolve, reject, timer });
    });
  }

  /** Sends a notification. Returns false when there is no connection. */
  notify(method, params) {
    return this.#send({ jsonrpc: "2.0", method, params });
  }

  /** Tries to connect now rather than later. */
  retry() {
    if (this.state === "waiting") this.#connect();
  }

  /** Ends the connection for good. */
  close() {
    clearTimeout(this.#retryTimer);
    this.#setState("closed");
    this.#socket?.close(1000);
    this.#rejectAll();
  }

  #connect() {
    clearTimeout(this.#retryTimer);
    if (this.state === "closed") return;
    this.#setState("connecting");
    const socket = new WebSocket(this.#url);
    const giveUp = setTimeout(() => socket.close(), CONNECT_TIMEOUT);
    let openedAt = Infinity;
    this.#socket = socket;
    socket.onopen = () => {
      clearTimeout(giveUp);
      openedAt = Date.now();
      this.#setState("open");
      this.onopen();
    };
    socket.onmessage = (event) => this.#receive(JSON.parse(event.data));
    socket.onclose = () => {
      clearTimeout(giveUp);
      this.#rejectAll();
      if (this.state === "closed") return;
      this.#failures = Date.now() - openedAt > STEADY ? 0 : this.#failures + 1;
      // Jitter: when a server restarts, its clients must not all come back at the same moment.
      const wait = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** this.#failures) * (0.5 + Math.random() / 2);
      this.retryAt = Date.now() + wait;
      this.#retryTimer = setTimeout(() => this.#connect(), wait);
      this.#setState("waiting");
    };
  }

  #receive(message) {
    if (message.method !== undefined) {
      this.#answer(message);
      return;
    }
    const call = this.#calls.get(message.id);
    if (!call) return; // it came too late
    this.#calls.delete(message.id);
    clearTimeout(call.timer);
    const { error } = message;
    if (error) call.reject(new RpcError(error.code, error.message, error.data));
    else call.resolve(message.result);
  }

  async #answer({ id, method, params }) {
    const handler = this.#handlers.get(method);
    if (id === undefined) {
      handler?.(params);
      return;
    }
    try {
      if (!handler) throw new RpcError(-32601, "Method not found");
      this.#send({ jsonrpc: "2.0", id, result: (await handler(params)) ?? null });
    } catch ({ code, message, data }) {
      this.#send({ jsonrpc: "2.0", id, error: { code: Number.isInteger(code) ? code : -32603, message, data } });
    }
  }

  #send(message) {
    if (this.state !== "open") return false;
    this.#socket.send(JSON.stringify(message));
    return true;
  }

  #rejectAll() {
    for (const { reject, timer } of this.#calls.values()) {
      clearTimeout(timer);
      reject(new RpcError("lost", "The connection was lost before the server answered"));
    }
    this.#calls.clear();
  }

  #setState(state) {
    if (state === this.state && state !== "connecting") return;
    this.state = state;
    this.onstate(state);
  }
}
