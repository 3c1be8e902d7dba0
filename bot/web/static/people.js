// Who one acts as: a button that opens a list of people, with what waits for each.

import { avatar, h, icon } from "./dom.js";

export class Switcher {
  /** choose: id => void. open: whether one may be anybody. */
  constructor({ choose, open }) {
    this.choose = choose;
    this.open = open;
    this.unread = {};
    this.root = document.getElementById("acting");
    if (open) {
      document.addEventListener("pointerdown", (event) => { if (!this.root.contains(event.target)) this.toggle(false); });
      this.root.addEventListener("keydown", (event) => this.key(event));
      this.root.addEventListener("focusout", (event) => { if (event.relatedTarget && !this.root.contains(event.relatedTarget)) this.toggle(false); });
    }
  }

  show(people, me) {
    this.people = people;
    this.me = people.find((one) => one.id === me);
    const who = [
      avatar(this.me.id, this.me.name),
      h("span", { class: "acting-text" }, h("span", { class: "acting-label", text: this.open ? "Acting as" : "Logged in as" }),
        h("span", { class: "acting-name", text: this.me.name }), h("span", { class: "acting-role", text: this.me.role })),
    ];
    if (!this.open) return this.root.replaceChildren(h("div", { class: "acting-button" }, ...who));
    this.dot = h("span", { class: "count", hidden: true });
    this.button = h("button", { type: "button", class: "acting-button", id: "acting-button", "aria-haspopup": "menu", "aria-expanded": "false",
      onclick: () => this.toggle(this.menu.hidden) }, ...who, this.dot, icon("down"));
    this.menu = h("div", { class: "menu", role: "menu", "aria-label": "Act as", hidden: true });
    this.root.replaceChildren(this.button, this.menu);
    return this.showUnread(this.unread);
  }

  showUnread(unread) {
    this.unread = unread;
    if (!this.open || !this.menu) return;
    const total = this.people.reduce((sum, one) => sum + (one.id === this.me.id ? 0 : unread[one.id] ?? 0), 0);
    this.dot.hidden = total === 0;
    this.dot.replaceChildren(String(total), h("span", { class: "hidden", text: " new for others" }));
    const focused = document.activeElement?.dataset?.person;
    this.menu.replaceChildren(...this.people.map((one) => this.item(one, unread[one.id] ?? 0)));
    if (focused) this.menu.querySelector(`[data-person="${CSS.escape(focused)}"]`)?.focus();
  }

  item(person, count) {
    const mine = person.id === this.me.id;
    return h(
      "button", { type: "button", class: "menu-item", role: "menuitemradio", "aria-checked": String(mine), tabindex: "-1", "data-person": person.id,
        onclick: () => { this.toggle(false); this.button.focus(); this.choose(person.id); } },
      avatar(person.id, person.name),
      h("span", { class: "menu-text" }, h("span", { class: "menu-name", text: person.name }), h("span", { class: "menu-role", text: person.role })),
      count && !mine ? h("span", { class: "count" }, String(count), h("span", { class: "hidden", text: " new" })) : null,
      mine ? icon("check") : null,
    );
  }

  toggle(on) {
    if (!this.menu || this.menu.hidden === !on) return;
    this.menu.hidden = !on;
    this.button.setAttribute("aria-expanded", String(on));
    if (on) this.menu.querySelector('[aria-checked="true"]')?.focus();
  }

  key(event) {
    if (event.key === "Escape" && !this.menu.hidden) {
      this.toggle(false);
      this.button.focus();
      return;
    }
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    if (this.menu.hidden) return void this.toggle(true);
    const items = [...this.menu.children];
    items[(items.indexOf(document.activeElement) + step + items.length) % items.length].focus();
  }
}
