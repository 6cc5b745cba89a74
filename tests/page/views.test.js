import assert from "node:assert/strict";
import { test } from "node:test";

import { rateWords, ratioWords, rowLabel, settingsWords, timeWords, titleOf, tuneResult } from "../../supervisor/gateway/pages/static/charts.js";
import { ControlError } from "../../supervisor/gateway/pages/static/control.js";
import { linesOf, linkWords, reasons, recent } from "../../supervisor/gateway/pages/static/hardware.js";
import { inServedOrder, inUse, outcomeOf, wordsOfJob } from "../../supervisor/gateway/pages/static/jobs.js";
import { commandLine, planOf, verdictOf } from "../../supervisor/gateway/pages/static/plan.js";
import { inOrder, placeOf } from "../../supervisor/gateway/pages/static/profiles.js";
import { Reading, shown } from "../../supervisor/gateway/pages/static/readings.js";
import { dayBefore } from "../../supervisor/gateway/pages/static/usage.js";
import { Words } from "../../supervisor/gateway/pages/static/words.js";

const words = new Words("en");
const app = { words, t: words.t };
const text = (node) => (node ? (typeof node === "object" ? node.children.map(text).join("") : String(node)) : "");
const texts = (nodes) => nodes.flat(3).filter(Boolean).map(text).join("\n");
const workload = { prompt_tokens: 128, answer_tokens: 256, depth_tokens: 0, clients: 1, warm: false, text: "" };

// --- readings

test("an answer that came too late is dropped", async () => {
  const answers = [];
  const reading = new Reading(() => undefined, (command) => new Promise((resolve) => answers.push(() => resolve({ result: command }))));
  const [first, second] = [reading.read("first"), reading.read("second")];
  answers[1]();
  await second;
  answers[0]();
  await first;
  assert.deepEqual([reading.value, reading.isUnderWay], ["second", false]);
});

test("the answer before stays while the next one is under way, and when that fails", async () => {
  const replies = [() => ({ result: 1 }), () => { throw new ControlError("no", { hint: "try" }); }];
  const reading = new Reading(() => undefined, async () => replies.shift()());
  assert.equal(texts(shown(app, reading, String)), "");
  await reading.read("x");
  const next = reading.read("x");
  assert.deepEqual([reading.value, reading.isUnderWay], [1, true]);
  await next;
  assert.equal(texts(shown(app, reading, String)), "notry\n1");
});

test("what is not wanted any more is told so", async () => {
  let told;
  const reading = new Reading(() => undefined, (_, __, { signal }) => { told = signal; return new Promise(() => undefined); });
  void reading.read("x");
  reading.stop();
  assert.deepEqual([told.aborted, reading.isUnderWay], [true, false]);
});

// --- hardware

const device = (more) => ({ device: "CPU", name: "", load_percent: null, temperature_c: null, power_watts: null, memory_used_bytes: null, why: "", ...more });

test("each device has a line, which breaks where nobody looked or nothing was known", () => {
  const samples = [[0, 10], [5, 20], [60, 30], [65, null], [70, 40]].map(([at, load]) => ({ at, devices: [device({ load_percent: load }), device({ device: "RAM" })] }));
  const [line, ...others] = linesOf("load", samples);
  assert.deepEqual(line.points.map((each) => each?.value ?? null), [10, 20, null, 30, null, 40]);
  assert.deepEqual(others, []);
  assert.deepEqual(recent(samples, 0.2).map((each) => each.at), [60, 65, 70]);
});

test("why something is not known is said once", () => {
  const samples = [{ at: 0, devices: [device({ why: "no sensor" }), device({ device: "GPU", load_percent: 5, why: "no fan" })] }];
  assert.deepEqual(reasons("load", samples), ["CPU: no sensor"]);
});

test("a link with fewer lanes than it could have says so", () => {
  assert.equal(linkWords({ width: 4, max_width: 16, speed_gts: 2.5, max_speed_gts: 16 }), "x4 / x16, 16 GT/s");
  assert.equal(linkWords({ width: 16, max_width: 16, max_speed_gts: null }), "x16");
  assert.deepEqual([linkWords(null), linkWords({ width: null })], ["", ""]);
});

// --- bench

test("a figure has its interval by the wider side, and none where there was one run", () => {
  assert.equal(rateWords(app, { median: 45.23, low: 44.9, high: 46 }), "45.2 ±0.8");
  assert.equal(rateWords(app, { median: 1682, low: 1600, high: 1700 }), "1,682 ±82");
  assert.equal(rateWords(app, { median: 5, low: null, high: null }), "5.00");
  assert.equal(rateWords(app, { median: 5, low: 1, high: 90 }), "5.00 ±?");
  assert.equal(rateWords(app, null), "–");
  assert.deepEqual([timeWords(app, { median: 0.25, low: 0.24, high: 0.26 }), timeWords(app, { median: 2.5, low: null, high: null })], ["250 ±10 ms", "2.50 s"]);
});

test("a workload has a short name", () => {
  assert.equal(rowLabel(app, { scenario: "agent", workload: { ...workload, prompt_tokens: 8192, depth_tokens: 16384 } }), "agent: 8,192 + 256 at 16,384");
  assert.equal(rowLabel(app, { scenario: "own", workload: { ...workload, clients: 8, warm: true } }), "own: 128 warm + 256 ×8");
  assert.equal(rowLabel(app, { scenario: "article", workload: { ...workload, prompt_tokens: 0, text: "An epidemic" } }), "article: text + 256");
});

const ratio = (value, low, high, difference_seen) => ({ ratio: value, low, high, difference_seen, first: 1, second: value });

test("a comparison says what it means", () => {
  const meaning = (...told) => { const { meaning: means, kind } = ratioWords(app, ...told); return [means, kind]; };
  const [rate, time] = ["prompt_per_second", "first_token_seconds"];
  assert.deepEqual(meaning(ratio(1.2, 1.1, 1.3, true), rate, "b"), ["b is 20% faster", "good"]);
  assert.deepEqual(meaning(ratio(0.8, 0.7, 0.9, true), rate, "b"), ["b is 20% slower", "bad"]);
  assert.deepEqual(meaning(ratio(3, 2.9, 3.1, true), rate, "b"), ["b is 3.0 times as fast", "good"]);
  assert.deepEqual(meaning(ratio(1.2, 1.1, 1.3, true), time, "b"), ["b takes 20% longer", "bad"]);
  assert.deepEqual(meaning(ratio(0.8, 0.7, 0.9, true), time, "b"), ["b takes 20% less", "good"]);
  assert.deepEqual(meaning(ratio(1.02, 0.98, 1.06, false), rate, "b"), ["no difference seen", ""]);
  assert.deepEqual(meaning(ratio(1.5, null, null, false), rate, "b"), ["too few runs to tell", ""]);
  assert.deepEqual(meaning(null, rate, "b"), ["not measured in both", ""]);
  assert.equal(ratioWords(app, ratio(1.2, 1.1, 1.3, true), rate, "b").interval, "1.20 (1.10 to 1.30)");
});

// --- tune

const tuned = {
  profile: "mine", at: "2026-11-30T08:00:00+00:00", goal: "agent", result: "faster", ratio: 1.31, ratio_low: 1.27, ratio_high: 1.35, seconds: 29, file: "/p/mine-tuned.yaml", former_file: null,
  settings: [{ key: "server.ubatch-size", was: "512", is: "2048", effect: "+3 % generation" }], explained: [], disturbed: [],
  charts: [
    { title: "prompt, tokens per second, by ubatch-size", x_label: "ubatch-size", lines: [{ label: "all else as in the best", points: [[512, { value: 400, low: 390, high: 410 }], [2048, { value: 800, low: 800, high: 800 }]] }] },
    { title: "generation, tokens per second, by flavour", bars: [["cpu", { value: 33, low: 33, high: 33 }], ["vulkan", { value: 20, low: 19, high: 21 }]] },
  ],
  trials: [{ settings: {}, costs: [3], rates: [[400, 40]], died: "", seconds: 1 }, { settings: { "server.ubatch-size": "256" }, costs: [], rates: [], died: "no memory", seconds: 1 }, { settings: { "server.ubatch-size": "2048" }, costs: [2], rates: [[800, 40]], died: "", seconds: 1 }],
};

test("a tuning says its outcome, the effect of each value, and all trials, the quickest first", () => {
  const told = texts(tuneResult(app, tuned));
  assert.match(told, /1\.31 times as fast as mine for agent \(95 %: 1\.27 to 1\.35; 3 trials in 29/);
  assert.match(told, /ubatch-size5122048\+3 % generation/);
  assert.match(told, /Prompt by ubatch-size, tokens per second/);
  assert.match(told, /5124002,048800|512400 ±102,048800/);
  assert.match(told, /vulkan20\.0 ±1\.0/);
  assert.match(told, /ubatch-size 204840\.0800measuredas the profile is40\.0400measuredubatch-size 256––no memory/);
});

test("a tuning that found nothing better says so", () => {
  const told = texts(tuneResult(app, { ...tuned, result: "unchanged", file: null, settings: [], charts: [] }));
  assert.match(told, /nothing was written/);
  assert.match(told, /No setting was measured with two values/);
});

test("titles of a tuning's charts are translated, and others shown as they are", () => {
  const japanese = new Words("ja");
  assert.equal(titleOf({ t: japanese.t }, "generation, tokens per second, by threads"), "threads ごとの生成速度(トークン/秒)");
  assert.equal(titleOf(app, "something else"), "something else");
  assert.equal(settingsWords({ "engine.flavour": "cpu", "server.threads": "8" }), "flavour cpu, threads 8");
});

// --- plans and profiles

const plan = { argv: ["/opt/llama-server", "--alias", "my model", "--temp", "-1", "--metrics"], env: {}, notes: [], warnings: [], build: "b1", flavour: "cpu", engine: "asked for", model: "/m.gguf", ledger: null };
const ledger = (more) => ({ verdict: "fits", refused: false, advice: [], notes: [], placement: { reasons: [] }, devices: [{ name: "RAM", needed_bytes: 8, total_bytes: 10, free_bytes: 9, weights_bytes: 4, context_bytes: 2, compute_bytes: 1, other_bytes: 1, text: "needs 8" }, { name: "CUDA0", needed_bytes: 0, text: "" }], ...more });

test("a command line can be pasted into a shell", () => {
  assert.equal(commandLine(plan.argv), "/opt/llama-server \\\n  --alias 'my model' \\\n  --temp -1 \\\n  --metrics");
  assert.equal(commandLine(["x", "it's"]), `x 'it'"'"'s'`);
});

test("whether it fits comes first, and only of the memory that it takes", () => {
  assert.equal(text(verdictOf(app, { ...plan, ledger: ledger() })), "It fits into memory.RAM: needs 8");
  assert.match(text(verdictOf(app, { ...plan, ledger: ledger({ verdict: "does not fit", refused: true }) })), /a start is refused/);
  assert.match(text(verdictOf(app, { ...plan, ledger: ledger({ verdict: "does not fit" }) })), /^It does not fit into memory\.R/);
  assert.match(text(verdictOf(app, { ...plan, notes: ["what it takes of the memory is not known: no header"] })), /not known\.what it takes/);
  assert.match(texts(planOf(app, { ...plan, ledger: ledger() })), /^It fits.*RAM/s);
});

test("served profiles come first, in their order, then a person's own", () => {
  const all = [["a", true], ["b", false], ["c", true], ["d", false]].map(([name, shipped]) => ({ name, shipped, problem: null }));
  const status = { served: [{ profile: "c" }, { profile: "b" }], servers: [{ profile: "a", state: "ready", requests_under_way: 0 }, { profile: "d", state: "stopped" }] };
  assert.deepEqual(inOrder(all, status).map((each) => each.name), ["c", "b", "d", "a"]);
  assert.deepEqual(inOrder(all, null).map((each) => each.name), ["b", "d", "a", "c"]);
  assert.deepEqual(inServedOrder(all, status, ""), ["a", "b", "c", "d"]);
  assert.deepEqual(inUse(status), ["a"]);
});

test("an origin is named by its file and line", () => {
  assert.equal(placeOf({ file: "/home/me/profiles/mine.yaml", line: 12 }), "mine.yaml:12");
  assert.equal(placeOf({ file: "C:\\profiles\\mine.yaml", line: 1 }), "mine.yaml:1");
  assert.equal(placeOf({ file: "--set", line: 0 }), "--set");
});

// --- usage and jobs

test("days are counted by the clock here", () => {
  const noon = new Date(2026, 2, 1, 12).getTime() / 1000;
  assert.deepEqual([dayBefore(noon, 0), dayBefore(noon, 1)], ["2026-03-01", "2026-02-28"]);
});

const job = (more) => ({ id: 1, command: "bench", words: "bench mine", since: "", line: "", ended: "", exit_code: 0, result: null, error: "", hint: "", superseded: false, ...more });

test("an ended job says what became of it", () => {
  assert.match(texts(outcomeOf(app, job({ result: { results: [{ id: "mine-3" }] } }))), /^done\n.*Chart of mine-3$/s);
  assert.match(texts(outcomeOf(app, job({ exit_code: 7, error: "does not fit", hint: "smaller" }))), /^failed\ndoes not fit\nsmaller$/);
  assert.match(texts(outcomeOf(app, job({ exit_code: 130, error: "It was cancelled." }))), /^cancelled\s*$/);
  assert.match(texts(outcomeOf(app, job({ superseded: true, exit_code: 12, error: "replaced" }))), /^superseded\nreplaced/);
});

test("a job is named without what tells a person nothing", () => {
  assert.equal(wordsOfJob(job({ words: `profile save --based-on=${"0a".repeat(32)} mine` })), "profile save mine");
});

test("an update has the verdict of its comparison for each server, also when it went back", () => {
  const result = { result: "rolled back", text: "b2 was taken back", why: "it generates 80 %", servers: [{ profile: "mine", build: "b1", result: "back", why: "slower" }] };
  const told = texts(outcomeOf(app, job({ command: "engine-update", exit_code: 10, error: "b2 was taken back", result })));
  assert.match(told, /b2 was taken back: it generates 80 %/);
  assert.match(told, /mine: b1, back, slower/);
  const check = { available: "b2", current: "b1", note: "", problem: "" };
  assert.match(texts(outcomeOf(app, job({ command: "engine-check", result: check }))), /b2 is available; b1 is in use\./);
});
