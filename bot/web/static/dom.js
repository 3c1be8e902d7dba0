// Elements from text, never from markup: outside text can only ever become text.

const SVG = "http://www.w3.org/2000/svg";

/** An element. Properties: class, text, on* listeners, anything else an attribute (false and null leave it out). */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") element.className = value;
    else if (name === "text") element.textContent = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

const PATHS = {
  check: "M3.5 8.5l3 3 6-7",
  cross: "M4.5 4.5l7 7m0-7l-7 7",
  dash: "M4.5 8h7",
  none: "",
  dot: "M8 6.6a1.4 1.4 0 100 2.8 1.4 1.4 0 000-2.8z",
  clock: "M8 2.5a5.5 5.5 0 100 11 5.5 5.5 0 000-11zM8 5v3l2 1.4",
  bang: "M8 4v5m0 2.6v.1",
  info: "M8 7.3v4.2M8 4.6v.1",
  send: "M2.5 8h10m-4-4.2L13 8l-4.5 4.2",
  menu: "M2.5 4.5h11M2.5 8h11m-11 3.5h11",
  down: "M4 6.5L8 10.5l4-4",
  bulb: "M6.2 13.5h3.6M6.5 11.3c0-1.6-2-2.2-2-4.6a3.5 3.5 0 017 0c0 2.4-2 3-2 4.6z",
  theme: "M8 2.2a5.8 5.8 0 100 11.6z M8 2.2a5.8 5.8 0 010 11.6",
  out: "M6.5 3h-3v10h3M7 8h6.5m-2.7-2.7L13.5 8l-2.7 2.7",
  hash: "M6.3 2.8L5 13.2M11 2.8L9.7 13.2M3 6h10.4M2.6 10H13",
  copy: "M5.5 5.5v-3h8v8h-3m-8-5h8v8h-8z",
  reply: "M3 4v3.5c0 1.7 1 2.5 2.5 2.5H13m-3-3l3 3-3 3",
};

/** A 16 px drawing in the colour of the text around it; it says nothing to screen readers. */
export function icon(name, extra = "") {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", `icon icon-${name} ${extra}`);
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", PATHS[name] ?? "");
  svg.append(path);
  return svg;
}

const HUES = 8;

/** A round with initials; its colour follows from the id. */
export function avatar(id, name) {
  if (id === "slipway") return h("img", { class: "avatar", src: "/console/static/icon.svg", alt: "" });
  const words = name.split(/[\s._-]+/u).filter(Boolean);
  const letters = words.length > 1 ? [words[0], words.at(-1)].map((word) => [...word][0]) : [...(words[0] ?? "?")].slice(0, 2);
  let sum = 0;
  for (const char of id) sum = (sum * 31 + char.codePointAt(0)) >>> 0;
  return h("span", { class: `avatar hue-${sum % HUES}`, "aria-hidden": "true", text: letters.join("").toUpperCase() });
}

const clockFormat = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const fullFormat = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
const dayFormat = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const yearFormat = new Intl.DateTimeFormat(undefined, { dateStyle: "long" });

/** The time of day in the reader's zone; the whole instant when pointed at. */
export function timeOf(iso, short = false) {
  const at = new Date(iso);
  const parts = clockFormat.formatToParts(at).filter((part) => !short || part.type !== "dayPeriod");
  return h("time", { datetime: iso, title: fullFormat.format(at), text: parts.map((part) => part.value).join("").trim() });
}

/** The reader's day an instant falls on, as a key and in words. */
export function dayOf(iso) {
  const at = new Date(iso);
  const today = new Date();
  const days = Math.round((new Date(today).setHours(0, 0, 0, 0) - new Date(at).setHours(0, 0, 0, 0)) / 86400000);
  const words = at.getFullYear() === today.getFullYear() ? dayFormat.format(at) : yearFormat.format(at);
  return { key: `${at.getFullYear()}-${at.getMonth()}-${at.getDate()}`, words: days === 0 ? "Today" : days === 1 ? "Yesterday" : words };
}

/** http and https addresses only: anything else stays text. */
export function safeUrl(text) {
  if (!/^https?:\/\/\S+$/i.test(text)) return null;
  try {
    return new URL(text).href;
  } catch {
    return null;
  }
}

/** Text with its addresses as links, as nodes. */
export function linked(text) {
  return text.split(/(https?:\/\/[^\s<>"'`]*[^\s<>"'`.,;:!?)\]}])/i).map((part) => {
    const url = safeUrl(part);
    return url ? h("a", { href: url, rel: "noopener noreferrer", target: "_blank", text: part }) : part;
  });
}

/** What localStorage holds, or the fallback; a browser without storage forgets. */
export function recall(name, fallback) {
  try {
    return JSON.parse(localStorage.getItem(`slipway.${name}`)) ?? fallback;
  } catch {
    return fallback;
  }
}

export function remember(name, value) {
  try {
    localStorage.setItem(`slipway.${name}`, JSON.stringify(value));
  } catch { /* forgotten at the next load */ }
}

let announceTimer = 0;

/** Say something to screen readers. */
export function announce(text) {
  const region = document.getElementById("announcer");
  clearTimeout(announceTimer);
  region.textContent = "";
  announceTimer = setTimeout(() => { region.textContent = text; }, 80);
}
