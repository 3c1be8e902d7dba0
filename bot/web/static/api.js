// The console's JSON API, the same one that scripts use.

export class ApiError extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

const BASE = "/console/api/";

async function call(path, options) {
  let response;
  try {
    // With this header a "no" comes as 200 with its status inside: browsers report every 4xx as an error of the page.
    response = await fetch(BASE + path, { ...options, headers: { "X-Console-Page": "1", ...options.headers }, credentials: "same-origin" });
  } catch {
    throw new ApiError(0, "Slipway does not answer; check that it runs, then try again.");
  }
  const body = response.status === 204 ? {} : await response.json().catch(() => ({}));
  if (!response.ok || body.error) throw new ApiError(body.status ?? response.status, body.error ?? `Slipway answered ${response.status}; try again.`);
  return body;
}

export function get(path, query = {}, options = {}) {
  const pairs = Object.entries(query).flatMap(([name, value]) => [value].flat().map((one) => [name, one]));
  return call(`${path}?${new URLSearchParams(pairs)}`, options);
}

/** key: the same one again does nothing twice. */
export function post(path, body, key) {
  const headers = { "Content-Type": "application/json", ...(key ? { "Idempotency-Key": key } : {}) };
  return call(path, { method: "POST", headers, body: JSON.stringify(body) });
}

export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const RETRY = [500, 1000, 2000, 4000, 8000];

/**
 * Server-sent events that come back by themselves and go on where they were.
 *
 * handlers: message(data), elsewhere(data), reset(), up(), down(), gone() when one must log in again.
 */
export class Stream {
  constructor(person, cursor, handlers) {
    this.person = person;
    this.cursor = cursor;
    this.handlers = handlers;
    this.tries = 0;
    this.open();
  }

  open() {
    clearTimeout(this.timer);
    this.source?.close();
    const query = new URLSearchParams({ person: this.person, after: this.cursor });
    const source = this.source = new EventSource(`${BASE}stream?${query}`);
    source.addEventListener("open", () => { this.tries = 0; this.handlers.up(); });
    source.addEventListener("message", (event) => {
      this.cursor = event.lastEventId || this.cursor;
      this.handlers.message(JSON.parse(event.data));
    });
    source.addEventListener("cursor", (event) => { this.cursor = event.data; });
    source.addEventListener("elsewhere", (event) => this.handlers.elsewhere(JSON.parse(event.data)));
    source.addEventListener("reset", () => this.handlers.reset());
    // The browser's own reconnecting gives up on an HTTP error, so we do it ourselves.
    source.addEventListener("error", () => this.retry());
  }

  async retry() {
    this.source.close();
    this.handlers.down();
    const wait = RETRY[Math.min(this.tries++, RETRY.length - 1)];
    clearTimeout(this.timer);
    this.timer = setTimeout(async () => {
      try {
        await get("people");
      } catch (error) {
        if (error.status === 401) return this.handlers.gone();
        if (!this.closed) return this.retry();
      }
      if (!this.closed) this.open();
    }, wait);
  }

  /** Let go of the connection (a browser has six per host), to come back with `open`. */
  pause() {
    clearTimeout(this.timer);
    this.source.close();
  }

  close() {
    this.closed = true;
    this.pause();
  }
}
