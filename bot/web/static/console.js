// The console's page: what there is, who acts, where one is; the parts do the rest.

import { get, newKey, post, Stream } from "./api.js";
import { Composer } from "./composer.js";
import { announce, h, icon, recall, remember } from "./dom.js";
import { Log, numberOf } from "./messages.js";
import { Switcher } from "./people.js";

const BOT = { id: "slipway", name: "Slipway" };
const PERSONAL = "@slipway";
const HIDDEN_MS = 30_000;
const $ = (id) => document.getElementById(id);

class Page {
  constructor({ people, me, open }, greeting) {
    Object.assign(this, { people, open, greeting });
    this.names = new Map([[BOT.id, BOT.name], ...people.map((one) => [one.id, one.name])]);
    this.messages = new Map();
    this.whole = new Set();
    this.seen = recall("seen", {});
    this.log = new Log({ names: (id) => this.names.get(id) ?? id, act: () => this.me, find: (id) => this.messages.get(id) });
    this.composer = new Composer({ send: (text) => this.send(text), act: () => this.me, personal: () => this.place === PERSONAL });
    this.switcher = new Switcher({ choose: (id) => this.become(id), open });
    this.fixed = me;
    this.wire();
  }

  wire() {
    $("drawer-open").append(icon("menu"), h("span", { class: "hidden", text: "Places" }));
    $("drawer-close").append(icon("cross"));
    $("drawer-open").addEventListener("click", () => this.drawer(true));
    $("drawer-close").addEventListener("click", () => this.drawer(false));
    $("scrim").addEventListener("click", () => this.drawer(false));
    $("sidebar").addEventListener("keydown", (event) => { if (event.key === "Escape") this.drawer(false); });
    $("skip").addEventListener("click", (event) => { event.preventDefault(); this.composer.box.focus(); });
    $("earlier").addEventListener("click", () => this.earlier());
    $("tries-button").append(icon("bulb"), h("span", { text: "Things to try" }));
    $("tries-button").hidden = this.greeting.try.length === 0;
    $("tries-button").addEventListener("click", () => this.showTries(true));
    if (!this.open) this.wireLogout();
    addEventListener("hashchange", () => this.follow());
    document.addEventListener("visibilitychange", () => this.visibility());
  }

  wireLogout() {
    $("logout-button").hidden = false;
    $("logout-button").append(icon("out"), h("span", { text: "Log out" }));
    $("logout-button").addEventListener("click", async () => { await post("logout", {}); location.reload(); });
  }

  async start() {
    const [person, place] = fromHash();
    const known = this.people.some((one) => one.id === person) ? person : recall("person", "");
    const first = this.people.some((one) => one.id === known) ? known : this.people[0].id;
    await this.become(this.fixed ?? first, place || recall("place", ""));
    $("app").hidden = false;
    this.log.scrollToEnd();
    this.composer.fit();
    if (matchMedia("(hover: hover)").matches) this.composer.box.focus();
  }

  // --- who ---

  async become(person, place = this.place) {
    this.stream?.close();
    this.me = person;
    remember("person", person);
    const turn = this.turn = {};
    $("log").setAttribute("aria-busy", "true");
    const [{ messages, cursor }, { places }, { commands }] = await Promise.all([
      get("messages", { person }), get("places", { person }), get("commands", { person }),
    ]);
    if (this.turn !== turn) return;
    this.messages = new Map(messages.map((message) => [message.id, message]));
    this.whole.clear();
    this.places = places;
    this.composer.commands = commands;
    this.newest = messages.length ? numberOf(messages.at(-1).id) : 0;
    this.switcher.show(this.people, person);
    this.stream = new Stream(person, cursor, this.handlers());
    await this.enter(places.some((one) => one.id === place) ? place : places[0].id);
    if (this.turn !== turn) return;
    $("log").removeAttribute("aria-busy");
    this.countElsewhere();
  }

  handlers() {
    return {
      message: (message) => this.take(message),
      elsewhere: () => { clearTimeout(this.elsewhereTimer); this.elsewhereTimer = setTimeout(() => this.countElsewhere(), 120); },
      reset: () => this.become(this.me),
      up: () => this.online(true),
      down: () => this.online(false),
      gone: () => location.reload(),
    };
  }

  online(up) {
    clearTimeout(this.offlineTimer);
    const note = $("offline");
    if (up) {
      if (!note.hidden) announce("Connected again.");
      note.hidden = true;
    } else if (note.hidden) {
      this.offlineTimer = setTimeout(() => { note.textContent = "Slipway is out of reach. Reconnecting; what happens meanwhile will appear."; note.hidden = false; }, 700);
    }
  }

  // A hidden page lets its connection go: a browser has six per host, and somebody may act as six people.
  visibility() {
    clearTimeout(this.hiddenTimer);
    if (document.hidden) this.hiddenTimer = setTimeout(() => { this.paused = true; this.stream?.pause(); this.look(); }, HIDDEN_MS);
    else {
      clearTimeout(this.lookTimer);
      if (this.paused) this.stream?.open();
      this.paused = false;
      this.read();
      this.showPlaces();
      this.countElsewhere();
    }
  }

  async look() {
    try {
      const { messages, cursor } = await get("messages", { person: this.me, after: this.stream.cursor });
      if (!this.paused) return;
      messages.forEach((message) => this.take(message));
      this.stream.cursor = cursor;
    } catch { /* the next look, or coming back, will tell */ }
    this.lookTimer = setTimeout(() => this.look(), HIDDEN_MS);
  }

  async countElsewhere() {
    if (!this.open) return;
    const others = this.people.filter((one) => one.id !== this.me);
    const { unread } = await get("unread", { seen: others.map((one) => `${one.id}:${this.seen[one.id]?.[PERSONAL] ?? 0}`) }).catch(() => ({ unread: {} }));
    this.switcher.showUnread(unread);
    const waiting = others.filter((one) => unread[one.id]);
    const note = $("elsewhere");
    note.hidden = waiting.length === 0;
    note.replaceChildren(...waiting.slice(0, 3).map((one) => h(
      "span", { class: "waiting" }, h("b", { text: one.name }), ` has ${unread[one.id]} new ${unread[one.id] === 1 ? "message" : "messages"}`,
      h("button", { type: "button", class: "link", text: `Act as ${one.name.split(" ")[0]}`, onclick: () => this.become(one.id, PERSONAL).then(() => $("log").focus()) }),
    )));
  }

  // --- where ---

  async enter(place) {
    this.place = place;
    remember("place", place);
    const here = this.places.find((one) => one.id === place);
    $("place-name").replaceChildren(...(here.personal ? ["Slipway"] : [h("span", { class: "hash", text: "#" }), here.name]));
    $("place-about").textContent = here.personal ? "Your personal chat with the bot: nobody else sees it" : "Everybody sees this channel";
    this.composer.moveTo(`${this.me} ${place}`, here.personal ? "Type a command to Slipway" : `Message ${place} or type /`);
    const hash = toHash(this.me, place);
    if (location.hash !== hash) history.replaceState(null, "", hash);
    this.drawer(false);
    this.redraw();
    if (!this.whole.has(place)) await this.load(place);
  }

  async load(place, before) {
    const turn = this.turn;
    const query = { person: this.me, place, ...(before ? { before } : {}) };
    const { messages, more } = await get("messages", query);
    if (this.turn !== turn) return;
    // What the stream brought meanwhile is newer than this answer.
    for (const message of messages) if (!this.messages.has(message.id)) this.messages.set(message.id, message);
    this.whole.add(place);
    if (this.place !== place) return;
    $("earlier").hidden = !more;
    if (before) this.log.prepend(this.here());
    else if (this.here().length !== this.log.rows.size) this.redraw();
  }

  async earlier() {
    const oldest = this.here()[0];
    if (oldest) await this.load(this.place, oldest.id);
  }

  here() {
    return [...this.messages.values()].filter((one) => one.place === this.place).sort((a, b) => numberOf(a.id) - numberOf(b.id));
  }

  redraw() {
    $("earlier").hidden = true;
    this.log.show(this.here());
    this.showTries(false);
    this.read();
    this.showPlaces();
  }

  follow() {
    const [person, place] = fromHash();
    if (person !== this.me && this.open && this.people.some((one) => one.id === person)) this.become(person, place);
    else if (place !== this.place && this.places.some((one) => one.id === place)) this.enter(place);
  }

  drawer(open) {
    if (document.body.classList.contains("drawer") === open) return;
    document.body.classList.toggle("drawer", open);
    $("scrim").hidden = !open;
    $("main").inert = open;
    $("drawer-open").setAttribute("aria-expanded", String(open));
    (open ? $("drawer-close") : $("drawer-open")).focus();
  }

  // --- messages ---

  take(message) {
    const isNew = !this.messages.has(message.id);
    this.messages.set(message.id, message);
    if (isNew) this.newest = Math.max(this.newest, numberOf(message.id));
    if (!this.places.some((one) => one.id === message.place)) this.refreshPlaces();
    if (message.place === this.place) {
      this.dropPending(message.id);
      this.log.take(message);
      this.read();
      this.showTries(false);
    } else if (isNew && message.author !== this.me) {
      const here = this.places.find((one) => one.id === message.place);
      announce(`New message in ${here?.personal ? "your personal chat" : message.place}`);
    }
    this.showPlaces();
  }

  async refreshPlaces() {
    this.places = (await get("places", { person: this.me })).places;
    this.showPlaces();
  }

  send(text) {
    const key = newKey();
    const note = h("p", { class: "pending-note", role: "status", text: "Sending…" });
    const element = h("div", { class: "message mine pending" }, h("span", { class: "side" }),
      h("div", { class: "body" }, h("p", { class: "text mono", text }), note));
    this.log.list.append(element);
    this.log.scrollToEnd();
    const person = this.me, place = this.place;
    this.pending = { ...this.pending };
    const attempt = async () => {
      note.replaceChildren("Sending…");
      try {
        const { id } = await post("messages", { person, place, text }, key);
        this.pending[id] = element;
        if (this.messages.has(id)) element.remove();
      } catch (error) {
        note.replaceChildren(h("span", { text: `Not sent. ${error.message}` }),
          h("button", { type: "button", class: "link", text: "Try again", onclick: attempt }),
          h("button", { type: "button", class: "link", text: "Discard", onclick: () => { element.remove(); this.composer.box.focus(); } }));
      }
    };
    attempt();
  }

  dropPending(id) {
    this.pending?.[id]?.remove();
  }

  // --- what is new ---

  read() {
    if (document.hidden || !this.place) return;
    const mine = this.seen[this.me] ??= {};
    const last = this.here().at(-1);
    mine[this.place] = last ? numberOf(last.id) : 0;
    remember("seen", this.seen);
  }

  unreadIn(place) {
    const seen = this.seen[this.me]?.[place] ?? 0;
    // A higher number than any there is comes from another database: then all is new.
    const since = seen > this.newest ? 0 : seen;
    return [...this.messages.values()].filter((one) => one.place === place && one.author !== this.me && numberOf(one.id) > since).length;
  }

  showPlaces() {
    const focused = document.activeElement?.dataset?.place;
    let total = 0;
    const item = (place) => {
      const count = place.id === this.place && !document.hidden ? 0 : this.unreadIn(place.id);
      total += count;
      return h(
        "button", { type: "button", class: `place${count ? " has-unread" : ""}`, "data-place": place.id, "aria-current": place.id === this.place ? "page" : null,
          onclick: () => this.enter(place.id) },
        place.personal ? h("img", { class: "place-icon", src: "/console/static/icon.svg", alt: "" }) : icon("hash", "place-icon"),
        h("span", { class: "place-name", text: place.name }),
        count ? h("span", { class: "count" }, String(count), h("span", { class: "hidden", text: " unread" })) : null,
      );
    };
    const group = (label, places) => h("section", { class: "place-group" }, h("h2", { text: label }), ...places.map(item));
    $("places").replaceChildren(group("Channels", this.places.filter((one) => !one.personal)), group("Personal", this.places.filter((one) => one.personal)));
    if (focused) $("places").querySelector(`[data-place="${CSS.escape(focused)}"]`)?.focus();
    document.title = `${total ? `(${total}) ` : ""}${this.place === PERSONAL ? "Slipway" : this.place} · Slipway console`;
  }

  // --- things to try ---

  showTries(asked) {
    const panel = $("greeting");
    if (asked) {
      remember("tries", true);
      this.drawer(false);
    }
    const home = this.place === this.places[0].id && recall("tries", true);
    panel.hidden = !(asked || home || this.here().length === 0);
    if (!panel.hidden && panel.childElementCount === 0) this.buildTries(panel);
    if (asked) {
      panel.scrollIntoView({ block: "start" });
      panel.querySelector("button")?.focus();
    }
  }

  buildTries(panel) {
    const chip = ({ text, command, as }) => h(
      "li", {}, h("button", { type: "button", class: "try", onclick: () => this.tryOut(command, as) },
        h("span", { class: "try-text", text }),
        h("span", { class: "try-line" }, h("code", { text: command }), h("span", { class: "try-as", text: `as ${this.names.get(as) ?? as}` }))),
    );
    panel.append(...[
      h("header", { class: "greeting-head" }, h("h2", { text: this.greeting.title }),
        h("button", { type: "button", class: "icon-button", "aria-label": "Hide the things to try",
          onclick: () => { remember("tries", false); panel.hidden = true; this.composer.box.focus(); } }, icon("cross"))),
      h("p", { text: this.greeting.text }),
      this.greeting.try.length ? h("ol", { class: "tries" }, ...this.greeting.try.map(chip)) : null,
    ].filter(Boolean));
  }

  async tryOut(command, as) {
    if (this.open && as !== this.me && this.people.some((one) => one.id === as)) await this.become(as);
    this.composer.offer(command);
  }
}

function fromHash() {
  const [, person = "", place = ""] = location.hash.slice(1).split("/").map((part) => decodeURIComponent(part));
  return [person, place && !place.startsWith("@") ? `#${place}` : place];
}

function toHash(person, place) {
  return `#/${encodeURIComponent(person)}/${place === PERSONAL ? PERSONAL : encodeURIComponent(place.replace(/^#/, ""))}`;
}

const THEMES = { auto: "Theme: system", light: "Theme: light", dark: "Theme: dark" };

function wireTheme() {
  const button = $("theme-button");
  const label = h("span", {});
  const now = () => document.documentElement.dataset.theme ?? "auto";
  const show = () => { label.textContent = THEMES[now()]; };
  button.append(icon("theme"), label);
  button.addEventListener("click", () => {
    const names = Object.keys(THEMES);
    const next = names[(names.indexOf(now()) + 1) % names.length];
    if (next === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = next;
    try { localStorage.setItem("slipway.theme", next); } catch { /* for this visit only */ }
    show();
  });
  show();
}

/** Ask for the token until one is right. */
function logIn() {
  const error = h("p", { class: "card-error", role: "alert" });
  const token = h("input", { id: "token", type: "password", autocomplete: "current-password", required: true, maxlength: "1000" });
  const form = h(
    "form", { class: "gate-card" },
    h("img", { src: "/console/static/icon.svg", alt: "", width: "44", height: "44" }),
    h("h1", { text: "Log in to Slipway" }),
    h("p", { text: "Paste your console token; whoever runs Slipway has it for you." }),
    h("label", { for: "token", text: "Token" }), token, error,
    h("button", { type: "submit", class: "button button-primary", text: "Log in" }),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await post("login", { token: token.value.trim() });
      location.reload();
    } catch (problem) {
      error.textContent = problem.message;
      token.select();
    }
  });
  $("gate").replaceChildren(form);
  $("gate").hidden = false;
  token.focus();
}

function sayStopped(sentence) {
  $("gate").replaceChildren(h("div", { class: "gate-card" }, h("h1", { text: "Slipway cannot be shown" }), h("p", { role: "alert", text: sentence }),
    h("button", { type: "button", class: "button button-primary", text: "Try again", onclick: () => location.reload() })));
  $("gate").hidden = false;
}

async function main() {
  wireTheme();
  try {
    const session = await get("session");
    if (!session.open && !session.person) return logIn();
    const [about, greeting] = await Promise.all([get("people"), get("greeting")]);
    if (about.people.length === 0) return sayStopped("The catalog has no active person; add one to it and try again.");
    await new Page(about, greeting).start();
  } catch (error) {
    if (error.status === 401) return logIn();
    sayStopped(error.message);
    if (error.status === undefined) throw error;
  }
  return undefined;
}

main();
