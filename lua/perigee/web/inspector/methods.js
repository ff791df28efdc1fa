// What can be called: all methods of all apps, and a form for the one that was chosen.

import { $, code, make, said } from "./elements.js";
import { showTrial } from "./trial.js";

export const id = "methods";

let chosen = ""; // path, method

function choose(consumer, method, link) {
  chosen = `${consumer.path}\n${method.name}`;
  for (const other of document.querySelectorAll("#method-list [aria-current]")) other.removeAttribute("aria-current");
  link.setAttribute("aria-current", "true");
  showTrial(consumer, method);
  if (matchMedia("(max-width: 48rem)").matches) $("trial").scrollIntoView(); // it is below the list there
}

function makeItem(consumer, method) {
  const names = method.params.map(({ name, required }) => (required ? name : `${name}?`)).join(", ");
  const isNotification = !method.result;
  const item = make("button", { type: "button", onclick: () => choose(consumer, method, item) }, code(method.name, "strong"),
    code(`(${names})`, "soft"), ...(isNotification ? [make("small", {}, "notification")] : []),
    ...(method.deprecated ? [make("small", { class: "bad" }, "deprecated")] : []));
  if (chosen === `${consumer.path}\n${method.name}`) item.setAttribute("aria-current", "true");
  return make("li", {}, item);
}

export function showApps({ hello }) {
  const parts = [];
  for (const { consumers } of hello.apps) {
    for (const consumer of consumers) {
      const { path, raw, plain, routes } = consumer;
      parts.push(make("h2", {}, plain ? "Plain HTTP" : code(path)));
      if (raw) parts.push(make("p", { class: "soft" }, "Speaks no JSON-RPC over WebSocket."));
      else if (!plain && consumer.methods.length === 0) parts.push(make("p", { class: "soft" }, "Has no methods."));
      parts.push(make("ul", {}, ...consumer.methods.map((method) => makeItem(consumer, method)),
        ...routes.map((route) => make("li", { class: "route" }, code(route.verb, "soft"), " ", code(route.path), " ", make("small", {}, said(route.doc ?? ""))))));
    }
  }
  if (parts.length === 0) parts.push(make("p", { class: "empty" }, said("There are no apps.")));
  $("method-list").replaceChildren(...parts);
}
