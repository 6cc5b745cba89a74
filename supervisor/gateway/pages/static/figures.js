/** What the views work out of records and status: pure. */

/** @typedef {import("../types.js").RequestRecord} RequestRecord */
/** @typedef {import("../types.js").ActiveRequest} ActiveRequest */
/** @typedef {import("../types.js").DeviceMemory} DeviceMemory */
/** @typedef {import("./chart.js").Point} Point */

/** @typedef {{from: number, to: number, rate: number, profile: string}} Answer while tokens came, at which rate */

/**
 * When tokens came, of requests that are over and of those under way.
 * @param {RequestRecord[]} records
 * @param {ActiveRequest[]} active
 * @param {number} now
 * @returns {Answer[]}
 */
export function answers(records, active, now) {
  /** @type {Answer[]} */
  const found = [];
  for (const { at, seconds, output_tokens, tokens_per_second, profile } of records) {
    if (!output_tokens || !tokens_per_second) continue;
    const to = at + seconds;
    found.push({ from: Math.max(at, to - output_tokens / tokens_per_second), to, rate: tokens_per_second, profile });
  }
  for (const { at, output_tokens, tokens_per_second, profile } of active) {
    if (!output_tokens || !tokens_per_second) continue;
    found.push({ from: Math.max(at, now - output_tokens / tokens_per_second), to: now, rate: tokens_per_second, profile });
  }
  return found;
}

/**
 * Tokens per second of each profile over a time, all its answers together: the mean of each of so many steps.
 * @param {Answer[]} all
 * @param {number} from
 * @param {number} to
 * @param {number} steps
 * @returns {Map<string, Point[]>}
 */
export function throughput(all, from, to, steps) {
  const length = (to - from) / steps;
  /** @type {Map<string, number[]>} */
  const sums = new Map();
  for (const answer of all) {
    if (answer.to <= from || answer.from >= to) continue;
    const sum = sums.get(answer.profile) ?? Array(steps).fill(0);
    sums.set(answer.profile, sum);
    const first = Math.max(0, Math.floor((answer.from - from) / length));
    const last = Math.min(steps - 1, Math.floor((answer.to - from) / length));
    for (let step = first; step <= last; step++) {
      const begin = from + step * length;
      const shared = Math.min(answer.to, begin + length) - Math.max(answer.from, begin);
      if (shared > 0) sum[step] += (answer.rate * shared) / length;
    }
  }
  return new Map([...sums].map(([name, sum]) => [name, sum.map((rate, step) => [from + (step + 0.5) * length, rate])]));
}

/**
 * Seconds to the first token of each stream, at the moment when it came.
 * @param {RequestRecord[]} records
 * @param {number} from
 * @returns {Map<string, Point[]>}
 */
export function firstTokens(records, from) {
  /** @type {Map<string, Point[]>} */
  const found = new Map();
  for (const { at, first_byte_seconds, stream, profile, output_tokens } of records) {
    if (!stream || first_byte_seconds === null || !output_tokens || at + first_byte_seconds < from) continue;
    const points = found.get(profile) ?? [];
    points.push([at + first_byte_seconds, first_byte_seconds]);
    found.set(profile, points);
  }
  return found;
}

/** Null for none. @param {number[]} values */
export function median(values) {
  if (!values.length) return null;
  const sorted = values.toSorted((one, other) => one - other);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/**
 * @typedef {{kind: "share" | "others" | "left", name: string, bytes: number, planned: number | null, measured: number | null}} Segment
 * `bytes` is how much of the bar it takes
 */

/**
 * The parts of a device's memory, for a bar; null where it is not known how much there is.  A share takes what
 * was measured, and where that is not known, or less since the model still loads, what was planned.
 * @param {DeviceMemory} device
 * @returns {{segments: Segment[], total: number} | null}
 */
export function segments(device) {
  if (!device.total_bytes) return null;
  /** @type {Segment[]} */
  const found = device.shares.map(({ profile, server, planned_bytes, measured_bytes }) => ({
    kind: "share",
    name: profile || server,
    bytes: Math.max(planned_bytes ?? 0, measured_bytes ?? 0),
    planned: planned_bytes,
    measured: measured_bytes,
  }));
  if (device.others_bytes) found.push({ kind: "others", name: "", bytes: device.others_bytes, planned: null, measured: null });
  const taken = found.reduce((sum, each) => sum + each.bytes, 0);
  return { segments: found, total: Math.max(device.total_bytes, taken) };
}

/** The share that a text of the daemon or of a job tells, 0..1, or null: "about 40% of the model loaded". @param {string} text */
export function shareIn(text) {
  const found = /(\d{1,3}(?:\.\d+)?) ?%/.exec(text);
  return found ? Math.min(1, Number(found[1]) / 100) : null;
}

/** The file of a path. @param {string | null} path */
export function fileOf(path) {
  return (path ?? "").split(/[/\\]/).at(-1) ?? "";
}

/** Seconds since the epoch. @param {string} iso */
export function epoch(iso) {
  return Date.parse(iso) / 1000;
}

/** @type {Record<string, "good" | "busy" | "warn" | "bad" | "">} */
const TONES = {
  ready: "good",
  degraded: "warn",
  backoff: "warn",
  failed: "bad",
  preparing: "busy",
  starting: "busy",
  loading: "busy",
  draining: "busy",
  stopping: "busy",
  killing: "busy",
  waiting: "busy",
};

/** How good a state of a server is, as a class. @param {string} state */
export function toneOf(state) {
  return TONES[state] ?? "";
}

/** A profile keeps its colour as long as the order of servers stays. @param {string[]} names @param {string} name */
export function colourOf(names, name) {
  const place = names.indexOf(name);
  return place < 0 ? 6 : (place % 6) + 1;
}
