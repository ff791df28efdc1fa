// Errors of app code that nobody caught, with all that is known of them.

import { $, code, count, make, said, time } from "./elements.js";

export const id = "errors";

const MOST = 50;

let unseen = 0;

function makeEntry(fault, server) {
  const where = fault.file ? `${fault.file}:${fault.line}` : "";
  const summary = make("summary", {}, make("time", { class: "soft" }, time(server.when(fault.at))), said(fault.message.split("\n")[0], "bad"),
    code(where, "soft"), ...(fault.method ? [code(fault.method)] : []), ...(fault.path ? [code(fault.path, "soft")] : []));
  const pre = (text) => make("pre", { dir: "auto", tabIndex: 0 }, text);
  return make("li", {}, make("details", {}, summary,
    make("p", { class: "soft" }, `${fault.what} · id `, code(fault.id), ...(fault.conn ? [" · connection ", code(fault.conn)] : [])),
    ...(fault.excerpt ? [pre(fault.excerpt)] : []), pre(fault.traceback)));
}

function badge() {
  $("errors-badge").textContent = unseen ? count(unseen) : "";
}

function add(faults, server) {
  $("faults").prepend(...faults.toReversed().map((fault) => makeEntry(fault, server)));
  while ($("faults").childElementCount > MOST) $("faults").lastElementChild.remove();
  $("faults-empty").hidden = $("faults").childElementCount > 0;
  if ($("errors").hidden) unseen += faults.length;
  badge();
}

export function begin(server) {
  $("faults").replaceChildren();
  unseen = 0;
  add(server.hello.faults, server);
}

export function tick(news, server) {
  const faults = news.events.filter(({ kind }) => kind === "fault");
  if (faults.length) add(faults, server);
}

export function show() {
  unseen = 0;
  badge();
}
