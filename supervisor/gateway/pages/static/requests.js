/** The last 1,000 requests, without their content: newest first, filtered, sorted, with details on demand. */

import { h, render } from "./dom.js";

/** @typedef {import("../types.js").App} App */
/** @typedef {import("../types.js").RequestRecord} RequestRecord */
/** @typedef {import("../types.js").State} State */
/** @typedef {import("./dom.js").VNode} VNode */
/** @typedef {import("./words.js").Key} Key */

export const name = "requests";

const RESULTS = /** @type {const} */ (["answered", "refused", "cancelled", "broken", "failed"]);
const TONES = { answered: "good", refused: "warn", cancelled: "", broken: "bad", failed: "bad" };

/**
 * `of` gives what is sorted by, `shown` the text; `on` is the least width that has room for it.
 * @typedef {{key: Key, of: (record: RequestRecord) => number | string | null, num?: boolean, name?: boolean, on?: "wide" | "middle"}} Column
 * @type {Column[]}
 */
const COLUMNS = [
  { key: "requests.at", of: (record) => record.at },
  { key: "requests.model", name: true, of: (record) => record.profile || record.model },
  { key: "requests.caller", of: (record) => record.caller, on: "middle" },
  { key: "requests.endpoint", of: (record) => record.endpoint, on: "wide" },
  { key: "requests.result", of: (record) => record.result },
  { key: "requests.held", of: (record) => record.held_seconds, num: true, on: "wide" },
  { key: "requests.first", of: (record) => record.first_byte_seconds, num: true, on: "middle" },
  { key: "requests.total", of: (record) => record.seconds, num: true },
  { key: "requests.in", of: (record) => record.prompt_tokens, num: true, on: "middle" },
  { key: "requests.out", of: (record) => record.output_tokens, num: true, on: "middle" },
  { key: "requests.speed", of: (record) => record.tokens_per_second, num: true, on: "middle" },
];

/** @typedef {{search: string, profile: string, caller: string, result: string, everything: boolean}} Filter */

/** @param {HTMLElement} root @param {App} app @returns {() => void} */
export function mount(root, app) {
  const view = new Requests(app);
  app.watch((state) => render(root, ...view.draw(state)));
  return () => undefined;
}

/**
 * Those that are wanted.  Files and look-ups of pages are left out, as `goss-supervisor requests` does.
 * @param {RequestRecord[]} records
 * @param {Filter} filter
 */
export function filtered(records, { search, profile, caller, result, everything }) {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  return records.filter((record) => {
    const looked = record.method === "GET" || record.method === "HEAD";
    if (looked && !everything && (record.result === "answered" || record.result === "cancelled")) return false;
    if (profile && record.profile !== profile) return false;
    if (caller && record.caller !== caller) return false;
    if (result && record.result !== result) return false;
    const text = `${record.method} ${record.endpoint} ${record.profile} ${record.model} ${record.caller} ${record.status ?? ""} ${record.result} ${record.note}`.toLowerCase();
    return words.every((word) => text.includes(word));
  });
}

/**
 * What is not known comes last, whichever way; what is equal stays newest first.
 * @param {RequestRecord[]} records oldest first
 * @param {Column} column
 * @param {boolean} isDown
 */
export function sorted(records, column, isDown) {
  return records.toReversed().toSorted((one, other) => {
    const [first, second] = [column.of(one), column.of(other)];
    if (first === second) return 0;
    if (first === null || first === "") return 1;
    if (second === null || second === "") return -1;
    return first < second === isDown ? 1 : -1;
  });
}

class Requests {
  /** @param {App} app */
  constructor(app) {
    this.app = app;
    this.t = app.t;
    /** @type {Filter} */
    this.filter = { search: "", profile: "", caller: "", result: "", everything: false };
    this.by = COLUMNS[0];
    this.isDown = true;
    /** @type {Set<number>} the numbers of those with details */
    this.open = new Set();
    /** @type {WeakMap<RequestRecord, VNode[]>} rows that are made: a record never changes */
    this.rows = new WeakMap();
  }

  /** @param {State} state @returns {import("./dom.js").Child[]} */
  draw({ requests }) {
    const { t } = this;
    const shown = sorted(filtered(requests, this.filter), this.by, this.isDown);
    return [
      this.toolbar(requests),
      h("div", { class: "scroll requests", key: "table" },
        h("table", { class: "data" },
          h("caption", null, t("requests.caption", { n: shown.length, all: requests.length })),
          h("thead", null, h("tr", null, COLUMNS.map((each) => this.heading(each)))),
          h("tbody", null, shown.flatMap((each) => this.row(each))))),
      !shown.length && h("p", { class: "empty", key: "none" }, requests.length ? t("requests.no_match") : t("requests.none")),
    ];
  }

  /** @param {RequestRecord[]} records */
  toolbar(records) {
    const { t, filter } = this;
    /** @param {Partial<Filter>} change */
    const set = (change) => {
      this.filter = { ...this.filter, ...change };
      this.app.redraw();
    };
    /** @param {"profile" | "caller" | "result"} field @param {string[]} values @param {(value: string) => string} [label] */
    const choice = (field, values, label = (value) => value) =>
      h("label", { class: "field", key: field }, t(`requests.by_${field}`),
        h("select", { value: filter[field], onchange: (/** @type {any} */ event) => set({ [field]: event.target.value }) },
          h("option", { value: "" }, t("requests.any")), [...new Set([...values, filter[field]])].filter(Boolean).map((each) => h("option", { value: each, key: each, selected: each === filter[field] }, label(each)))));
    return h("search", { class: "toolbar", key: "toolbar" },
      h("label", { class: "field grow" }, t("requests.search"),
        h("input", { type: "search", value: filter.search, oninput: (/** @type {any} */ event) => set({ search: event.target.value }) })),
      choice("profile", records.map((each) => each.profile)),
      choice("caller", records.map((each) => each.caller)),
      choice("result", [...RESULTS], (value) => t(`result.${/** @type {typeof RESULTS[number]} */ (value)}`)),
      h("label", { class: "check" },
        h("input", { type: "checkbox", checked: filter.everything, onchange: (/** @type {any} */ event) => set({ everything: event.target.checked }) }), t("requests.everything")));
  }

  /** @param {Column} column */
  heading(column) {
    const isBy = this.by === column;
    const turn = () => {
      this.isDown = isBy ? !this.isDown : true;
      this.by = column;
      this.app.redraw();
    };
    return h("th", { scope: "col", class: classOf(column), "aria-sort": isBy ? (this.isDown ? "descending" : "ascending") : null },
      h("button", { type: "button", class: "sort", onclick: turn }, this.t(column.key), h("span", { "aria-hidden": "true", class: "arrow" }, isBy ? (this.isDown ? "▼" : "▲") : "")));
  }

  /** Its row, and one with details where they are wanted. @param {RequestRecord} record */
  row(record) {
    const known = this.rows.get(record);
    if (known) return known;
    const isOpen = this.open.has(record.number);
    const toggle = () => {
      if (!this.open.delete(record.number)) this.open.add(record.number);
      this.rows.delete(record);
      this.app.redraw();
    };
    const cells = COLUMNS.map((column, place) =>
      place === 0
        ? h("th", { scope: "row" }, h("button", { type: "button", class: "quiet more", "aria-expanded": String(isOpen), onclick: toggle }, this.app.words.time(record.at)))
        : h("td", { class: classOf(column), title: column.key === "requests.model" ? record.profile || record.model : null }, this.cell(column, record)));
    const made = [h("tr", { key: record.number, class: isOpen ? "is-open" : null }, cells)];
    if (isOpen) made.push(h("tr", { key: `${record.number} more`, class: "details" }, h("td", { colspan: COLUMNS.length }, this.details(record))));
    this.rows.set(record, made);
    return made;
  }

  /** @param {Column} column @param {RequestRecord} record @returns {import("./dom.js").Child} */
  cell(column, record) {
    const { words } = this.app;
    const value = column.of(record);
    switch (column.key) {
      case "requests.result":
        return this.result(record);
      case "requests.held":
        return value ? words.duration(/** @type {number} */ (value)) : "–";
      case "requests.first":
      case "requests.total":
        return value === null ? "–" : words.duration(/** @type {number} */ (value));
      default:
        if (typeof value === "number") return words.number(value, column.key === "requests.speed" ? 1 : 0);
        return value || "–";
    }
  }

  /** As `goss-supervisor requests` has it: 200, 200 broken, 429 refused. @param {RequestRecord} record */
  result({ result, status }) {
    const isAnswered = result === "answered";
    return h("span", { class: `pill ${TONES[result]}` }, status !== null && h("span", { class: isAnswered ? null : "on-middle" }, status), !isAnswered && this.t(`result.${result}`));
  }

  /** @param {RequestRecord} record */
  details(record) {
    const { t } = this;
    const { words } = this.app;
    const seconds = (/** @type {number | null} */ value) => (value === null ? null : words.duration(value));
    const number = (/** @type {number | null} */ value, digits = 0) => (value === null ? null : words.number(value, digits));
    /** @type {[Key, string | null][]} */
    const facts = [
      ["requests.note", record.note],
      ["requests.request", `${record.method} ${record.endpoint}`],
      ["requests.asked", record.model],
      ["requests.by_profile", record.profile],
      ["requests.by_caller", record.caller || t("now.no_key")],
      ["requests.stream", record.stream ? t("requests.yes") : t("requests.no")],
      ["requests.held", seconds(record.held_seconds)],
      ["requests.room", record.context_wait_seconds ? seconds(record.context_wait_seconds) : null],
      ["requests.first", seconds(record.first_byte_seconds)],
      ["requests.total", seconds(record.seconds)],
      ["requests.in", number(record.prompt_tokens)],
      ["requests.cached", number(record.cached_tokens)],
      ["requests.read_speed", number(record.prompt_per_second, 1)],
      ["requests.out", number(record.output_tokens)],
      ["requests.speed", number(record.tokens_per_second, 1)],
      ["requests.drafted", record.drafted_tokens ? `${number(record.accepted_tokens)} / ${number(record.drafted_tokens)}` : null],
      ["requests.bytes", `${words.size(record.request_bytes)} / ${words.size(record.answer_bytes)}`],
      ["requests.replayed", record.replayed ? t("requests.yes") : null],
    ];
    return h("dl", { class: "detail-facts" }, facts.map(([key, text]) => text && h("div", null, h("dt", null, t(key)), h("dd", key === "requests.note" ? { lang: "en" } : null, text))));
  }
}

/** @param {Column} column */
function classOf({ num, name, on }) {
  return [num && "num", name && "name", on && `on-${on}`].filter(Boolean).join(" ") || null;
}
