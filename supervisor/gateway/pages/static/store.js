/**
 * What the page knows of the daemon: `reduce` is pure, `Store` listens to /supervisor/events and keeps listening.
 *
 * An EventSource resumes by itself with Last-Event-ID after a lost connection; `?last=` does the same where it
 * gave up (a proxy that answered 502), or where the page had closed it since nobody looked.
 */

/** @typedef {import("../types.js").State} State */
/** @typedef {import("../types.js").StreamEvent} StreamEvent */
/** @typedef {import("../types.js").RequestRecord} RequestRecord */

export const KEPT_REQUESTS = 1000;
export const KEPT_SAMPLES = 720;
export const KEPT_LINES = 5000;
const KINDS = /** @type {const} */ (["hello", "status", "requests", "active", "hardware", "log"]);
const RETRY_SECONDS = [1, 2, 5, 10];
const HIDDEN_SECONDS = 60; // a browser has six connections per host for all its tabs

/** @type {State} */
export const NOTHING = Object.freeze({
  connection: "connecting",
  boot: "",
  version: "",
  last: "",
  skew_seconds: 0,
  status: null,
  requests: [],
  active: [],
  hardware: [],
  log: { server: "", first: 0, lines: [] },
});

/**
 * The state after an event.
 * @param {State} state
 * @param {StreamEvent} event
 * @returns {State}
 */
export function reduce(state, event) {
  switch (event.kind) {
    case "open":
      return { ...state, connection: "open" };
    case "lost":
      return { ...state, connection: "lost" };
    case "hello":
      return greeted(state, event);
    case "status":
      return { ...state, last: event.id || state.last, status: event.data };
    case "requests":
      return { ...state, last: event.id || state.last, requests: withNew(state.requests, event.data.requests) };
    case "active":
      return { ...state, active: event.data.active };
    case "hardware":
      return { ...state, hardware: sampled(state.hardware, event.data) };
    case "log":
      return { ...state, log: logged(state.log, event.data) };
  }
}

/** @param {State} state @param {StreamEvent & {kind: "hello"}} event @returns {State} */
function greeted(state, { data, id, at }) {
  return {
    ...state,
    connection: "open",
    boot: data.boot,
    version: data.version,
    last: id,
    skew_seconds: data.now - at,
    requests: data.resumed ? state.requests : [],
    active: [],
    hardware: data.boot === state.boot ? state.hardware : [],
  };
}

/**
 * Records have numbers that go up; one that is known already is not taken again.
 * @param {RequestRecord[]} known
 * @param {RequestRecord[]} more
 */
function withNew(known, more) {
  const last = known.at(-1)?.number ?? 0;
  const fresh = more.filter((each) => each.number > last);
  return fresh.length ? [...known, ...fresh].slice(-KEPT_REQUESTS) : known;
}

/**
 * A long history comes in pieces: `history` begins, `samples` go on.
 * @param {State["hardware"]} known
 * @param {{history?: State["hardware"], samples?: State["hardware"], sample?: State["hardware"][0]}} told
 */
function sampled(known, told) {
  const more = told.samples ?? (told.sample ? [told.sample] : []);
  return [...(told.history ?? known), ...more].slice(-KEPT_SAMPLES);
}

/** @param {State["log"]} log @param {{server: string, lines: string[], reset: boolean}} told @returns {State["log"]} */
function logged(log, { server, lines, reset }) {
  const goesOn = log.server === server && !reset;
  const all = goesOn ? [...log.lines, ...lines] : lines;
  const dropped = Math.max(0, all.length - KEPT_LINES);
  const first = goesOn ? log.first : log.first + log.lines.length; // numbers are never used twice
  return { server, first: first + dropped, lines: dropped ? all.slice(dropped) : all };
}

/**
 * One stream of events, opened again whenever it ends.
 */
export class Stream {
  /**
   * @param {(event: StreamEvent) => void} heard
   * @param {{log?: string, last?: () => string, refused?: () => Promise<boolean>, source?: typeof EventSource}} [how]
   *   `log` is the server whose log is wanted; `refused` says after a refusal whether to go on
   */
  constructor(heard, how = {}) {
    this._heard = heard;
    this._how = how;
    this._failures = 0;
    /** @type {EventSource | null} */
    this._source = null;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this._timer = undefined;
  }

  open() {
    this.close();
    const query = new URLSearchParams();
    if (this._how.log) query.set("log", this._how.log);
    const last = this._how.last?.();
    if (last) query.set("last", last);
    const source = new (this._how.source ?? EventSource)(`events${query.size ? `?${query}` : ""}`);
    this._source = source;
    for (const kind of KINDS) {
      source.addEventListener(kind, (event) => this._hear(kind, /** @type {MessageEvent<string>} */ (event)));
    }
    source.addEventListener("open", () => {
      this._failures = 0;
      this._heard({ kind: "open" });
    });
    source.addEventListener("error", () => {
      this._heard({ kind: "lost" });
      if (source.readyState === 2 && this._source === source) void this._again();
    });
  }

  close() {
    clearTimeout(this._timer);
    this._source?.close();
    this._source = null;
  }

  /** @param {typeof KINDS[number]} kind @param {MessageEvent<string>} event */
  _hear(kind, event) {
    const heard = { kind, data: JSON.parse(event.data), id: event.lastEventId, at: Date.now() / 1000 };
    this._heard(/** @type {StreamEvent} */ (heard));
  }

  async _again() {
    this._source = null;
    if (this._how.refused && !(await this._how.refused())) return;
    const seconds = RETRY_SECONDS[Math.min(this._failures++, RETRY_SECONDS.length - 1)];
    this._timer = setTimeout(() => this.open(), seconds * 1000);
  }
}

/** The state of the page, and who wants to know of its changes. */
export class Store {
  /** @param {{refused?: () => Promise<boolean>, source?: typeof EventSource}} [how] */
  constructor(how = {}) {
    /** @type {State} */
    this.state = NOTHING;
    this._how = how;
    /** @type {Set<() => void>} */
    this._listeners = new Set();
    this._stream = new Stream((event) => this.hear(event), { ...how, last: () => this.state.last });
    /** @type {Stream | null} */
    this._log = null;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this._hidden = undefined;
  }

  /** @param {StreamEvent} event */
  hear(event) {
    this.state = reduce(this.state, event);
    for (const listener of this._listeners) listener();
  }

  /** @param {() => void} listener called after each change @returns {() => void} ends it */
  subscribe(listener) {
    this._listeners.add(listener);
    return () => this._listeners.delete(listener);
  }

  open() {
    this._stream.open();
    this._log?.open();
  }

  close() {
    this._stream.close();
    this._log?.close();
  }

  /** Follow the log of this server too; "" ends that. @param {string} server */
  followLog(server) {
    this._log?.close();
    this._log = null;
    if (!server) return;
    this.hear({ kind: "log", data: { server, lines: [], reset: true }, id: "" });
    /** @param {StreamEvent} event */
    const heard = (event) => {
      if (event.kind === "log") this.hear(event);
    };
    this._log = new Stream(heard, { ...this._how, log: server });
    this._log.open();
  }

  /** A page that nobody looks at gives its connection back after a minute, and goes on from there later. @param {boolean} isHidden */
  setHidden(isHidden) {
    clearTimeout(this._hidden);
    if (isHidden) {
      this._hidden = setTimeout(() => {
        this._away = true;
        this.close();
      }, HIDDEN_SECONDS * 1000);
    } else if (this._away) {
      this._away = false;
      this.open();
    }
  }

  _away = false;
}
