// The inspector's page: one connection to the server, six views of what it tells.
//
// A view is a module with an id, and any of: start(server) once, begin(server) each time the server was
// connected, showApps(server) when it has other apps, tick(news, server) twice a second, show() and
// hide() when it is looked at.

import { connect } from "/-/perigee.js";
import { $ } from "./elements.js";
import * as apps from "./apps.js";
import * as connections from "./connections.js";
import * as errors from "./errors.js";
import * as groups from "./groups.js";
import * as methods from "./methods.js";
import * as traffic from "./traffic.js";

const views = [traffic, connections, groups, methods, apps, errors];

const server = {
  rpc: connect("/-/inspector", { firstWait: 250, longestWait: 3_000, timeout: 10_000 }),
  hello: null,
  clockOffset: 0,
  /** When something happened, as the visitor's clock counts, from the server's own seconds. */
  when: (at) => at + server.clockOffset,
  /** Asks for the apps anew and shows them everywhere. */
  async refreshApps() {
    try {
      server.hello.apps = await server.rpc.call("apps");
      for (const view of views) view.showApps?.(server);
    } catch {
      // lost: the next connection begins with a new list
    }
  },
};

let shown = null;

function show() {
  const view = views.find(({ id }) => id === location.hash.slice(2).split("?")[0]) ?? traffic;
  if (view === shown) {
    view.show?.();
    return;
  }
  shown?.hide?.();
  shown = view;
  for (const { id } of views) $(id).hidden = id !== view.id;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#/${view.id}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  scrollTo(0, 0);
  document.title = `${document.querySelector("nav [aria-current]").firstChild.data.trim()} · Perigee inspector`;
  view.show?.();
}

function notice(text) {
  $("notice").textContent = text;
  $("notice").hidden = !text;
}

const STATES = { connecting: "Connecting…", open: "Live", waiting: "Offline", closed: "Closed" };

server.rpc.addEventListener("state", () => {
  const { state } = server.rpc;
  $("status").dataset.state = state;
  $("status").textContent = STATES[state];
  document.body.classList.toggle("stale", state !== "open");
});

server.rpc.addEventListener("open", async () => {
  try {
    server.hello = await server.rpc.call("hello");
    server.clockOffset = Date.now() / 1000 - server.hello.totals.now;
    const { version, is_dev: isDev, node, workers } = server.hello;
    $("server").textContent = [isDev ? "dev" : "serve", version, workers > 1 ? `${workers} workers` : "", node.slice(0, 8)].filter(Boolean).join(" · ");
    for (const view of views) {
      view.begin?.(server);
      view.showApps?.(server);
    }
    show();
    await server.rpc.call("watch");
    notice("");
  } catch (error) {
    if (error.code !== "lost" && error.code !== "offline") notice(error.message);
  }
});

server.rpc.on("tick", (news) => {
  for (const view of views) view.tick?.(news, server);
});

for (const view of views) view.start?.(server);
addEventListener("hashchange", show);
show();
