/**
 * The axes of a chart: where a value is between the ends, and which values are named there.  Pure.
 */

const LOG_FROM = 8; // as many times the smallest x: then doublings are as far apart as they are in practice
const ROUND = [1, 2, 2.5, 5, 10];
const MINUTE = 60;
const STEPS_SECONDS = [10, 30, MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE, 3600, 6 * 3600, 86400];

/** @typedef {{at: number, value: number}} Tick `at` is a share of the axis, from its beginning */
/** @typedef {{share: (value: number) => number, ticks: Tick[]}} Axis */

/**
 * From 0 to a round number that is not below `most`.
 * @param {number} most
 * @param {number} [about] so many ticks
 * @returns {Axis}
 */
export function fromZero(most, about = 4) {
  const step = roundStep((most > 0 ? most : 1) / about);
  const count = Math.max(1, Math.ceil((most > 0 ? most : 1) / step - 1e-9));
  const end = step * count;
  return {
    share: (value) => clamped(value / end),
    ticks: Array.from({ length: count + 1 }, (_, number) => ({ at: number / count, value: clean(step * number) })),
  };
}

/**
 * For the values of a setting: each is a tick, but where they are too close.
 * @param {number[]} values
 * @param {number} [most] ticks
 * @returns {Axis}
 */
export function ofValues(values, most = 8) {
  const sorted = [...new Set(values)].toSorted((one, other) => one - other);
  const [low, high] = [sorted[0] ?? 0, sorted.at(-1) ?? 0];
  const isLog = low > 0 && high / low >= LOG_FROM;
  const place = isLog ? Math.log : (/** @type {number} */ value) => value;
  const span = place(high) - place(low);
  const share = (/** @type {number} */ value) => (span ? clamped((place(value) - place(low)) / span) : 0.5);
  /** @type {Tick[]} */
  const ticks = [];
  for (const value of sorted) {
    const at = share(value);
    const last = ticks.at(-1);
    if (!last || at - last.at >= 1 / most) ticks.push({ at, value });
    else if (value === high && ticks.length > 1) ticks[ticks.length - 1] = { at, value };
  }
  return { share, ticks };
}

/**
 * For times in seconds since 1970; the ticks are at round times of the clock here.
 * @param {number} from
 * @param {number} until
 * @param {number} [about]
 * @param {number} [offset] seconds that the clock is ahead of UTC
 * @returns {Axis}
 */
export function ofTime(from, until, about = 5, offset = -new Date(until * 1000).getTimezoneOffset() * MINUTE) {
  const span = Math.max(1, until - from);
  const step = STEPS_SECONDS.find((each) => span / each <= about) ?? Math.ceil(span / about / 86400) * 86400;
  const share = (/** @type {number} */ at) => clamped((at - from) / span);
  const ticks = [];
  for (let at = Math.ceil((from + offset) / step) * step - offset; at <= until; at += step) ticks.push({ at: share(at), value: at });
  return { share, ticks };
}

/** @param {number} step @returns {number} the next round number that is not below it */
function roundStep(step) {
  const power = 10 ** Math.floor(Math.log10(step));
  return power * (ROUND.find((each) => each >= step / power - 1e-9) ?? 10);
}

/** @param {number} share */
function clamped(share) {
  return Math.min(1, Math.max(0, share));
}

/** Without what floating point adds to it. @param {number} value */
function clean(value) {
  return Number(value.toPrecision(12));
}
