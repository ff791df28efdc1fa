import { connect, RpcError } from "/-/perigee.js";

const $ = (id) => document.getElementById(id);

const SIGNED_OUT = 4001; // close codes of the app's
const CLOSED_BY_OTHER = 4002;

let rpc; // the connection; a new one for each session
let me = null;
let people = [];
let isLeaving = false; // this tab is signing out: it connects anew when that is done

/** A call over HTTP: what changes the session must, as its answer brings the cookie. */
async function post(method, params) {
  const response = await fetch("/accounts", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ jsonrpc: "2.0", id: 1, method, params }),
  });
  const { result, error } = await response.json();
  if (error) throw new RpcError(error.code, error.message, error.data);
  return result;
}

/** Does something that may fail, and shows it when it does. */
async function act(what) {
  const buttons = document.querySelectorAll("button");
  for (const button of buttons) button.disabled = true;
  try {
    await what();
    $("error").textContent = "";
  } catch (error) {
    $("error").textContent = error.message;
  } finally {
    for (const button of buttons) button.disabled = false;
  }
}

// ---- what is shown --------------------------------------------------------------------------------

const count = (n) => (n === 1 ? "1 tab" : `${n} tabs`);

function show() {
  const mine = people.find(({ name }) => name === me)?.tabs ?? 1;
  const isAway = rpc.lastClose?.code === CLOSED_BY_OTHER && rpc.state === "closed";
  $("door").hidden = isAway || me !== null;
  $("inside").hidden = isAway || me === null;
  $("away").hidden = !isAway;
  $("me").textContent = me ?? "";
  $("tabs").textContent = `You are signed in on ${count(mine)}.`;
  $("close-others").hidden = mine < 2;
  $("nobody").hidden = people.length > 0;
  $("people").replaceChildren(...people.map(({ name, tabs }) => {
    const item = document.createElement("li");
    const who = document.createElement("b");
    who.textContent = name;
    item.append(who, ` ${count(tabs)}`);
    item.classList.toggle("own", name === me);
    return item;
  }));
}

const STATES = { connecting: "Connecting…", open: "Connected", waiting: "Offline, trying again soon", closed: "Not connected" };

// ---- the connection -------------------------------------------------------------------------------

/** Connects as whoever the cookie says. */
function enter() {
  rpc?.close();
  const own = connect("/accounts", { reconnect: (code) => code !== SIGNED_OUT && code !== CLOSED_BY_OTHER });
  rpc = own;
  own.on("people", (found) => {
    people = found.people;
    show();
  });
  own.addEventListener("open", async () => {
    const name = await own.call("me").catch(() => null); // lost again: there will be another "open"
    if (rpc !== own) return;
    me = name;
    show();
  });
  own.addEventListener("state", () => {
    if (rpc !== own) return;
    $("status").dataset.state = own.state;
    $("status").textContent = STATES[own.state];
    if (own.state !== "closed") return;
    if (own.lastClose.code === SIGNED_OUT && isLeaving) return;
    if (own.lastClose.code === SIGNED_OUT) enter(); // as nobody, or as somebody else
    else show();
  });
}

// ---- what can be done -----------------------------------------------------------------------------

$("door").addEventListener("submit", (event) => {
  event.preventDefault();
  const method = event.submitter === $("sign-up") ? "sign_up" : "sign_in";
  const { name, password } = Object.fromEntries(new FormData($("door")));
  act(async () => {
    await post(method, { name, password });
    $("door").reset();
    enter();
  });
});

$("inside").addEventListener("submit", (event) => {
  event.preventDefault();
  act(async () => {
    isLeaving = true;
    await post("sign_out").finally(() => { isLeaving = false; });
    enter();
  });
});

$("close-others").addEventListener("click", () => act(() => rpc.call("close_others")));
$("back").addEventListener("click", enter);

// what a form without JavaScript was told
if (location.hash) $("error").textContent = decodeURIComponent(location.hash.slice(1));

enter();
