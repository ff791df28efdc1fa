// Calling a method by hand: a form made of its parameters, over a real connection to its consumer, with
// everything that goes over the wire.

import { connect } from "/-/perigee.js";
import { $, button, code, make, said, took } from "./elements.js";

const MOST = 100; // messages shown
const MOST_TEXT = 20_000; // characters of one

let connection = null; // to the consumer of the method shown
let connectedTo = ""; // its address
let log;

// ---- the wire -------------------------------------------------------------------------------------

/** JSON on several lines; what is none stays as it is. Numbers are not read: they may be more than a
 * double can hold. */
function laidOut(text) {
  try {
    JSON.parse(text);
  } catch {
    return text;
  }
  let out = "";
  let depth = 0;
  const line = () => `\n${"  ".repeat(depth)}`;
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"|[[\]{}:,]|[^\s[\]{}:,"]+/g)) {
    if (token === "{" || token === "[") {
      out += token;
      depth++;
      out += line();
    } else if (token === "}" || token === "]") {
      depth--;
      out = /[[{]\s*$/.test(out) ? out.trimEnd() + token : out + line() + token;
    } else if (token === ",") {
      out += token + line();
    } else {
      out += token === ":" ? ": " : token;
    }
  }
  return out;
}

function pretty(text) {
  if (text.length <= MOST_TEXT) text = laidOut(text);
  return text.length > MOST_TEXT ? `${text.slice(0, MOST_TEXT)}… (${text.length} characters)` : text;
}

const LABELS = { out: "sent", in: "received", note: "" };

/** Shows a message: out, in, or a note of our own. */
function show(way, text, more = "") {
  const isError = way === "in" && /^\{[^]*"error":\{/.test(text);
  log.prepend(make("li", { "data-way": isError ? "error" : way }, make("small", {}, [LABELS[way], more].filter(Boolean).join(" · ")),
    way === "note" ? said(text) : make("pre", { dir: "auto", tabIndex: 0 }, pretty(text))));
  while (log.childElementCount > MOST) log.lastElementChild.remove();
}

let sentAt = 0;

/** A WebSocket that shows what goes through it. */
class Shown extends WebSocket {
  constructor(...given) {
    super(...given);
    this.addEventListener("open", () => show("note", `Connected to ${this.url}`));
    this.addEventListener("message", ({ data }) => {
      const isAnswer = typeof data === "string" && sentAt > 0 && /"(result|error)":/.test(data);
      show("in", typeof data === "string" ? data : "(binary)", isAnswer ? took((performance.now() - sentAt) / 1000) : "");
      if (isAnswer) sentAt = 0;
    });
    this.addEventListener("close", ({ code: number, reason }) => show("note", `Disconnected: ${number} ${reason}`));
  }

  send(text) {
    show("out", text);
    sentAt = performance.now();
    super.send(text);
  }
}

function disconnect() {
  connection?.close();
  connection = null;
  connectedTo = "";
}

async function callSocket(path, method, params, isNotification) {
  if (connectedTo !== path || connection?.state === "closed") {
    disconnect();
    connection = connect(path, { reconnect: false, WebSocket: Shown });
    connectedTo = path;
  }
  const mine = connection;
  if (isNotification) {
    if (mine.state === "connecting") await new Promise((resolve) => mine.addEventListener("state", resolve, { once: true }));
    if (!mine.notify(method, params)) throw new Error("There is no connection.");
    return;
  }
  await mine.call(method, params);
}

async function callHttp(path, method, params, isNotification) {
  const message = JSON.stringify({ jsonrpc: "2.0", method, params, ...(isNotification ? {} : { id: 1 }) });
  show("out", message, "HTTP POST");
  const began = performance.now();
  const response = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: message });
  show("in", (await response.text()) || "(nothing)", `HTTP ${response.status} · ${took((performance.now() - began) / 1000)}`);
}

// ---- the form -------------------------------------------------------------------------------------

const typesOf = ({ type }) => (Array.isArray(type) ? type.filter((one) => one !== "null") : type ? [type] : []);

/** What a parameter may be, in words. */
function describe(schema) {
  const words = [typesOf(schema).join(" or ") || "anything"];
  const { minimum, maximum, minLength, maxLength, minItems, maxItems } = schema;
  const low = minimum ?? minLength ?? minItems;
  const high = maximum ?? maxLength ?? maxItems;
  const of = minLength !== undefined || maxLength !== undefined ? " characters" : minItems !== undefined || maxItems !== undefined ? " items" : "";
  if (low !== undefined && high !== undefined) words.push(`${low} to ${high}${of}`);
  else if (low !== undefined) words.push(`${low} or more${of}`);
  else if (high !== undefined) words.push(`at most ${high}${of}`);
  if (schema["x-lua-pattern"]) words.push(`like ${schema["x-lua-pattern"]}`);
  return words.join(", ");
}

/** A field for a parameter: { label, read() } where read gives undefined for "not given", or throws. */
function makeField(param, index) {
  const { name, schema, required } = param;
  const fieldId = `param-${index}`;
  const types = typesOf(schema);
  const isOnly = (...some) => types.length > 0 && types.every((one) => some.includes(one));
  let input;
  let read;
  if (schema.enum || isOnly("boolean")) {
    const choices = schema.enum ?? [true, false];
    input = make("select", { id: fieldId }, ...(required ? [] : [make("option", { value: "" }, "(not given)")]),
      ...choices.map((choice, i) => make("option", { value: `${i}` }, String(choice))));
    read = () => (input.value === "" ? undefined : choices[input.value]);
  } else if (isOnly("integer", "number")) {
    input = make("input", { id: fieldId, inputMode: "decimal", autocomplete: "off" });
    read = () => {
      const text = input.value.trim();
      if (text === "") return undefined;
      if (!/^-?\d+(\.\d+)?([eE][-+]?\d+)?$/.test(text)) throw new Error(`${name}: “${text}” is no number.`);
      // as it was written: an integer of 64 bits is more than JavaScript can hold
      return JSON.rawJSON ? JSON.rawJSON(text) : Number(text);
    };
  } else if (isOnly("string")) {
    input = make("textarea", { id: fieldId, rows: 1, spellcheck: false });
    const none = make("input", { type: "checkbox", checked: !required });
    input.addEventListener("input", () => { none.checked = false; });
    if (!required) {
      read = () => (none.checked ? undefined : input.value);
      return finish(make("label", { class: "none" }, none, " not given"));
    }
    read = () => input.value;
  } else {
    input = make("textarea", { id: fieldId, rows: isOnly("array", "object") ? 3 : 1, spellcheck: false, placeholder: types.length ? "JSON" : "JSON, or any text" });
    read = () => {
      const text = input.value.trim();
      if (text === "") return undefined;
      try {
        return JSON.parse(text);
      } catch (error) {
        if (types.length > 0) throw new Error(`${name}: that is no JSON: ${error.message}`);
        return text;
      }
    };
  }
  return finish();

  function finish(...more) {
    const hint = make("small", { id: `${fieldId}-hint` }, describe(schema), required ? ", required" : "");
    input.setAttribute("aria-describedby", hint.id);
    return { name, read, element: make("div", { class: "field" }, make("label", { htmlFor: fieldId }, code(name)), input, ...more, hint) };
  }
}

/** Fields for what a path such as "/room/:id" captures. */
function makeCaptures(path) {
  return [...path.matchAll(/:([^/]+)/g)].map(([, name], i) => {
    const input = make("input", { id: `capture-${i}`, required: true, autocomplete: "off", spellcheck: false });
    return { name, input, element: make("div", { class: "field" }, make("label", { htmlFor: input.id }, code(`:${name}`)), input, make("small", {}, "part of the path")) };
  });
}

const DEFAULT_ORIGINS = "pages of the same host";

/** Shows a method and the form to call it. */
export function showTrial(consumer, method) {
  const fields = method.params.filter(({ name }) => name !== "rest" || method.paramStructure !== "by-position").map(makeField);
  const isVararg = method.paramStructure === "by-position";
  const rest = isVararg ? makeField({ name: "rest", schema: { type: "array" }, required: false }, fields.length) : null;
  const captures = makeCaptures(consumer.path);
  const isNotification = !method.result;
  const transports = method["x-transports"].filter((one) => one === "http" || !consumer.raw);
  const transport = make("select", { id: "transport" }, ...transports.map((one) => make("option", { value: one }, one === "http" ? "HTTP" : "WebSocket")));
  const problem = make("p", { role: "alert", class: "bad" });
  const form = make("form", {}, ...captures.map(({ element }) => element), ...fields.map(({ element }) => element), ...(rest ? [rest.element] : []),
    make("div", { class: "head foot" }, make("label", {}, "over ", transport),
      make("button", { type: "submit" }, isNotification ? "Notify" : "Call"), button("Disconnect", disconnect)), problem);

  function params() {
    if (isVararg) {
      const values = fields.map(({ read }) => read() ?? null);
      const more = rest.read() ?? [];
      if (!Array.isArray(more)) throw new Error("rest: a list is needed.");
      return [...values, ...more];
    }
    const given = fields.map(({ name, read }) => [name, read()]).filter(([, value]) => value !== undefined);
    return given.length ? Object.fromEntries(given) : undefined;
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    problem.textContent = "";
    let at = 0;
    const path = consumer.path.replace(/:[^/]+/g, () => encodeURIComponent(captures[at++].input.value));
    try {
      await (transport.value === "http" ? callHttp : callSocket)(path, method.name, params(), isNotification);
    } catch (error) {
      if (typeof error.code === "number") return; // the answer shows it
      problem.textContent = error.message;
      if (error.code === "offline" && consumer.origins) {
        problem.textContent += ` This consumer is open to pages of ${consumer.origins.join(", ")}; this page is of ${location.origin}.`;
      }
    }
  });

  log = make("ol", { id: "wire", "aria-label": "On the wire, latest first" });
  const errors = (method.errors ?? []).map(({ code: number, message }) => make("li", {}, code(String(number)), " ", said(message)));
  const examples = (method.examples ?? []).map(({ name, params: given = [], result }) => make("li", {}, said(name), " ",
    code(`(${given.map(({ value }) => JSON.stringify(value)).join(", ")})`), ...(result ? [" → ", code(JSON.stringify(result.value))] : [])));
  $("trial").replaceChildren(
    make("div", { class: "card" },
      make("h2", {}, code(method.name), " ", code(consumer.path, "soft")),
      ...(method.description ? [make("p", {}, said(method.description))] : []),
      ...(method.deprecated ? [make("p", { class: "bad" }, "Deprecated.")] : []),
      form,
      ...(errors.length ? [make("h3", {}, "Errors"), make("ul", { class: "plain" }, ...errors)] : []),
      ...(examples.length ? [make("h3", {}, "Examples"), make("ul", { class: "plain" }, ...examples)] : []),
      make("p", { class: "soft" }, `Open to ${consumer.origins ? `pages of ${consumer.origins.join(", ")}` : DEFAULT_ORIGINS}.`)),
    make("div", { class: "card" }, make("h2", {}, "On the wire"), log));
}
