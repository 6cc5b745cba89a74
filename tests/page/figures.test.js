import assert from "node:assert/strict";
import { test } from "node:test";

import { niceTop, pathOf } from "../../supervisor/gateway/pages/static/chart.js";
import { answers, colourOf, fileOf, firstTokens, median, segments, shareIn, throughput } from "../../supervisor/gateway/pages/static/figures.js";
import { plain } from "../../supervisor/gateway/pages/static/logs.js";
import { filtered, sorted } from "../../supervisor/gateway/pages/static/requests.js";

const record = (more) => ({ at: 0, seconds: 10, output_tokens: 100, tokens_per_second: 20, profile: "chat", stream: true, first_byte_seconds: 5, method: "POST", endpoint: "/v1/chat/completions", model: "", caller: "", status: 200, result: "answered", note: "", ...more });

test("tokens count in the seconds in which they came, of all answers of a profile together", () => {
  const rates = throughput(answers([record({}), record({})], [], 20), 0, 20, 4).get("chat");
  assert.deepEqual(rates, [[2.5, 0], [7.5, 40], [12.5, 0], [17.5, 0]]);
});

test("the area below the line is the number of tokens, wherever an answer begins", () => {
  const rates = throughput(answers([record({ at: 1.3, seconds: 8.7, output_tokens: 77, tokens_per_second: 11 })], [], 20), 0, 20, 7).get("chat");
  assert.ok(Math.abs(rates.reduce((sum, [, rate]) => sum + (rate * 20) / 7, 0) - 77) < 1e-9);
});

test("an answer under way counts up to now, and what has no speed not at all", () => {
  const active = [{ at: 0, output_tokens: 50, tokens_per_second: 10, profile: "chat" }, { at: 0, output_tokens: null, tokens_per_second: null, profile: "coder" }];
  assert.deepEqual(throughput(answers([record({ tokens_per_second: null })], active, 20), 0, 20, 4), new Map([["chat", [[2.5, 0], [7.5, 0], [12.5, 0], [17.5, 10]]]]));
});

test("the first token is that of a stream with tokens", () => {
  const records = [record({ at: 2 }), record({ stream: false }), record({ output_tokens: null }), record({ at: -20 })];
  assert.deepEqual(firstTokens(records, 0), new Map([["chat", [[7, 5]]]]));
});

test("the median is known, or is not", () => assert.deepEqual([median([3, 1, 2]), median([4, 1, 2, 3]), median([])], [2, 2.5, null]));

test("a share of memory takes what is planned while it still loads, and what it uses when that is more", () => {
  const shares = [{ server: "a", profile: "a", planned_bytes: 10, measured_bytes: 4 }, { server: "b", profile: "b", planned_bytes: 5, measured_bytes: 8 }, { server: "c", profile: "c", planned_bytes: 3, measured_bytes: null }];
  const bar = segments({ device: "CUDA0", name: "", total_bytes: 40, left_bytes: 1, leave_bytes: 1, others_bytes: 6, shares });
  assert.deepEqual(bar.segments.map((each) => [each.kind, each.bytes]), [["share", 10], ["share", 8], ["share", 3], ["others", 6]]);
  assert.equal(bar.total, 40);
});

test("a bar is never longer than its device, and there is none where nobody knows how much there is", () => {
  const share = { server: "a", profile: "a", planned_bytes: 50, measured_bytes: null };
  assert.equal(segments({ total_bytes: 40, others_bytes: null, shares: [share] }).total, 50);
  assert.equal(segments({ total_bytes: null, others_bytes: null, shares: [share] }), null);
});

test("small things", () => {
  assert.deepEqual([shareIn("about 40% of it"), shareIn("12.5 %, 3 MiB/s"), shareIn("4 of 9")], [0.4, 0.125, null]);
  assert.deepEqual([fileOf("/models/a.gguf"), fileOf("C:\\m\\a.gguf"), fileOf(null)], ["a.gguf", "a.gguf", ""]);
  assert.deepEqual([colourOf(["a", "b"], "b"), colourOf(["a"], "z")], [2, 6]);
  assert.deepEqual([0, 0.3, 7, 10, 11].map(niceTop), [1, 0.5, 10, 10, 20]);
  assert.equal(plain("\x1b[32mI\x1b[0m load\x1b]0;title\x07ed\x07"), "I loaded");
});

test("a line of a chart has gaps where nothing is known", () => {
  assert.equal(pathOf([[0, 0], [5, 10], [6, null], [10, 10]], 0, 10, 10), "M0 100L500 0M1000 0");
});

const NO_FILTER = { search: "", profile: "", caller: "", result: "", everything: false };

test("files and look-ups of pages are left out unless they failed or are wanted", () => {
  const records = [record({}), record({ method: "GET" }), record({ method: "GET", result: "failed" })];
  assert.deepEqual(filtered(records, NO_FILTER), [records[0], records[2]]);
  assert.deepEqual(filtered(records, { ...NO_FILTER, everything: true }), records);
});

test("a search finds all its words, in any order and case", () => {
  const records = [record({ caller: "Laptop", note: "the client left" }), record({ caller: "laptop" })];
  assert.deepEqual(filtered(records, { ...NO_FILTER, search: "LEFT lap" }), [records[0]]);
  assert.deepEqual(filtered(records, { ...NO_FILTER, caller: "laptop" }), [records[1]]);
});

test("what is not known is last, whichever way one sorts", () => {
  const records = [3, null, 1, 2].map((seconds) => record({ first_byte_seconds: seconds }));
  const column = { key: "requests.first", of: (each) => each.first_byte_seconds };
  const order = (isDown) => sorted(records, column, isDown).map((each) => each.first_byte_seconds);
  assert.deepEqual([order(true), order(false)], [[3, 2, 1, null], [1, 2, 3, null]]);
});
