import { connect } from "/-/perigee.js";

const $ = (id) => document.getElementById(id);
const number = new Intl.NumberFormat();

const rpc = connect("/counter");

function show(value) {
  const text = number.format(value).replace("-", "−");
  $("value").textContent = text;
  $("value").style.setProperty("--digits", Math.max(text.length, 3)); // more digits, smaller ones
  document.title = `${text} · Perigee counter`;
}

function showWatching(count) {
  $("watching").textContent = count === 1 ? "Only you are watching" : `${count} are watching`;
}

rpc.on("changed", ({ value }) => show(value));
rpc.on("watching", ({ count }) => showWatching(count));

rpc.addEventListener("open", () => act(async () => {
  const { value, watching } = await rpc.call("get");
  show(value);
  showWatching(watching);
}));

const STATES = { connecting: "Connecting…", open: "Connected", waiting: "Offline, trying again soon" };

rpc.addEventListener("state", () => {
  $("status").dataset.state = rpc.state;
  $("status").textContent = STATES[rpc.state];
  for (const id of ["decrement", "increment", "reset"]) $(id).disabled = rpc.state !== "open";
});

/** Does something that may fail, and shows it when it does. */
async function act(what) {
  try {
    await what();
    $("error").textContent = "";
  } catch (error) {
    $("error").textContent = error.message;
  }
}

const step = () => Number(document.querySelector("[name=step]:checked").value);

// The new value comes with the notification "changed", as it does for everybody else.
$("increment").addEventListener("click", () => act(() => rpc.call("increment", { by: step() })));
$("decrement").addEventListener("click", () => act(() => rpc.call("decrement", { by: step() })));
$("reset").addEventListener("click", () => act(() => rpc.call("reset")));

$("curl").textContent = `curl ${location.origin}/counter -H 'Content-Type: application/json' \\
  -d '{"jsonrpc":"2.0","id":1,"method":"increment"}'`;
