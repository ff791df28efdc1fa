// Deliberately without a JSON-RPC library: what you see is what is sent.

const $ = (id) => document.getElementById(id);

const MOST = 100; // entries in the list

const call = (method, params, id = 1) => JSON.stringify({ jsonrpc: "2.0", id, method, params });

const examples = {
  echo: call("echo", { value: "Hello!" }),
  reverse: call("reverse", ["Hello, 日本 🚀"]),
  "after a second": call("later", ["I waited"]),
  "two at once": `[${call("echo", [1], 1)},\n ${call("reverse", ["two"], 2)}]`,
  notification: '{"jsonrpc":"2.0","method":"echo","params":["no id, no answer"]}',
  "a mistake": call("ecko", ["?"]),
  "no JSON": "hello",
};

for (const [name, text] of Object.entries(examples)) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "quiet";
  button.textContent = name;
  button.addEventListener("click", () => { $("text").value = text; });
  document.querySelector(".examples").append(button);
}
$("text").value = examples.echo;

// ---- the list -----------------------------------------------------------------------------------

function show(direction, label, text) {
  $("nothing").hidden = true;
  const entry = document.createElement("li");
  entry.className = direction;
  const head = document.createElement("p");
  head.textContent = label;
  const body = document.createElement("pre");
  body.textContent = text;
  entry.append(head, body);
  $("traffic").prepend(entry);
  if ($("traffic").childElementCount > MOST) $("traffic").lastElementChild.remove();
}

// ---- the ways -----------------------------------------------------------------------------------

const sockets = new Map(); // path -> WebSocket, opened when it is first needed

function open(path) {
  let socket = sockets.get(path);
  if (socket && socket.readyState <= WebSocket.OPEN) return socket;
  socket = new WebSocket(location.origin.replace(/^http/, "ws") + path);
  socket.addEventListener("message", (event) => show("in", `from ${path}`, event.data));
  socket.addEventListener("close", (event) => {
    show("end", `the connection to ${path} is closed`, `${event.code} ${event.reason}`.trim());
  });
  sockets.set(path, socket);
  return socket;
}

function sendFrame(path, text) {
  const socket = open(path);
  const send = () => {
    show("out", `to ${path}, over WebSocket`, text);
    socket.send(text);
  };
  if (socket.readyState === WebSocket.OPEN) send();
  else socket.addEventListener("open", send, { once: true });
}

async function post(path, text) {
  show("out", `POST ${path}`, text);
  try {
    const answer = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: text });
    show("in", `HTTP ${answer.status}`, (await answer.text()) || "(empty)");
  } catch {
    show("end", `POST ${path}`, "no answer: is the server running?");
  }
}

const ways = {
  socket: (text) => sendFrame("/echo", text),
  post: (text) => post("/echo", text),
  raw: (text) => sendFrame("/echo/raw", text),
};

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  ways[document.querySelector("[name=way]:checked").value]($("text").value);
});

$("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("form").requestSubmit();
});
