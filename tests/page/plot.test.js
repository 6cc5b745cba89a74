import assert from "node:assert/strict";
import { test } from "node:test";

import { barTable, lineChart, most, pathOf } from "../../supervisor/gateway/pages/static/plot.js";
import { fromZero, ofTime, ofValues } from "../../supervisor/gateway/pages/static/scale.js";

const values = ({ ticks }) => ticks.map((each) => each.value);

/** All elements of a kind below a VNode. */
function all(node, tag) {
  if (typeof node === "string") return [];
  return [...(node.tag === tag ? [node] : []), ...node.children.flatMap((child) => all(child, tag))];
}
const text = (node) => (typeof node === "string" ? node : node.children.map(text).join(""));

test("an axis ends at a round number that is not below the highest", () => {
  assert.deepEqual([values(fromZero(100)), values(fromZero(802)), values(fromZero(0.3)), values(fromZero(0))], [
    [0, 25, 50, 75, 100], [0, 250, 500, 750, 1000], [0, 0.1, 0.2, 0.3], [0, 0.25, 0.5, 0.75, 1]]);
  assert.equal(fromZero(100).share(50), 0.5);
  assert.equal(fromZero(100).share(400), 1);
});

test("values that double are as far apart as they are in practice", () => {
  const axis = ofValues([512, 1024, 2048, 4096]);
  assert.deepEqual(axis.ticks.map(({ at }) => Math.round(at * 30)), [0, 10, 20, 30]);
  assert.equal(ofValues([1, 2, 3]).share(2), 0.5);
  assert.equal(ofValues([7]).share(7), 0.5);
});

test("of many values those that have room are named, the last one always", () => {
  const named = values(ofValues(Array.from({ length: 37 }, (_, value) => value)));
  assert.ok(named.length <= 9);
  assert.deepEqual([named[0], named.at(-1)], [0, 36]);
});

test("times are named at round minutes of the clock here", () => {
  const axis = ofTime(1000, 1300, 5, 0);
  assert.deepEqual(values(axis), [1020, 1080, 1140, 1200, 1260]);
  assert.deepEqual(values(ofTime(0, 3600, 5, 1800)), [0, 900, 1800, 2700, 3600]);
});

test("a line breaks where nothing is known", () => {
  const points = [{ x: 0, value: 1 }, { x: 1, value: 2 }, null, { x: 2, value: 3 }];
  assert.equal(pathOf(points, ({ x, value }) => `${x} ${value}`), "M0 1L1 2M2 3");
});

test("an interval that is far wider than its figure does not squeeze all others", () => {
  assert.equal(most([{ value: 10, low: 1, high: 12 }]), 12);
  assert.equal(most([{ value: 10, low: 1, high: 900 }, { value: 5 }]), 15);
  assert.equal(most([]), 1);
});

test("a bar is a row of a table, with its figure as text", () => {
  const table = barTable({ caption: "Speed", headers: ["Result", "Figure", "Runs"], bars: [{ label: "a", figure: { value: 5, low: 4, high: 6 }, text: "5 ±1", cells: ["3"] }, { label: "b", figure: null, text: "–", cells: ["0"] }] });
  const [, one, other] = all(table, "tr");
  assert.equal(text(all(one, "td")[0]), "5 ±1");
  assert.deepEqual([all(one, "svg").length, all(other, "svg").length], [1, 0]);
  assert.equal(all(one, "svg")[0].props["aria-hidden"], "true");
  assert.equal(text(all(table, "caption")[0]), "Speed");
});

test("a chart says what it shows to those who do not see it, and has its figures as a table", () => {
  const chart = lineChart({
    title: "Load", summary: "CPU: now 5 %.", lines: [{ label: "CPU", points: [{ x: 0, value: 5 }] }, { label: "GPU", points: [{ x: 0, value: 7, low: 6, high: 8 }] }],
    x: ofValues([0, 1]), formatX: String, formatY: String, table: { caption: "Load", headers: ["Device", "Now"], rows: [["CPU", "5"], ["GPU", "7"]] }, tableName: "As a table",
  });
  assert.equal(all(chart, "svg").find((each) => each.props.role === "img").props["aria-label"], "Load. CPU: now 5 %.");
  assert.deepEqual(all(chart, "li").map(text), ["CPU", "GPU"]);
  assert.deepEqual(all(chart, "td").map(text), ["5", "7"]);
});
