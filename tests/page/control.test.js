import assert from "node:assert/strict";
import { test } from "node:test";

import { ControlError, Superseded, ask, control, order, refusal, run } from "../../supervisor/gateway/pages/static/control.js";

/** A fetch that answers with these pieces of a body. */
function answering(pieces, status = 200) {
  const asked = [];
  const encoder = new TextEncoder();
  const fetch = async (url, options) => {
    asked.push({ url, ...options, body: JSON.parse(options.body) });
    const body = new ReadableStream({
      start(controller) {
        for (const piece of pieces) controller.enqueue(typeof piece === "string" ? encoder.encode(piece) : piece);
        controller.close();
      },
    });
    return new Response(body, { status });
  };
  return { fetch, asked };
}

const lines = (...documents) => documents.map((each) => `${JSON.stringify(each)}\n`).join("");

test("an order is one POST of JSON with the protocol's version", async () => {
  const { fetch, asked } = answering([lines({ jobs: [], final: true })]);
  await ask({ op: "jobs" }, { fetch });
  assert.deepEqual(asked.map(({ url, method, headers, body }) => [url, method, headers, body]), [
    ["control", "POST", { "content-type": "application/json" }, { protocol: 1, op: "jobs" }],
  ]);
});

test("lines come as they are whole, wherever the network cuts them", async () => {
  const bytes = new TextEncoder().encode(lines({ status: { text: "読み込み" }, again_seconds: 2 }, { final: true }));
  const pieces = [...bytes].map((byte) => new Uint8Array([byte]));
  const heard = [];
  for await (const line of control({ op: "load" }, answering(pieces))) heard.push(line);
  assert.deepEqual(heard, [{ status: { text: "読み込み" }, again_seconds: 2 }, { final: true }]);
});

test("a refusal has its reason, its hint and its exit code", async () => {
  const refused = answering([lines({ error: "Nothing is called nix.", hint: "goss-supervisor ps", exit_code: 5 })]);
  await assert.rejects(ask({ op: "unload" }, refused), (error) => {
    assert.ok(error instanceof ControlError);
    assert.deepEqual([error.message, error.hint, error.exitCode], ["Nothing is called nix.", "goss-supervisor ps", 5]);
    return true;
  });
});

test("an answer that ends without its last line is an error, never a success", async () => {
  await assert.rejects(ask({ op: "load" }, answering([lines({ status: {} })])), /broke off/);
});

test("a daemon that is not there is an error with words", async () => {
  await assert.rejects(ask({ op: "jobs" }, { fetch: () => Promise.reject(new TypeError("Failed to fetch")) }), /cannot be reached/);
});

test("a refusal by HTTP is read in each of its shapes", async () => {
  await assert.rejects(ask({ op: "hold" }, answering([JSON.stringify({ error: { message: "no holds here" } })], 403)), (error) => error.status === 403 && error.message === "no holds here");
  assert.deepEqual(refusal('{"error": "no", "hint": "yes"}', 400), { message: "no", hint: "yes" });
  assert.deepEqual(refusal("<html>", 502), { message: "HTTP 502", hint: "" });
});

test("an order that a later one replaced is superseded, which is no failure", async () => {
  const told = lines({ outcome: { result: "superseded", why: "superseded by a stop (request 4)", hint: "", by: 4 }, final: true });
  await assert.rejects(order({ op: "load" }, answering([told])), (error) => error instanceof Superseded && error.message.includes("request 4"));
});

test("what ran and failed is an error, what serves in part is told", async () => {
  const outcome = (result) => answering([lines({ outcome: { result, why: `${result}!`, hint: "look" }, final: true })]);
  for (const result of ["failed", "rolled back"]) {
    await assert.rejects(order({ op: "load" }, outcome(result)), (error) => !(error instanceof Superseded) && error.hint === "look");
  }
  for (const result of ["ready", "degraded", "asleep", "unchanged", "stopped"]) {
    assert.equal((await order({ op: "load" }, outcome(result))).result, result);
  }
});

test("a job tells its progress and gives its result", async () => {
  const job = { id: 3, line: "", error: "", hint: "", exit_code: null, superseded: false };
  const told = lines({ job: { ...job, line: "20%" }, again_seconds: 2 }, { job: { ...job, exit_code: 0 }, result: { profiles: ["demo"] }, final: true });
  const { fetch, asked } = answering([told]);
  const heard = [];
  const done = await run("profiles", {}, { fetch, each: (each) => heard.push(each.line) });
  assert.deepEqual([heard, done.result, asked[0].body], [["20%", ""], { profiles: ["demo"] }, { protocol: 1, op: "run", command: "profiles", arguments: {} }]);
});

test("a job that failed is an error with its hint, and a superseded one is that", async () => {
  const job = { id: 3, line: "", hint: "goss-supervisor plan", exit_code: 7, superseded: false };
  await assert.rejects(run("load", { profile: "large" }, answering([lines({ job: { ...job, error: "does not fit" }, final: true })])), (error) => error.exitCode === 7 && error.hint === "goss-supervisor plan");
  const replaced = { ...job, exit_code: 12, error: "superseded by a stop", superseded: true };
  await assert.rejects(run("load", { profile: "large" }, answering([lines({ job: replaced, final: true })])), Superseded);
});
