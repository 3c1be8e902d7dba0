// A card: built once, then patched, so that focus, an opened log and the bar's movement survive every edit.

import { ApiError, newKey, post } from "./api.js";
import { announce, h, icon, linked, safeUrl } from "./dom.js";

const KINDS = {
  good: ["succeeded"],
  bad: ["failed", "error", "errored"],
  wait: ["awaiting_approval", "gray", "held"],
  warn: ["refused", "rejected", "expired", "cancelled", "superseded", "rolled_back", "rolling_back", "cancelling"],
  work: ["queued", "requested", "building", "gating", "writing", "syncing", "verifying"],
};
const KIND_ICONS = { good: "check", bad: "cross", wait: "clock", warn: "bang", work: "dot", info: "info" };
const STEPS = {
  pending: ["none", "waiting"], running: ["none", "running"], succeeded: ["check", "done"], failed: ["cross", "failed"],
  skipped: ["dash", "skipped"], cancelled: ["dash", "cancelled"],
};

export function kindOf(state) {
  return Object.keys(KINDS).find((kind) => KINDS[kind].includes(state)) ?? "info";
}

function words(state) {
  const text = state.replaceAll("_", " ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

export class CardView {
  /** act: () => the person acting now. */
  constructor(message, act) {
    this.act = act;
    this.id = message.id;
    this.parts = {};
    const titleId = `title-${message.id}`;
    this.title = h("h3", { class: "card-title", id: titleId });
    this.badge = h("span", { class: "badge" });
    this.text = h("p", { class: "card-text" });
    this.progress = new Progress(titleId);
    this.steps = h("ol", { class: "steps", "aria-label": "Steps" });
    this.fields = h("dl", { class: "fields" });
    this.picture = h("img", { class: "picture", alt: "" });
    this.excerpt = new Excerpt();
    this.buttons = h("div", { class: "buttons", role: "group", "aria-labelledby": titleId });
    this.error = h("p", { class: "card-error", role: "alert" });
    this.element = h(
      "article", { class: "card", "aria-labelledby": titleId, "aria-live": "off", tabindex: "-1" },
      h("header", { class: "card-head" }, this.title, this.badge),
      this.text, this.picture, this.progress.element, this.steps, this.fields, this.excerpt.element, this.buttons, this.error,
    );
    this.update(message.card);
  }

  update(card) {
    const kind = kindOf(card.state);
    this.element.dataset.kind = kind;
    this.element.dataset.state = card.state;
    this.title.textContent = card.title;
    this.changed("state", card.state, () => this.badge.replaceChildren(icon(KIND_ICONS[kind]), words(card.state)));
    this.badge.hidden = card.state === "info";
    this.changed("text", card.text ?? "", (text) => fill(this.text, linked(text)));
    this.progress.update(card.progress, kind);
    this.changed("steps", card.steps ?? [], (steps) => fill(this.steps, steps.map(stepItem)));
    this.changed("fields", card.fields ?? {}, (fields) => fill(this.fields, Object.entries(fields).map(fieldItem)));
    this.changed("picture", card.picture ?? null, (picture) => this.showPicture(picture));
    this.excerpt.update(card.excerpt, kind === "bad");
    this.changed("buttons", card.buttons ?? [], (buttons) => this.showButtons(buttons));
  }

  /** Build a part only when it is not what it was. */
  changed(part, value, build) {
    const key = JSON.stringify(value);
    if (this.parts[part] === key) return;
    this.parts[part] = key;
    build(value);
  }

  showPicture(picture) {
    const safe = picture?.src.startsWith("data:image/png;base64,");
    this.picture.hidden = !safe;
    if (safe) Object.assign(this.picture, { src: picture.src, alt: picture.alt });
  }

  // A button that stays is patched where it is: a press that has begun on it is not lost to an edit.
  showButtons(buttons) {
    const hadFocus = this.buttons.contains(document.activeElement);
    const shown = new Map([...this.buttons.children].map((one) => [one.dataset.button, one]));
    this.meant = new Map(buttons.map((button) => [button.id, button]));
    shown.forEach((element, id) => { if (!this.meant.has(id)) element.remove(); });
    buttons.forEach((button, place) => {
      const element = shown.get(button.id) ?? h("button", {
        type: "button", "data-button": button.id, onclick: () => this.press(this.meant.get(button.id)),
      });
      element.className = `button button-${button.style ?? "normal"}`;
      element.textContent = button.label;
      if (this.buttons.children[place] !== element) this.buttons.insertBefore(element, this.buttons.children[place] ?? null);
    });
    this.buttons.hidden = buttons.length === 0;
    if (hadFocus && !this.buttons.contains(document.activeElement)) this.element.focus();
  }

  async press(button) {
    this.error.textContent = "";
    let inputs = {};
    if (button.confirm || button.inputs?.length) {
      inputs = await ask(this.title.textContent, button);
      if (inputs === null) return;
    }
    await this.send(button, inputs);
  }

  async send(button, inputs) {
    const pressed = this.buttons.querySelector(`[data-button="${CSS.escape(button.id)}"]`);
    this.busy(true, pressed);
    try {
      await post("actions", { person: this.act(), message: this.id, button: button.id, inputs }, newKey());
      announce(`${button.label}: taken.`);
    } catch (error) {
      this.error.textContent = error instanceof ApiError ? error.message : "That did not work; try again.";
    } finally {
      this.busy(false, pressed);
    }
  }

  // aria-disabled keeps the focus where it is, which `disabled` would lose.
  busy(on, pressed) {
    for (const button of this.buttons.children) button.disabled = on && button !== pressed;
    pressed?.setAttribute("aria-disabled", String(on));
    pressed?.classList.toggle("busy", on);
    this.buttons.classList.toggle("sending", on);
  }
}

function fill(element, children) {
  element.replaceChildren(...children);
  element.hidden = children.length === 0 || (children.length === 1 && children[0] === "");
}

function stepItem(step) {
  const [shape, said] = STEPS[step.state] ?? ["dot", step.state];
  return h(
    "li", { class: "step", "data-state": step.state },
    h("span", { class: "step-icon" }, icon(shape)),
    h("span", { class: "step-name", text: step.name }),
    h("span", { class: "step-detail", text: step.detail }),
    h("span", { class: "step-state", text: said }),
  );
}

function fieldItem([label, value]) {
  const url = safeUrl(value);
  const content = url ? h("a", { href: url, rel: "noopener noreferrer", target: "_blank", text: value }) : value;
  const code = /^(sha256:|[0-9a-f]{7,64}$|\/)/.test(value);
  return h("div", { class: "field" }, h("dt", { text: label }), h("dd", { class: code ? "mono" : "" }, content));
}

class Progress {
  constructor(titleId) {
    this.fill = h("span", { class: "bar-fill" });
    this.bar = h("span", { class: "bar", role: "progressbar", "aria-labelledby": titleId, "aria-valuemin": "0", "aria-valuemax": "100" }, this.fill);
    this.label = h("span", { class: "bar-label" });
    this.element = h("div", { class: "progress" }, this.bar, this.label);
  }

  update(percent, kind) {
    this.element.hidden = percent === null || percent === undefined;
    if (this.element.hidden) return;
    this.bar.setAttribute("aria-valuenow", String(percent));
    this.fill.style.width = `${percent}%`;
    this.fill.classList.toggle("moving", kind === "work" && percent < 100);
    this.label.textContent = `${percent}%`;
  }
}

class Excerpt {
  constructor() {
    this.summary = h("summary", {});
    this.code = h("pre", { class: "excerpt-text", tabindex: "0", "aria-label": "Log excerpt" });
    this.copy = h("button", { type: "button", class: "copy", onclick: () => this.toClipboard() }, icon("copy"), h("span", { text: "Copy" }));
    this.element = h("details", { class: "excerpt" }, this.summary, h("div", { class: "excerpt-box" }, this.code, this.copy));
  }

  update(text, open) {
    this.element.hidden = !text;
    if (!text || this.code.textContent === text) return;
    if (!this.code.textContent) this.element.open = open;
    this.code.textContent = text;
    const lines = text.trimEnd().split("\n").length;
    this.summary.textContent = lines === 1 ? "Details (1 line)" : `Details (${lines} lines)`;
  }

  async toClipboard() {
    const label = this.copy.lastChild;
    try {
      await navigator.clipboard.writeText(this.code.textContent);
      label.textContent = "Copied";
    } catch {
      // Not allowed here (no https): select it, so that the keyboard's copy works.
      getSelection().selectAllChildren(this.code);
      label.textContent = "Selected";
    }
    announce(label.textContent);
    setTimeout(() => { label.textContent = "Copy"; }, 2000);
  }
}

/** Ask a button's question and for its inputs; null: the person thought better of it. */
function ask(title, button) {
  return new Promise((resolve) => {
    const fields = (button.inputs ?? []).map((input) => inputRow(button.id, input));
    const form = h(
      "form", { method: "dialog", class: "dialog-form" },
      h("h2", { id: "dialog-title", text: button.label }),
      h("p", { class: "dialog-about", text: title }),
      button.confirm ? h("p", { text: button.confirm }) : null,
      ...fields.map((field) => field.row),
      h("div", { class: "buttons" },
        h("button", { type: "submit", class: `button button-${button.style === "danger" ? "danger" : "primary"}`, value: "yes", text: button.label }),
        h("button", { type: "button", class: "button button-normal", text: "Not now", onclick: () => dialog.close("no") })),
    );
    const dialog = h("dialog", { class: "dialog", "aria-labelledby": "dialog-title" }, form);
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes" ? Object.fromEntries(fields.map((field) => [field.name, field.input.value.trim()])) : null);
    });
    document.body.append(dialog);
    dialog.showModal();
    fields[0]?.input.focus();
  });
}

function inputRow(buttonId, { name, label, required }) {
  const id = `input-${buttonId}-${name}`;
  const input = h("input", { id, type: "text", maxlength: "1000", required: Boolean(required), autocomplete: "off" });
  const row = h("div", { class: "dialog-row" }, h("label", { for: id, text: required ? label : `${label} (optional)` }), input);
  return { name, input, row };
}
