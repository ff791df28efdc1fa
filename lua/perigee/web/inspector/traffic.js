// What is going on: figures with their last two minutes, methods with their times, events.

import { $, bytes, cell, code, count, draw, figure, make, rate, said, time, took } from "./elements.js";

export const id = "traffic";

const KEPT = 240; // ticks in a figure's line: two minutes
const MOST_EVENTS = 300; // in the page
const WINDOW = 4; // ticks that a rate is taken over

// ---- figures --------------------------------------------------------------------------------------

const WIDTH = 240;
const HEIGHT = 36;

function makeFigure(name, hint) {
  const line = draw("polyline", { points: "" });
  const area = draw("polygon", { points: "" });
  const value = make("b", {}, "–");
  const more = make("small", {}, hint);
  $("figures").append(make("div", { class: "figure" }, make("dt", {}, name), make("dd", {}, value, more),
    draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" }, area, line)));
  return { line, area, value, more, past: [] };
}

function setFigure(shown, number, text, more) {
  shown.value.textContent = text;
  if (more !== undefined) shown.more.textContent = more;
  const { past } = shown;
  past.push(number);
  if (past.length > KEPT) past.shift();
  const most = Math.max(...past, 1e-9) * 1.1;
  const points = past.map((n, i) => {
    const x = WIDTH - (past.length - 1 - i) * (WIDTH / (KEPT - 1));
    return `${x.toFixed(1)},${(HEIGHT - 1 - (n / most) * (HEIGHT - 3)).toFixed(1)}`;
  });
  shown.line.setAttribute("points", points.join(" "));
  const left = WIDTH - (past.length - 1) * (WIDTH / (KEPT - 1));
  shown.area.setAttribute("points", `${left.toFixed(1)},${HEIGHT} ${points.join(" ")} ${WIDTH},${HEIGHT}`);
}

let figures;
let before = []; // totals of the last ticks

function showTotals(news) {
  before.push(news);
  if (before.length > WINDOW + 1) before.shift();
  const [first] = before;
  const seconds = Math.max(news.now - first.now, 0.001);
  const perSecond = (name) => (before.length > 1 ? (news.metrics[name] - first.metrics[name]) / seconds : 0);
  const { metrics } = news;
  const open = metrics.connections_accepted - metrics.connections_closed;
  setFigure(figures.connections, open, count(open), `${count(metrics.websockets_opened)} WebSockets so far`);
  setFigure(figures.calls, perSecond("calls"), rate(perSecond("calls")), `${count(metrics.calls)} so far`);
  setFigure(figures.errors, perSecond("call_errors"), rate(perSecond("call_errors")), `${count(metrics.call_errors)} so far`);
  setFigure(figures.sent, perSecond("bytes_sent"), `${bytes(Math.round(perSecond("bytes_sent")))}/s`,
    `${bytes(Math.round(perSecond("bytes_received")))}/s received`);
  setFigure(figures.memory, news.lua_memory, bytes(news.lua_memory), `of ${bytes(news.lua_memory_max)}`);
  $("connections-badge").textContent = count(open);
}

// ---- methods --------------------------------------------------------------------------------------

const known = new Map(); // path, method -> { facts, row, samples }

/** The time that a share of the calls stayed below, out of counts by powers of two of microseconds. */
function quantile({ buckets, calls, max }, share) {
  let left = calls * share;
  for (const [power, n] of buckets) {
    if (n >= left) {
      const low = power === 0 ? 0 : 2 ** (power - 1);
      return Math.min((low + (2 ** power - low) * (left / n)) / 1e6, max);
    }
    left -= n;
  }
  return max;
}

const BARS = 24; // buckets up to 2^24 µs, 17 s; what took longer counts to the last

function histogram(buckets) {
  const most = Math.max(...buckets.map(([, n]) => n), 1);
  const bars = buckets.map(([power, n]) => {
    const height = Math.max((n / most) * 18, 1.5);
    return draw("rect", { x: Math.min(power, BARS) * 5, y: (18 - height).toFixed(1), width: 4, height: height.toFixed(1), rx: 1 });
  });
  return draw("svg", { class: "bars", viewBox: `0 0 ${(BARS + 1) * 5} 18`, role: "img", "aria-label": "calls by time taken, from 1 µs to 17 s" }, ...bars);
}

function showMethod(one, perSecond) {
  const { facts } = one;
  const cells = [
    make("th", { scope: "row" }, code(facts.method)), cell(code(facts.path, "soft")),
    figure(count(facts.calls)), figure(rate(perSecond)),
    make("td", { class: facts.errors ? "n bad" : "n" }, count(facts.errors)),
    figure(took(quantile(facts, 0.5))), figure(took(quantile(facts, 0.99))), figure(took(facts.max)),
    cell(histogram(facts.buckets)),
  ];
  one.row.replaceChildren(...cells);
}

function showMethods(news) {
  for (const facts of news.methods) {
    const key = `${facts.path}\n${facts.method}`;
    if (!known.has(key)) known.set(key, { row: make("tr"), samples: [] });
    Object.assign(known.get(key), { facts, isChanged: true });
  }
  const isOrderNew = news.methods.length > 0;
  for (const one of known.values()) {
    one.samples.push([news.now, one.facts.calls]);
    if (one.samples.length > WINDOW + 1) one.samples.shift();
    const [[from, calls]] = one.samples;
    const perSecond = news.now > from ? (one.facts.calls - calls) / (news.now - from) : 0;
    if (one.isChanged || one.perSecond !== perSecond) showMethod(one, perSecond);
    Object.assign(one, { perSecond, isChanged: false });
  }
  if (!isOrderNew) return;
  const sorted = [...known.values()].sort((a, b) => b.facts.calls - a.facts.calls);
  $("method-table").tBodies[0].replaceChildren(...sorted.map(({ row }) => row));
  $("methods-empty").hidden = sorted.length > 0;
}

// ---- events ---------------------------------------------------------------------------------------

let isPaused = false;
let droppedSoFar = 0;

const KINDS = {
  call: "call", opened: "connection", closed: "connection", fault: "error", app_loaded: "app", app_reloaded: "app",
  app_reload_failed: "app", layer_down: "app", layer_up: "app",
};
const WORDS = {
  app_loaded: "loaded", app_reloaded: "reloaded", app_reload_failed: "could not be reloaded", layer_down: "the layer is down",
  layer_up: "the layer is up",
};

const connectionLink = (conn) => make("a", { href: `#/connections?${conn}`, class: "soft", title: "Connection" }, conn);

/** What an event says, as elements. */
function words(event) {
  if (event.kind === "call") {
    const isError = event.code !== undefined;
    const parts = [code(event.method, isError ? "bad" : ""), code(event.params ?? "", "soft cut"), code(event.path, "soft")];
    if (isError) {
      const text = said(`${event.code} ${event.message.split("\n")[0]}`, "bad");
      parts.push(event.error_id ? make("a", { href: "#/errors", class: "bad" }, text) : text);
    }
    return [...parts, make("span", { class: "soft" }, took(event.seconds)), connectionLink(event.conn)];
  }
  if (event.kind === "opened") return [said("connected"), code(event.path, "soft"), connectionLink(event.conn)];
  if (event.kind === "closed") {
    return [said("disconnected"), code(event.path, "soft"), said(`${event.code} ${event.reason}`, "soft"), make("span", { class: "soft" }, event.conn)];
  }
  if (event.kind === "fault") return [make("a", { href: "#/errors", class: "bad" }, said(event.message.split("\n")[0])), code(event.method ?? event.what, "soft")];
  const isBad = event.kind === "app_reload_failed" || event.kind === "layer_down";
  return [said(event.app ?? "", "strong"), said(WORDS[event.kind] ?? event.kind, isBad ? "bad" : ""),
    said(event.generation ? `generation ${event.generation}` : "", "soft"), said(event.message ?? "", "soft cut")];
}

/** An entry of a list of events. */
export function entry(event, server) {
  const kind = event.kind === "call" && event.code !== undefined ? "error" : KINDS[event.kind] ?? "app";
  return make("li", { "data-kind": kind }, make("time", { class: "soft" }, time(server.when(event.at))), ...words(event));
}

function showEvents(news, server) {
  droppedSoFar += news.dropped;
  $("dropped").hidden = droppedSoFar === 0;
  $("dropped").textContent = `${count(droppedSoFar)} more events than can be shown were left out.`;
  if (isPaused || news.events.length === 0) return;
  const list = $("events");
  // a call that failed tells of its fault itself
  const sorted = news.events.filter(({ kind, method }) => kind !== "fault" || !method).reverse().sort((a, b) => b.at - a.at);
  list.prepend(...sorted.map((event) => entry(event, server)));
  while (list.childElementCount > MOST_EVENTS) list.lastElementChild.remove();
  $("events-empty").hidden = true;
}

// ---- the view -------------------------------------------------------------------------------------

export function start() {
  figures = {
    connections: makeFigure("Connections", "open"),
    calls: makeFigure("Calls per second", ""),
    errors: makeFigure("Errors per second", ""),
    sent: makeFigure("Sent", ""),
    memory: makeFigure("Lua memory", ""),
  };
  $("pause").addEventListener("click", () => {
    isPaused = !isPaused;
    $("pause").setAttribute("aria-pressed", isPaused);
    $("pause").textContent = isPaused ? "Go on" : "Pause";
  });
  $("clear").addEventListener("click", () => {
    $("events").replaceChildren();
    droppedSoFar = 0;
    $("dropped").hidden = true;
  });
  for (const box of document.querySelectorAll("[name=kind]")) {
    box.addEventListener("change", () => $("events").classList.toggle(`no-${box.value}`, !box.checked));
  }
}

export function begin() {
  before = [];
  known.clear();
  $("method-table").tBodies[0].replaceChildren();
}

export function tick(news, server) {
  showTotals(news);
  showMethods(news);
  showEvents(news, server);
}
