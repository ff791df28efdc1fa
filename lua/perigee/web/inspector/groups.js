// Which groups there are, the largest first.

import { $, cell, code, count, draw, figure, make } from "./elements.js";

export const id = "groups";

const MOST = 200;
const EVERY = 2_000; // milliseconds between two looks

let server;
let timer = 0;
let asked = 0;

function makeRow({ name, members, can_ask: canAsk }, most) {
  const bar = draw("svg", { class: "share", viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true" },
    draw("rect", { width: Math.max((members / most) * 100, 0.5).toFixed(2), height: 6, rx: 1 }));
  return make("tr", {}, make("th", { scope: "row" }, code(name)), figure(count(members)), cell(bar),
    make("td", { class: "n" }, ...(canAsk ? [make("a", { href: `#/connections?group=${encodeURIComponent(name)}` }, "Members",
      make("span", { class: "hidden" }, " of ", make("bdi", {}, name)))] : [])));
}

async function look() {
  clearTimeout(timer);
  if (server.rpc.state !== "open") return;
  const mine = ++asked;
  try {
    const { rows, total } = await server.rpc.call("groups", { text: $("filter-name").value, limit: MOST });
    if (mine !== asked) return;
    const body = $("group-table").tBodies[0];
    if (!body.contains(document.activeElement)) body.replaceChildren(...rows.map((row) => makeRow(row, rows[0].members)));
    $("groups-empty").hidden = total > 0;
    $("group-count").textContent = total > rows.length ? `The largest ${rows.length} of ${count(total)}` : "";
  } catch (error) {
    if (mine === asked && typeof error.code === "number") $("group-count").textContent = error.message;
  }
  if (mine === asked && !$("groups").hidden) timer = setTimeout(look, EVERY);
}

export function start(theServer) {
  server = theServer;
  $("group-filter").addEventListener("input", look);
  $("group-filter").addEventListener("submit", (event) => event.preventDefault());
}

export const show = look;

export function hide() {
  clearTimeout(timer);
  asked++;
}
