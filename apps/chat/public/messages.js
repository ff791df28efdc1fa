// The list of messages: groups them by author, marks days, follows the end, and stays small however
// long the talk is. What people wrote becomes text nodes, never HTML.

const MOST = 400; // entries in the page; older ones are taken out
const PAUSE = 5 * 60; // seconds after which a group of messages begins anew
const NEAR_END = 48; // pixels

const clock = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" });
const calendar = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });

/** An element with a class and children; strings become text. */
export function make(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

/** Gives an avatar the initial and the colour that belong to a name. */
export function paintAvatar(element, name) {
  let hash = 7;
  for (const char of name) hash = (hash * 31 + char.codePointAt(0)) % 100_003;
  element.style.setProperty("--hue", (hash * 137) % 360);
  element.textContent = (name.match(/[\p{L}\p{N}]/u) ?? [[...name][0] ?? "?"])[0].toUpperCase();
  return element;
}

/** Text with its addresses as links. */
function linked(text) {
  return text.split(/(https?:\/\/[^\s<>"'()]*[^\s<>"'().,:;!?])/).map((part, i) => {
    if (i % 2 === 0) return part;
    const link = make("a", "", part);
    link.href = part;
    link.target = "_blank";
    link.rel = "noopener noreferrer nofollow";
    return link;
  });
}

function dayName(date) {
  const midnight = (d) => new Date(d.getFullYear(), d.getMonth(), d.getDate());
  const ago = Math.round((midnight(new Date()) - midnight(date)) / 86_400_000);
  return ago === 0 ? "Today" : ago === 1 ? "Yesterday" : calendar.format(date);
}

export class MessageList {
  unseen = 0;
  onunseen = () => {};

  #box; // scrolls
  #list;
  #isAtEnd = true;

  constructor(box, list) {
    this.#box = box;
    this.#list = list;
    box.addEventListener("scroll", () => {
      this.#isAtEnd = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR_END;
      if (this.#isAtEnd) this.#saw();
    }, { passive: true });
    // The box gets smaller when the message being written or a phone's keyboard needs room.
    new ResizeObserver(() => this.#isAtEnd && this.toEnd()).observe(box);
    document.addEventListener("visibilitychange", () => this.#isAtEnd && this.#saw());
  }

  /** Shows the history of a room and nothing else. */
  reset(messages, me) {
    this.#list.replaceChildren();
    this.#box.setAttribute("aria-busy", "true"); // nobody wants all of it read out
    const fragment = document.createDocumentFragment();
    for (const message of messages.slice(-MOST)) this.#append(fragment, message, message.from === me);
    this.#list.append(fragment);
    this.#box.removeAttribute("aria-busy");
    this.unseen = 0;
    this.onunseen(0);
    this.toEnd();
  }

  /** Adds a message somebody else wrote. */
  add(message) {
    this.#append(this.#list, message, false);
    this.#settle(!this.#isAtEnd || document.hidden);
  }

  /** Adds what I wrote. Returns the entry; while `pending` it is not known to have arrived. */
  addOwn(message, pending = false) {
    const entry = this.#append(this.#list, message, true);
    if (pending) {
      entry.classList.add("pending");
      entry.ariaHidden = "true";
    }
    this.#isAtEnd = true;
    this.#settle(false);
    return entry;
  }

  /** Adds a line about somebody coming, going or changing their name. Lines in a row share one. */
  note(text) {
    let entry = this.#list.lastElementChild;
    if (!entry?.matches(".note")) {
      entry = make("li", "note");
      entry.lines = [];
      this.#list.append(entry);
    }
    entry.lines.push(text);
    const more = entry.lines.length - 3;
    entry.replaceChildren((more > 0 ? `… ${more} more · ` : "") + entry.lines.slice(-3).join(" · "));
    this.#settle(false);
  }

  toEnd() {
    this.#box.scrollTop = this.#box.scrollHeight;
  }

  #append(list, { from, text, time }, isOwn) {
    const date = new Date(time * 1000);
    const day = date.toDateString();
    const lastDay = this.#lastDay(list);
    const last = list.lastElementChild;
    const previous = last?.matches(".message") ? last : null;
    if (lastDay !== day) {
      const mark = make("li", "day", make("span", "", dayName(date)));
      mark.dataset.day = day;
      list.append(mark);
    }
    const isFirst = !previous || lastDay !== day || previous.dataset.from !== from
      || previous.classList.contains("own") !== isOwn || time - previous.dataset.time > PAUSE;
    const stamp = make("time", "", clock.format(date));
    stamp.dateTime = date.toISOString();
    const name = make("b", "name", isOwn ? "You" : from);
    name.dir = "auto";
    const bubble = make("div", "bubble", ...linked(text));
    bubble.dir = "auto";
    bubble.title = full.format(date);
    const avatar = paintAvatar(make("span", "avatar"), from);
    avatar.ariaHidden = "true";
    const entry = make("li", "message", avatar, make("div", "head", name, " ", stamp), bubble);
    entry.classList.toggle("own", isOwn);
    entry.classList.toggle("first", isFirst);
    Object.assign(entry.dataset, { from, time, day });
    list.append(entry);
    return entry;
  }

  #lastDay(list) {
    for (let entry = list.lastElementChild; entry; entry = entry.previousElementSibling) {
      if (entry.dataset.day) return entry.dataset.day;
    }
  }

  /** After something was added: takes out what is too old, follows the end, counts what is unseen. */
  #settle(isUnseen) {
    const list = this.#list;
    while (list.childElementCount > MOST) list.firstElementChild.remove();
    if (list.firstElementChild.matches(".message")) list.firstElementChild.classList.add("first");
    if (this.#isAtEnd) this.toEnd();
    if (!isUnseen) return;
    this.unseen += 1;
    this.onunseen(this.unseen);
  }

  #saw() {
    if (this.unseen === 0 || document.hidden) return;
    this.unseen = 0;
    this.onunseen(0);
  }
}
