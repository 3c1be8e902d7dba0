// The messages of one place, kept in the order they were written.

import { CardView, kindOf } from "./cards.js";
import { announce, avatar, dayOf, h, icon, linked, timeOf } from "./dom.js";

const GROUP_MS = 5 * 60 * 1000;
const NEAR_END = 120;

export const numberOf = (id) => Number(id.slice(1));

export class Log {
  /** names: id -> name; act: () => who acts; find: id -> message. */
  constructor({ names, act, find }) {
    this.names = names;
    this.act = act;
    this.find = find;
    this.list = document.getElementById("messages");
    this.scroller = document.getElementById("log");
    this.toNewest = document.getElementById("to-newest");
    this.toNewest.append(icon("down"), h("span", { text: "Newest messages" }));
    this.toNewest.addEventListener("click", () => this.scrollToEnd(true));
    this.scroller.addEventListener("scroll", () => this.showJump(), { passive: true });
    // Cards grow as they go and images of the page settle: who was at the end stays there.
    this.atEnd = true;
    this.top = 0;
    new ResizeObserver(() => { if (this.atEnd) this.scrollToEnd(); }).observe(this.list);
    new ResizeObserver(() => { if (this.atEnd) this.scrollToEnd(); }).observe(this.scroller);
    this.rows = new Map();
  }

  /** Show these messages instead of whatever was there. */
  show(messages) {
    this.list.setAttribute("aria-busy", "true");
    this.rows.clear();
    this.list.replaceChildren();
    let previous = null;
    for (const message of messages) previous = this.append(message, previous);
    this.last = previous;
    this.list.removeAttribute("aria-busy");
    this.scrollToEnd();
    if (messages.length === 0) this.scroller.scrollTop = 0;
  }

  /** Put older ones before what is there, without moving what the reader sees. */
  prepend(messages) {
    const height = this.scroller.scrollHeight;
    this.atEnd = false;
    this.show(messages);
    this.scroller.scrollTop = this.scroller.scrollHeight - height;
    this.showJump();
  }

  /** A message that is new or was edited. */
  take(message) {
    const row = this.rows.get(message.id);
    if (row) return this.patch(row, message);
    this.last = this.append(message, this.last);
    if (message.author === this.act()) this.scrollToEnd();
    if (message.card) announce(`${this.names(message.author)}: ${message.text || message.card.title}`);
    return undefined;
  }

  append(message, previous) {
    const day = dayOf(message.created_at);
    const newDay = !previous || dayOf(previous.created_at).key !== day.key;
    if (newDay) this.list.append(h("div", { class: "day", role: "separator", "aria-label": day.words }, h("span", { text: day.words })));
    const grouped = !newDay && previous.author === message.author && !this.quotes(message, previous)
      && new Date(message.created_at) - new Date(previous.created_at) < GROUP_MS;
    const row = this.build(message, grouped, previous);
    this.rows.set(message.id, row);
    this.list.append(row.element);
    return message;
  }

  quotes(message, previous) {
    return message.reply_to && message.reply_to !== previous?.id ? this.find(message.reply_to) : null;
  }

  build(message, grouped, previous) {
    const name = this.names(message.author);
    const body = h("div", { class: "body" });
    const quoted = this.quotes(message, previous);
    if (quoted) body.append(this.quote(quoted));
    if (!grouped) body.append(h("p", { class: "who" }, h("span", { class: "author", text: name }), timeOf(message.created_at)));
    const row = { message, body, content: null };
    const side = grouped ? h("span", { class: "side" }, timeOf(message.created_at, true)) : h("span", { class: "side" }, avatar(message.author, name));
    row.element = h(
      "div", { class: `message${grouped ? " grouped" : ""}${message.author === this.act() ? " mine" : ""}`, "data-id": message.id },
      side, body,
    );
    row.edited = h("span", { class: "edited" });
    this.fill(row, message);
    return row;
  }

  quote(quoted) {
    return h(
      "button", { type: "button", class: "quote", onclick: () => this.jump(quoted.id) },
      icon("reply"), h("span", { class: "quote-who", text: this.names(quoted.author) }), h("span", { class: "quote-text", text: quoted.text.slice(0, 120) }),
    );
  }

  jump(id) {
    const element = this.rows.get(id)?.element;
    element?.scrollIntoView({ block: "center", behavior: "smooth" });
    element?.classList.add("flash");
    setTimeout(() => element?.classList.remove("flash"), 1500);
  }

  fill(row, message) {
    row.card = message.card ? new CardView(message, this.act) : null;
    const command = message.text.startsWith("/");
    const content = row.card
      ? [h("p", { class: "hidden", text: message.text }), row.card.element]
      : [h("p", { class: `text${command ? " mono" : ""}` }, ...linked(message.text))];
    row.contents?.forEach((one) => one.remove());
    row.contents = content;
    row.body.append(...content, row.edited);
    this.showEdited(row, message);
  }

  patch(row, message) {
    const before = row.message;
    row.message = message;
    if (row.card && message.card) {
      row.card.update(message.card);
      row.contents[0].textContent = message.text;
      if (before.card.state !== message.card.state) this.tell(message);
    } else if (before.text !== message.text || before.card || message.card) this.fill(row, message);
    this.showEdited(row, message);
  }

  /** Edits are heard only when they end something or ask for something. */
  tell(message) {
    if (!["work", "info"].includes(kindOf(message.card.state))) announce(`${message.card.title}: ${message.card.state.replaceAll("_", " ")}`);
  }

  showEdited(row, message) {
    row.edited.replaceChildren();
    if (message.edited_at && !message.card) row.edited.append("edited ", timeOf(message.edited_at));
  }

  scrollToEnd(smooth = false) {
    this.scroller.scrollTo({ top: this.scroller.scrollHeight, behavior: smooth ? "smooth" : "instant" });
    this.atEnd = true;
    this.toNewest.hidden = true;
  }

  showJump() {
    const top = this.scroller.scrollTop;
    const left = this.scroller.scrollHeight - top - this.scroller.clientHeight;
    // Only a reader scrolling up leaves the end; a card growing below does not.
    if (left < NEAR_END) this.atEnd = true;
    else if (top < this.top) this.atEnd = false;
    this.top = top;
    this.toNewest.hidden = this.atEnd || left < NEAR_END * 3;
  }
}
