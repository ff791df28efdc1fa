import { connect } from "/-/perigee.js";
import { MessageList, make, paintAvatar } from "./messages.js";

const $ = (id) => document.getElementById(id);

const NO_SUCH_ROOM = 1; // the codes of apps/chat/init.lua that are treated specially
const INVALID_PARAMS = -32602;
const TYPING_EVERY = 2_500; // how often we tell that we are typing …
const TYPING_LASTS = 4_000; // … and how long we believe it of others
const MOST_PEOPLE = 200; // names in the list

const rpc = connect("/chat");
const list = new MessageList($("log"), $("messages"));

let wanted = stored("name"); // the name we ask for; the server may put a number to it
let me = ""; // the name we have
let room = ""; // the room we are in; "" while we are in none
let limits = { name: 24, text: 2000 };
let entering = 0; // counts attempts to enter a room: only the last one matters
const rooms = new Map(); // name -> { name, topic, count }
const people = new Set();

/** Remembers something for the next visit, when the browser lets us. */
function stored(key, value) {
  try {
    if (value !== undefined) localStorage.setItem(`perigee-chat-${key}`, value);
    return localStorage.getItem(`perigee-chat-${key}`) ?? "";
  } catch {
    return value ?? "";
  }
}

// ---- the room -----------------------------------------------------------------------------------

const roomInAddress = () => location.hash.slice(1) || "lobby";

/** Enters the room in the address, unless we are still asking for a name or not connected. */
async function enter() {
  if (rpc.state !== "open" || $("name-dialog").open) return;
  const attempt = ++entering;
  try {
    const joined = await rpc.call("join", { room: roomInAddress(), name: wanted || undefined });
    if (attempt === entering) show(joined);
  } catch (error) {
    if (attempt !== entering || error.code === "lost" || error.code === "offline") return;
    if (error.code === NO_SUCH_ROOM && roomInAddress() !== "lobby") {
      complain(`There is no room called “${roomInAddress()}”.`);
      location.replace("#lobby");
    } else if (error.code === INVALID_PARAMS && wanted) {
      askName(error.message);
    } else {
      complain(error.message);
    }
  }
}

function show(joined) {
  ({ room, name: me, limits } = joined);
  people.clear();
  for (const name of joined.people) people.add(name);
  $("room").textContent = room;
  $("topic").textContent = joined.topic;
  $("text").placeholder = `Message ${room}`;
  $("name").maxLength = limits.name;
  list.reset(joined.messages, me);
  $("empty").hidden = joined.messages.length > 0;
  if (wanted && me !== wanted) list.note(`“${wanted}” is taken here, so you are ${me}`);
  for (const name of [...typists.keys()]) stopsTyping(name);
  showRooms();
  showPeople();
  showTitle();
  measure();
}

function showTitle() {
  document.title = `${list.unseen ? `(${list.unseen}) ` : ""}${room || "…"} · Perigee chat`;
}

function showRooms() {
  $("rooms").replaceChildren(...[...rooms.values()].map(({ name, topic, count }) => {
    const badge = make("span", "badge", String(count), make("span", "hidden", count === 1 ? " person" : " people"));
    const link = make("a", "", make("span", "hash", "#"), make("span", "room-name", name), badge);
    link.href = `#${name}`;
    link.title = topic;
    if (name === room) link.setAttribute("aria-current", "page");
    return make("li", "", link);
  }));
}

function showPeople() {
  const others = [...people].filter((name) => name !== me).sort((a, b) => a.localeCompare(b));
  const items = [me, ...others].slice(0, MOST_PEOPLE).map((name) => {
    const label = make("span", "person", name);
    label.dir = "auto";
    const avatar = paintAvatar(make("span", "avatar small"), name);
    avatar.ariaHidden = "true";
    return make("li", "", avatar, label, ...(name === me ? [make("span", "you", "you")] : []));
  });
  if (people.size > MOST_PEOPLE) items.push(make("li", "more", `and ${people.size - MOST_PEOPLE} more`));
  $("people").replaceChildren(...items);
  $("count").textContent = people.size;
  $("my-name").textContent = me;
  paintAvatar($("my-avatar"), me);
}

// ---- what the server tells ----------------------------------------------------------------------

/** For notifications about the room we are in; late ones from the room before are ignored. */
function onHere(method, handler) {
  rpc.on(method, (params) => {
    if (params.room === room) handler(params);
  });
}

rpc.on("room", (facts) => {
  rooms.set(facts.name, facts);
  showRooms();
});

onHere("message", (message) => {
  stopsTyping(message.from);
  $("empty").hidden = true;
  list.add(message);
});

onHere("joined", ({ name }) => {
  people.add(name);
  showPeople();
  list.note(`${name} joined`);
});

onHere("left", ({ name }) => {
  people.delete(name);
  stopsTyping(name);
  showPeople();
  list.note(`${name} left`);
});

onHere("renamed", ({ from, name }) => {
  people.delete(from);
  people.add(name);
  stopsTyping(from);
  showPeople();
  list.note(`${from} is now ${name}`);
});

onHere("typing", ({ name }) => {
  clearTimeout(typists.get(name));
  typists.set(name, setTimeout(() => stopsTyping(name), TYPING_LASTS));
  showTyping();
});

// ---- who is typing ------------------------------------------------------------------------------

const typists = new Map(); // name -> timer that forgets them

function stopsTyping(name) {
  clearTimeout(typists.get(name));
  if (typists.delete(name)) showTyping();
}

function showTyping() {
  const names = [...typists.keys()];
  const who = names.length > 2 ? "Several people are" : names.join(" and ") + (names.length > 1 ? " are" : " is");
  const dots = make("span", "dots", make("i"), make("i"), make("i"));
  $("typing").replaceChildren(...(names.length ? [dots, make("span", "", `${who} typing`)] : []));
}

// ---- writing ------------------------------------------------------------------------------------

let toldTyping = 0; // when we last told that we are typing

const length = (text) => [...text].length; // in characters, as the server counts

function measure() {
  const box = $("text");
  box.style.height = "auto";
  box.style.height = `${box.scrollHeight}px`;
  const left = limits.text - length(box.value.trim());
  $("left").textContent = left < limits.text / 10 ? left : "";
  $("left").classList.toggle("over", left < 0);
  $("send").disabled = !room || rpc.state !== "open" || !box.value.trim() || left < 0;
}

$("text").addEventListener("input", () => {
  measure();
  const now = Date.now();
  if (!$("text").value.trim() || now - toldTyping < TYPING_EVERY || !room) return;
  if (rpc.notify("typing")) toldTyping = now;
});

$("text").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("composer").requestSubmit();
});

$("composer").addEventListener("submit", async (event) => {
  event.preventDefault();
  const box = $("text");
  const text = box.value.trim();
  if (!text) return;
  if (!room) {
    complain("There is no connection at the moment. Your message stays here.");
    return;
  }
  box.value = "";
  toldTyping = 0;
  complain("");
  measure();
  $("empty").hidden = true;
  const pending = list.addOwn({ from: me, text, time: Date.now() / 1000 }, true);
  try {
    const message = await rpc.call("say", { text });
    pending.remove();
    if (message.room === room) list.addOwn(message);
  } catch (error) {
    pending.remove();
    $("empty").hidden = $("messages").childElementCount > 0;
    if (!box.value) box.value = text; // it is not lost
    measure();
    complain(error.code === "lost" ? "The connection was lost. Your message may not have arrived." : error.message);
  }
});

let complaintTimer = 0;

/** Shows what went wrong, for a while. */
function complain(text) {
  clearTimeout(complaintTimer);
  $("error").textContent = text;
  $("error").hidden = !text;
  if (text) complaintTimer = setTimeout(() => complain(""), 8_000);
}

// ---- the connection -----------------------------------------------------------------------------

rpc.addEventListener("open", async () => {
  enter();
  try {
    for (const facts of await rpc.call("rooms")) rooms.set(facts.name, facts);
    showRooms();
  } catch {
    // lost again; the next connection asks again
  }
});

const STATES = { connecting: "Connecting…", open: "Connected", waiting: "Offline" };
let countdown = 0;

rpc.addEventListener("state", () => {
  const { state } = rpc;
  $("status").dataset.state = state;
  $("status").firstElementChild.textContent = STATES[state];
  if (state === "open") $("offline").hidden = true;
  if (state === "waiting") {
    room = "";
    $("offline").hidden = false;
  }
  $("retry").disabled = state !== "waiting";
  clearInterval(countdown);
  countdown = state === "waiting" ? setInterval(showNextTry, 1_000) : 0;
  showNextTry();
  measure();
});

function showNextTry() {
  const seconds = Math.max(1, Math.ceil((rpc.retryAt - Date.now()) / 1000));
  $("next-try").textContent = rpc.state === "waiting" ? `Trying again in ${seconds} s.` : "Trying now …";
}

$("retry").addEventListener("click", () => rpc.retry());

// ---- names --------------------------------------------------------------------------------------

function askName(problem = "") {
  const isNew = !room;
  $("name-title").textContent = isNew ? "Welcome" : "Your name";
  $("name-ok").textContent = isNew ? "Join the chat" : "Save";
  $("name-cancel").textContent = isNew ? "Stay a guest" : "Cancel";
  $("name-error").textContent = problem;
  $("name").value = wanted && (me || wanted);
  $("name-dialog").showModal();
  $("name").select();
}

$("name-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const name = $("name").value.trim();
  try {
    if (!name) throw new Error("Please write a name.");
    if (room && name !== me) {
      const from = me;
      me = await rpc.call("rename", { name });
      people.delete(from);
      people.add(me);
      showPeople();
    }
    wanted = stored("name", name);
    $("name-dialog").close();
  } catch (error) {
    $("name-error").textContent = error.message;
    $("name").select();
  }
});

$("name-dialog").addEventListener("close", () => {
  if (!room) enter();
  focusText();
});
$("name-cancel").addEventListener("click", () => {
  if (!room) wanted = "";
  $("name-dialog").close();
});
$("rename").addEventListener("click", () => {
  openSide(false);
  askName();
});

// ---- the rest of the page -----------------------------------------------------------------------

addEventListener("hashchange", () => {
  openSide(false);
  enter();
});

list.onunseen = (unseen) => {
  $("latest").hidden = unseen === 0;
  $("latest").textContent = `${unseen} new ${unseen === 1 ? "message" : "messages"} ↓`;
  showTitle();
};

$("latest").addEventListener("click", () => {
  list.toEnd();
  focusText();
});

/** On a phone the rooms and people are a drawer. */
function openSide(isOpen) {
  if (isOpen === document.body.classList.contains("side-open")) return;
  document.body.classList.toggle("side-open", isOpen);
  $("menu").setAttribute("aria-expanded", isOpen);
  $("main").inert = isOpen;
  if (isOpen) $("side").querySelector("a")?.focus();
  else $("menu").focus();
}

$("menu").addEventListener("click", () => openSide(true));
$("shade").addEventListener("click", () => openSide(false));
$("side").addEventListener("click", (event) => {
  if (event.target.closest("a")) openSide(false);
});
addEventListener("keydown", (event) => {
  if (event.key === "Escape") openSide(false);
});
matchMedia("(min-width: 48rem)").addEventListener("change", () => openSide(false));

/** Ready to write; on a phone only when asked to, for its keyboard hides half of the page. */
function focusText() {
  if (matchMedia("(pointer: fine)").matches) $("text").focus();
}

$("room").textContent = roomInAddress();
if (wanted) focusText();
else askName();
