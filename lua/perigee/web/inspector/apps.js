// Which apps there are, in which generation, and how their loading went.

import { $, cell, code, count, figure, make, said, time } from "./elements.js";

export const id = "apps";

const MOST = 50;
const WORDS = { app_loaded: "loaded", app_reloaded: "reloaded", app_reload_failed: "could not be reloaded" };

/** What an app answers on. */
const paths = (consumers) => [...new Set(consumers.flatMap(({ path, plain, routes }) => [...(plain ? [] : [path]), ...routes.map((route) => route.path)]))];

export function showApps({ hello }) {
  $("app-table").tBodies[0].replaceChildren(...hello.apps.map(({ name, generation, file, consumers }) => make("tr", {},
    make("th", { scope: "row" }, said(name)), figure(count(generation)), cell(code(file, "soft")),
    cell(...paths(consumers).flatMap((path, i) => [i ? " " : "", code(path)])))));
}

function makeEntry(event, server) {
  const isBad = event.kind === "app_reload_failed";
  const line = [make("time", { class: "soft" }, time(server.when(event.at))), said(event.app, "strong"), said(WORDS[event.kind], isBad ? "bad" : ""),
    said(event.generation ? `generation ${event.generation}` : "", "soft")];
  return make("li", {}, ...line, ...(event.message ? [make("pre", { dir: "auto", tabIndex: 0 }, event.message)] : []));
}

export function begin(server) {
  $("reloads").replaceChildren(...server.hello.reloads.toReversed().map((event) => makeEntry(event, server)));
}

export function tick(news, server) {
  const events = news.events.filter(({ kind }) => kind in WORDS);
  if (events.length === 0) return;
  for (const event of events) $("reloads").prepend(makeEntry(event, server));
  while ($("reloads").childElementCount > MOST) $("reloads").lastElementChild.remove();
  server.refreshApps();
}
