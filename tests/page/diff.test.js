import assert from "node:assert/strict";
import { test } from "node:test";

import { diff, inShort } from "../../supervisor/gateway/pages/static/diff.js";
import { countLines, rangeOf, severities, sorted } from "../../supervisor/gateway/pages/static/problems.js";

const signs = { same: " ", removed: "-", added: "+" };
const written = (lines) => lines.map((each) => (each.kind === "gap" ? `… ${each.lines}` : signs[each.kind] + each.text));

test("what was removed is before what is in its place", () => {
  assert.deepEqual(written(diff("a\nb\nc\n", "a\nB\nB2\nc\n")), [" a", "-b", "+B", "+B2", " c"]);
});

test("lines have their numbers in both texts", () => {
  assert.deepEqual(diff("a\nb\n", "b\n").map(({ before, after }) => [before, after]), [[1, 0], [2, 1]]);
});

test("a diff of any two texts gives both again", () => {
  let seed = 7;
  const dice = (most) => (seed = (seed * 1103515245 + 12345) % 2147483648) % most;
  for (let turn = 0; turn < 300; turn++) {
    const [one, other] = [0, 0].map(() => Array.from({ length: dice(9) }, () => "abc"[dice(3)]));
    const lines = diff(one.join("\n"), other.join("\n"));
    assert.deepEqual(lines.filter((each) => each.kind !== "added").map((each) => each.text), one);
    assert.deepEqual(lines.filter((each) => each.kind !== "removed").map((each) => each.text), other);
  }
});

test("texts that are too long to compare line by line are replaced as a whole", () => {
  const [one, other] = ["a", "b"].map((letter) => Array.from({ length: 3000 }, (_, line) => `${letter}${line}`).join("\n"));
  assert.equal(diff(one, other).length, 6000);
});

test("an end of line of Windows is no change, nor is the last one", () => {
  assert.deepEqual(inShort(diff("a\r\nb\r\n", "a\nb")), []);
});

test("in short, only what is near a change is shown", () => {
  const before = Array.from({ length: 20 }, (_, line) => `line ${line}`);
  const after = before.with(10, "changed");
  assert.deepEqual(written(inShort(diff(before.join("\n"), after.join("\n")), 1)), ["… 9", " line 9", "-line 10", "+changed", " line 11", "… 8"]);
});

const problem = (line, severity = "error", more = {}) => ({ line, column: null, severity, message: "", ...more });

test("errors are before warnings, and what has no line before what has one", () => {
  assert.deepEqual(sorted([problem(1, "warning"), problem(9), problem(3), problem(null)]).map((each) => each.line), [null, 3, 9, 1]);
});

test("a line with an error and a warning is one with an error", () => {
  assert.deepEqual([...severities([problem(2), problem(2, "warning"), problem(3, "warning"), problem(null)])], [[2, "error"], [3, "warning"]]);
});

test("the place of a mistake is from its column to the end of its line, and never outside of the text", () => {
  const text = "one: 1\ntwo: 2\n";
  assert.deepEqual(rangeOf(text, { line: 2, column: 6 }), [12, 13]);
  assert.deepEqual(rangeOf(text, { line: 2, column: null }), [7, 13]);
  assert.deepEqual(rangeOf(text, { line: 99, column: 99 }), [14, 14]);
  assert.deepEqual(rangeOf(text, { line: null, column: null }), [0, 6]);
  assert.deepEqual([countLines(text), countLines("")], [3, 1]);
});
