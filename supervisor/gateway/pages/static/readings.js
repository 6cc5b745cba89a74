/**
 * Answers of commands that only read, and how a view shows one that is under way or failed.
 */

import { ControlError, run } from "./control.js";
import { h } from "./dom.js";

/** @typedef {import("../types.js").App} App */
/** @typedef {import("./dom.js").Children} Children */

/**
 * One command's answer.  A later question replaces an earlier one, whose answer is dropped; while a question is
 * under way the answer before it is still there.
 * @template T
 */
export class Reading {
  /** @param {() => void} changed called after each change @param {typeof run} [ask] */
  constructor(changed, ask = run) {
    this._changed = changed;
    this._ask = ask;
    /** @type {AbortController | null} */
    this._under_way = null;
    /** @type {T | null} */
    this.value = null;
    /** @type {ControlError | null} */
    this.error = null;
  }

  get isUnderWay() {
    return this._under_way !== null;
  }

  /** @param {string} command @param {Record<string, any>} [args] @returns {Promise<void>} */
  async read(command, args = {}) {
    this.stop();
    const mine = new AbortController();
    this._under_way = mine;
    this._changed();
    try {
      const { result } = await this._ask(command, args, { signal: mine.signal });
      if (this._under_way !== mine) return;
      this.value = result;
      this.error = null;
    } catch (error) {
      if (this._under_way !== mine) return;
      this.error = error instanceof ControlError ? error : new ControlError(String(error));
    }
    this._under_way = null;
    this._changed();
  }

  /** What is under way is not wanted any more. */
  stop() {
    const before = this._under_way;
    this._under_way = null;
    before?.abort();
  }

  /** Without an answer, as in the beginning. */
  forget() {
    this.stop();
    this.value = null;
    this.error = null;
  }
}

/**
 * The answer as `show` has it; else what is said in its place.
 * @template T
 * @param {App} app
 * @param {Reading<T>} reading
 * @param {(value: T) => Children | Children[]} show
 * @returns {import("./dom.js").Child[]}
 */
export function shown(app, reading, show) {
  const { value, error, isUnderWay } = reading;
  return [
    error && troubleOf(error),
    isUnderWay && !value && h("p", { class: "empty", role: "status" }, app.t("read.under_way")),
    ...(value ? [show(value)].flat(2) : []),
  ];
}

/** An error with what to do next. @param {{message: string, hint?: string}} error */
export function troubleOf({ message, hint }) {
  return h("div", { class: "trouble", role: "alert" }, h("p", { lang: "en" }, message), hint && h("p", { class: "hint", lang: "en" }, hint));
}

/** A term and what is known of it, for a list of facts; nothing where it is empty. @param {import("./dom.js").Child} term @param {Children} value */
export function fact(term, value) {
  return value === null || value === undefined || value === "" ? [] : [h("dt", null, term), h("dd", null, value)];
}
