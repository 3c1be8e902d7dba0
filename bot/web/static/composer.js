// Where one types: completion from the server, the command's usage, history, and Enter.

import { get } from "./api.js";
import { h, icon, recall, remember } from "./dom.js";

const WAIT_MS = 60;
const HISTORY = 50;
const MAX_HEIGHT = 168;

export class Composer {
  /** send: text => void; act: () => who acts; personal: () => whether the place is the personal chat. */
  constructor({ send, act, personal }) {
    Object.assign(this, { onSend: send, act, personal });
    this.box = document.getElementById("composer-text");
    this.popup = document.getElementById("popup");
    this.list = document.getElementById("options");
    this.usage = document.getElementById("usage");
    this.button = document.getElementById("send");
    this.button.append(icon("send"));
    this.commands = [];
    this.suggestions = [];
    this.selected = -1;
    this.back = -1;
    this.drafts = new Map();
    document.getElementById("composer").addEventListener("submit", (event) => { event.preventDefault(); this.submit(); });
    this.box.addEventListener("input", () => { this.back = -1; this.changed(); });
    this.box.addEventListener("keydown", (event) => this.key(event));
    this.box.addEventListener("blur", () => setTimeout(() => { if (document.activeElement !== this.box) this.close(); }, 120));
    this.box.addEventListener("focus", () => { if (this.box.value) this.changed(); });
    this.fit();
  }

  /** Keep what is half written per place and person. */
  moveTo(draftKey, label) {
    if (this.draftKey !== undefined) this.drafts.set(this.draftKey, this.box.value);
    this.draftKey = draftKey;
    this.box.placeholder = label;
    document.getElementById("composer-label").textContent = label;
    this.set(this.drafts.get(draftKey) ?? "");
    this.close();
  }

  /** Fill the box and put the cursor behind it. */
  offer(text) {
    this.set(text);
    this.box.focus();
    this.changed();
  }

  set(text) {
    this.box.value = text;
    this.box.setSelectionRange(text.length, text.length);
    this.fit();
  }

  fit() {
    this.box.style.height = "auto";
    this.box.style.height = `${Math.min(this.box.scrollHeight, MAX_HEIGHT)}px`;
    this.button.disabled = this.box.value.trim() === "";
  }

  submit() {
    const text = this.box.value.trim();
    if (!text) return;
    const history = this.history().filter((one) => one !== text);
    remember("history", { ...recall("history", {}), [this.act()]: [...history, text].slice(-HISTORY) });
    this.back = -1;
    this.set("");
    this.close();
    this.onSend(text);
  }

  history() {
    return recall("history", {})[this.act()] ?? [];
  }

  key(event) {
    if (event.isComposing) return;
    // What is shown may be about an earlier text: whoever types fast must not be given that.
    const open = this.suggestions.length > 0 && !this.popup.hidden && this.shownFor === this.box.value;
    const plain = !event.shiftKey && !event.ctrlKey && !event.altKey && !event.metaKey;
    if (event.key === "Enter" && plain) {
      event.preventDefault();
      if (open && this.selected >= 0) this.take(this.selected);
      else this.submit();
    } else if (event.key === "Tab" && plain && (open || this.coming)) {
      event.preventDefault();
      if (open) this.take(Math.max(this.selected, 0));
      else this.takeNext = true;
    } else if (event.key === "Escape" && !this.popup.hidden) {
      event.preventDefault();
      this.close();
    } else if ((event.key === "ArrowUp" || event.key === "ArrowDown") && plain) this.arrow(event, open);
  }

  arrow(event, open) {
    const step = event.key === "ArrowUp" ? -1 : 1;
    const browsing = this.back >= 0;
    if (open && !browsing) {
      event.preventDefault();
      const count = this.suggestions.length;
      this.select(this.selected < 0 && step < 0 ? count - 1 : (this.selected + step + count) % count);
    } else if (browsing || (step < 0 && this.box.value === "")) {
      event.preventDefault();
      this.remembered(this.back - step);
    }
  }

  remembered(back) {
    const history = this.history();
    if (back >= history.length) return;
    this.back = Math.max(back, -1);
    this.set(this.back < 0 ? "" : history[history.length - 1 - this.back]);
    this.close();
  }

  changed() {
    this.fit();
    clearTimeout(this.timer);
    this.takeNext = false;
    const text = this.box.value;
    if (!this.isCommand(text) || text.includes("\n")) return this.close();
    this.coming = true;
    this.timer = setTimeout(() => this.fetch(text), WAIT_MS);
    return undefined;
  }

  isCommand(text) {
    return text.startsWith("/") || text.startsWith("@slipway ") || (this.personal() && /\S\s/.test(text));
  }

  async fetch(text) {
    this.request?.abort();
    this.request = new AbortController();
    const { signal } = this.request;
    try {
      const { suggestions } = await get("complete", { person: this.act(), text }, { signal });
      if (this.box.value !== text || document.activeElement !== this.box) return;
      this.coming = false;
      this.show(text, suggestions);
      if (this.takeNext && this.suggestions.length) this.take(0);
    } catch {
      if (!signal.aborted) this.close();
    }
  }

  show(text, suggestions) {
    this.shownFor = text;
    this.suggestions = suggestions.filter((one) => one.text.trimEnd() !== text.trimEnd());
    const command = this.showUsage(text);
    this.list.replaceChildren(...this.suggestions.map((one, index) => this.option(one, index)));
    this.list.dataset.for = text;
    this.list.hidden = this.suggestions.length === 0;
    this.popup.hidden = !command && this.suggestions.length === 0;
    this.box.setAttribute("aria-expanded", String(this.suggestions.length > 0));
    // While the command itself is being typed, Enter takes the first; later the line may be complete as it is.
    const naming = /^\/\S*$/.test(text) && !this.commands.some((one) => `/${one.name}` === text);
    this.select(naming && this.suggestions.length ? 0 : -1);
  }

  option({ text, hint }, index) {
    const word = text.trimEnd().split(/\s/).at(-1);
    return h(
      "li", { class: "option", id: `option-${index}`, role: "option", "aria-selected": "false",
        onpointerdown: (event) => { event.preventDefault(); this.take(index); } },
      h("span", { class: "option-word", text: word }), h("span", { class: "option-hint", text: hint }),
    );
  }

  showUsage(text) {
    const typed = text.replace(/^@slipway\s+/, "").replace(/^\//, "").split(/\s+/);
    const command = typed.length > 1 ? this.commands.find((one) => one.name === typed[0]) : null;
    this.usage.hidden = !command;
    if (!command) return null;
    const positions = command.arguments.filter((one) => !one.option);
    const index = typed.slice(1, -1).filter((word) => !word.startsWith("--")).length;
    const marks = command.arguments.map((one) => h("span", { class: one === positions[index] ? "now" : "", text: one.usage }));
    this.usage.replaceChildren(h("span", { class: "usage-line" }, h("b", { text: `/${command.name}` }), ...marks), h("span", { class: "usage-about", text: command.summary }));
    return command;
  }

  select(index) {
    this.selected = index;
    [...this.list.children].forEach((item, at) => item.setAttribute("aria-selected", String(at === index)));
    const item = this.list.children[index];
    if (item) {
      this.box.setAttribute("aria-activedescendant", item.id);
      item.scrollIntoView({ block: "nearest" });
    } else this.box.removeAttribute("aria-activedescendant");
  }

  take(index) {
    this.set(this.suggestions[index].text);
    this.box.focus();
    this.changed();
  }

  close() {
    clearTimeout(this.timer);
    this.request?.abort();
    this.coming = this.takeNext = false;
    this.suggestions = [];
    this.popup.hidden = true;
    this.box.setAttribute("aria-expanded", "false");
    this.select(-1);
  }
}
