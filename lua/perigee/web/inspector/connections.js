// Who is connected: a page of the server's table at a time, however many there are.

import { $, button, bytes, cell, code, count, figure, lasts, make, said } from "./elements.js";

export const id = "connections";

const PAGE = 50;
const EVERY = 2_000; // milliseconds between two looks

let server;
let timer = 0;
let asked = 0; // looks: only the last one's answer counts
let after = 0; // where the page begins in the server's table
let nextPlace;
let isFirst = true;
let looked; // id of the connection in the dialog

const wish = () => ({
  after, limit: PAGE,
  path: $("filter-path").value || undefined,
  group: $("filter-group").value || undefined,
  text: $("filter-text").value || undefined,
});

function makeRow(row) {
  return make("tr", {},
    make("th", { scope: "row" }, make("button", { type: "button", class: "link", onclick: () => open(row.id) }, row.id)),
    cell(row.path ? code(row.path) : said(row.protocol, "soft")), cell(code(row.address)),
    figure(row.age === undefined ? "" : lasts(row.age)), figure(lasts(row.idle)), figure(count(row.calls)), figure(count(row.groups)),
    make("td", { class: row.paused ? "n bad" : "n" }, row.output ? bytes(row.output) : ""),
    make("td", { class: "n" }, button("Drop", () => drop(row.id), "quiet danger-text")));
}

async function look() {
  clearTimeout(timer);
  if (server.rpc.state !== "open") return;
  const mine = ++asked;
  try {
    const page = await server.rpc.call("connections", wish());
    if (mine !== asked) return;
    // a button that has the focus keeps it: rows are exchanged one by one
    const body = $("connection-table").tBodies[0];
    const focused = body.contains(document.activeElement) ? document.activeElement.closest("tr").dataset.id : null;
    const column = focused ? [...document.activeElement.closest("tr").cells].indexOf(document.activeElement.closest("td, th")) : -1;
    body.replaceChildren(...page.rows.map((row) => {
      const made = makeRow(row);
      made.dataset.id = row.id;
      if (row.id === focused) queueMicrotask(() => made.cells[column]?.querySelector("button")?.focus());
      return made;
    }));
    nextPlace = page.next;
    $("next-page").disabled = nextPlace === undefined;
    $("first-page").disabled = isFirst;
    $("connections-empty").hidden = page.rows.length > 0;
    const filtered = wish().path || wish().group || wish().text ? ", of those that fit" : "";
    $("connection-page").textContent = page.rows.length ? `${page.rows.length} shown${filtered}${nextPlace === undefined ? "" : ", there are more"}` : "";
  } catch (error) {
    if (mine === asked && typeof error.code === "number") $("connection-page").textContent = error.message;
  }
  if (mine === asked && !$("connections").hidden) timer = setTimeout(look, EVERY);
}

function goTo(place) {
  after = place;
  isFirst = place === 0;
  look();
}

async function drop(conn) {
  try {
    await server.rpc.call("drop", { id: conn });
    if (conn === looked) $("connection-error").textContent = "It is being closed.";
  } catch (error) {
    $("connection-error").textContent = error.message;
  }
  look();
}

// ---- one connection -------------------------------------------------------------------------------

function facts(list) {
  return make("dl", { class: "facts" }, ...list.filter(([, value]) => value !== undefined && value !== "").flatMap(([name, value]) => [
    make("dt", {}, name), make("dd", {}, value)]));
}

/** Shows one connection. */
export async function open(conn) {
  looked = conn;
  $("connection-title").textContent = `Connection ${conn}`;
  $("connection-error").textContent = "";
  $("connection-facts").replaceChildren();
  if (!$("connection-dialog").open) $("connection-dialog").showModal();
  let one;
  try {
    one = await server.rpc.call("connection", { id: conn });
  } catch (error) {
    if (conn === looked) $("connection-error").textContent = error.message;
    $("drop").disabled = true;
    return;
  }
  if (conn !== looked) return;
  $("drop").disabled = false;
  const { request, client } = one;
  const parts = [facts([
    ["Protocol", one.protocol], ["Path", one.path && code(one.path)], ["App", one.app && code(one.app)],
    ["Client", code(client ? `${client.address} port ${client.port}` : one.address)],
    ["Open for", one.age === undefined ? "" : lasts(one.age)], ["Silent for", lasts(one.idle)],
    ["Calls in flight", count(one.calls)], ["Messages waiting", one.waiting ? count(one.waiting) : ""],
    ["Unsent", one.output ? bytes(one.output) : ""], ["Input", one.paused ? "is not read at the moment" : ""],
    ["Query", request?.query && code(request.query)],
  ])];
  if (one.group_names.length) {
    parts.push(make("h3", {}, `Groups (${count(one.groups)})`), make("p", { class: "names" }, ...one.group_names.map((name) => code(name))));
  }
  if (request) {
    parts.push(make("h3", {}, "Request"), make("dl", { class: "facts headers" }, ...request.headers.flatMap(({ name, value }) => [
      make("dt", {}, code(name)), make("dd", {}, code(value))])));
  }
  $("connection-facts").replaceChildren(...parts);
}

// ---- the view -------------------------------------------------------------------------------------

export function start(theServer) {
  server = theServer;
  $("connection-filter").addEventListener("input", () => goTo(0));
  $("connection-filter").addEventListener("submit", (event) => event.preventDefault());
  $("first-page").addEventListener("click", () => goTo(0));
  $("next-page").addEventListener("click", () => goTo(nextPlace));
  $("close-dialog").addEventListener("click", () => $("connection-dialog").close());
  $("drop").addEventListener("click", () => drop(looked));
  $("connection-dialog").addEventListener("close", () => {
    if (location.hash.startsWith("#/connections?")) history.replaceState(null, "", "#/connections");
  });
}

export function showApps({ hello }) {
  const chosen = $("filter-path").value;
  const paths = hello.apps.flatMap(({ consumers }) => consumers.filter(({ plain }) => !plain).map(({ path }) => path));
  $("filter-path").replaceChildren(make("option", { value: "" }, "all"), ...paths.map((path) => make("option", { value: path }, path)));
  $("filter-path").value = paths.includes(chosen) ? chosen : "";
}

export function show() {
  const asks = location.hash.split("?")[1];
  if (asks?.startsWith("group=")) {
    $("filter-group").value = decodeURIComponent(asks.slice(6));
    after = 0;
  } else if (asks) {
    open(asks);
  }
  goTo(after);
}

export function hide() {
  clearTimeout(timer);
  asked++;
}
