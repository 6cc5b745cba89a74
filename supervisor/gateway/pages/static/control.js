/**
 * Orders to the daemon: one request of the control protocol by POST, answered by lines of JSON.
 *
 * docs/control-protocol.md has the operations, docs/gateway.md which of them a page may ask for.
 */

/** @typedef {import("../types.js").Job} Job */
/** @typedef {import("../types.js").Outcome} Outcome */
/** @typedef {Record<string, any>} Line */

export const PROTOCOL = 1;

/** What the daemon refused, or could not do: `message` says why, `hint` what to do next. */
export class ControlError extends Error {
  /** @param {string} message @param {{hint?: string, exitCode?: number, status?: number}} [more] */
  constructor(message, { hint = "", exitCode = 1, status = 0 } = {}) {
    super(message);
    this.name = "ControlError";
    this.hint = hint;
    this.exitCode = exitCode;
    this.status = status; // of HTTP; 0: there was no answer
  }
}

/**
 * The lines of the answer, as they come; the last one has `final`.  Throws ControlError, also for an answer
 * that ends without one.
 * @param {Line} request `op` and its fields
 * @param {{fetch?: typeof fetch, signal?: AbortSignal}} [using]
 * @returns {AsyncGenerator<Line, void, void>}
 */
export async function* control(request, using = {}) {
  const answer = await post(request, using);
  for await (const line of lines(answer)) {
    if (line.error) throw new ControlError(line.error, { hint: line.hint, exitCode: line.exit_code ?? 1, status: 200 });
    yield line;
    if (line.final) return;
  }
  throw new ControlError("The connection to the daemon broke off.", { status: 0 });
}

/**
 * The last line; `each` gets all of them.
 * @param {Line} request
 * @param {{fetch?: typeof fetch, signal?: AbortSignal, each?: (line: Line) => void}} [using]
 * @returns {Promise<Line>}
 */
export async function ask(request, using = {}) {
  /** @type {Line} */
  let last = {};
  for await (const line of control(request, using)) {
    using.each?.(line);
    last = line;
  }
  return last;
}

/**
 * Have the daemon run one of its commands, and wait for its end.  A page that leaves does not end it.
 * @param {string} command
 * @param {Record<string, any>} [args]
 * @param {{fetch?: typeof fetch, signal?: AbortSignal, each?: (job: Job) => void}} [using] `each` sees the progress
 * @returns {Promise<{job: Job, result: any}>}
 */
export async function run(command, args = {}, using = {}) {
  const { each, ...rest } = using;
  const last = await ask({ op: "run", command, arguments: args }, { ...rest, each: (line) => each && line.job && each(line.job) });
  const job = last.job;
  if (job?.superseded) throw new Superseded(job.error || job.line, job.hint);
  const result = last.result ?? job?.result ?? null;
  if (job && (job.error || (job.exit_code && result?.outcome?.result !== "degraded"))) {
    throw new ControlError(job.error || job.line || `exit code ${job.exit_code}`, { hint: job.hint, exitCode: job.exit_code ?? 1, status: 200 });
  }
  return { job, result };
}

/** A later request has replaced this one before it was decided: nothing is wrong. */
export class Superseded extends ControlError {
  /** @param {string} message @param {string} [hint] */
  constructor(message, hint = "") {
    super(message, { hint, exitCode: 12, status: 200 });
    this.name = "Superseded";
  }
}

const WELL = new Set(["ready", "degraded", "asleep", "stopped", "unchanged"]);

/**
 * What became of a request that changes a server.  Throws Superseded, and ControlError where it failed.
 * @param {Line} request
 * @param {{fetch?: typeof fetch, signal?: AbortSignal, each?: (line: Line) => void}} [using]
 * @returns {Promise<Outcome | null>} null where the daemon decides nothing, as for a pin
 */
export async function order(request, using = {}) {
  const outcome = (await ask(request, using)).outcome ?? null;
  if (outcome?.result === "superseded") throw new Superseded(outcome.why, outcome.hint);
  if (outcome && !WELL.has(outcome.result)) {
    throw new ControlError(outcome.why || outcome.result, { hint: outcome.hint, status: 200 });
  }
  return outcome;
}

/** @param {Line} request @param {{fetch?: typeof fetch, signal?: AbortSignal}} using @returns {Promise<Response>} */
async function post(request, using) {
  let answer;
  try {
    answer = await (using.fetch ?? fetch)("control", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ protocol: PROTOCOL, ...request }),
      credentials: "same-origin",
      signal: using.signal,
    });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ControlError("The daemon cannot be reached.", { status: 0 });
  }
  if (answer.ok) return answer;
  const { message, hint } = refusal(await answer.text().catch(() => ""), answer.status);
  throw new ControlError(message, { hint, status: answer.status });
}

/** The sentence in an error's body, whichever shape it has. @param {string} body @param {number} status */
export function refusal(body, status) {
  try {
    const told = JSON.parse(body);
    const error = told.error ?? told;
    if (typeof error === "string") return { message: error, hint: String(told.hint ?? "") };
    if (typeof error.message === "string") return { message: error.message, hint: String(error.hint ?? "") };
  } catch {
    // said below
  }
  return { message: `HTTP ${status}`, hint: "" };
}

/**
 * The JSON lines of a body, as they come.
 * @param {Response} answer
 * @returns {AsyncGenerator<Line, void, void>}
 */
async function* lines(answer) {
  if (!answer.body) return;
  const reader = answer.body.getReader();
  const decoder = new TextDecoder();
  let kept = "";
  try {
    for (;;) {
      const { done, value } = await reader.read().catch(() => ({ done: true, value: undefined }));
      kept += decoder.decode(value, { stream: !done });
      const whole = kept.split("\n");
      kept = done ? "" : /** @type {string} */ (whole.pop());
      for (const line of whole) if (line.trim()) yield JSON.parse(line);
      if (done) return;
    }
  } finally {
    reader.cancel().catch(() => undefined);
  }
}
