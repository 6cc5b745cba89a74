import assert from "node:assert/strict";
import { test } from "node:test";

import { KEPT_LINES, KEPT_REQUESTS, KEPT_SAMPLES, NOTHING, Store, Stream, reduce } from "../../supervisor/gateway/pages/static/store.js";

const hello = (boot, resumed, id = `${boot}.0`) => ({ kind: "hello", data: { schema: 1, boot, version: "4.0", now: 100, resumed }, id, at: 90 });
const ended = (...numbers) => ({ kind: "requests", data: { requests: numbers.map((number) => ({ number })) }, id: `b.${numbers.at(-1)}` });
const logged = (server, lines, reset = false) => ({ kind: "log", data: { server, lines, reset }, id: "" });
const after = (...events) => events.reduce(reduce, NOTHING);
const numbers = (state) => state.requests.map((each) => each.number);

test("a stream that goes on adds what is new, and nothing twice", () => {
  const state = after(hello("b", false), ended(1, 2, 3), { kind: "lost" }, hello("b", true, "b.3"), ended(3, 4));
  assert.deepEqual(numbers(state), [1, 2, 3, 4]);
  assert.equal(state.last, "b.4");
  assert.equal(state.connection, "open");
});

test("another daemon begins anew, and its samples and requests with it", () => {
  const state = after(hello("b", false), ended(7), { kind: "hardware", data: { history: [{ at: 1 }] }, id: "" }, hello("c", false), ended(1));
  assert.deepEqual(numbers(state), [1]);
  assert.deepEqual(state.hardware, []);
  assert.equal(state.boot, "c");
});

test("what cannot be resumed begins anew, though the daemon is the same", () => {
  assert.deepEqual(numbers(after(hello("b", false), ended(1, 2), hello("b", false), ended(2, 3))), [2, 3]);
});

test("only so much is kept", () => {
  const many = Array.from({ length: KEPT_REQUESTS + 20 }, (_, place) => place + 1);
  const kept = numbers(after(hello("b", false), ended(...many)));
  assert.deepEqual([kept.length, kept[0]], [KEPT_REQUESTS, 21]);
  const samples = Array.from({ length: KEPT_SAMPLES }, (_, at) => ({ at }));
  const { hardware } = after({ kind: "hardware", data: { history: samples }, id: "" }, { kind: "hardware", data: { sample: { at: -1 } }, id: "" });
  assert.deepEqual([hardware.length, hardware[0].at, hardware.at(-1).at], [KEPT_SAMPLES, 1, -1]);
});

test("a long history of the hardware comes in pieces, and begins anew after a reconnect", () => {
  const told = (data) => ({ kind: "hardware", data, id: "" });
  const first = after(told({ history: [{ at: 1 }] }), told({ samples: [{ at: 2 }, { at: 3 }] }), told({ sample: { at: 4 } }));
  assert.deepEqual(first.hardware.map((each) => each.at), [1, 2, 3, 4]);
  assert.deepEqual(reduce(first, told({ history: [{ at: 3 }] })).hardware.map((each) => each.at), [3]);
});

test("lines of a log keep their numbers when old ones go, and get others when the log begins anew", () => {
  const full = after(logged("chat", Array(KEPT_LINES).fill("x"), true));
  const moved = reduce(full, logged("chat", ["y"]));
  assert.deepEqual([moved.log.lines.length, moved.log.first, moved.log.lines.at(-1)], [KEPT_LINES, 1, "y"]);
  const anew = reduce(moved, logged("chat", ["z"], true));
  assert.deepEqual(anew.log, { server: "chat", first: KEPT_LINES + 1, lines: ["z"] });
});

test("lines of another server are not mixed with those that are shown", () => {
  assert.deepEqual(after(logged("chat", ["a"], true), logged("coder", ["b"])).log.lines, ["b"]);
});

test("the state before is never changed", () => {
  const before = Object.freeze(after(hello("b", false), ended(1)));
  Object.freeze(before.requests);
  reduce(reduce(before, ended(2)), logged("chat", ["a"]));
  assert.deepEqual(numbers(before), [1]);
});

test("the daemon's clock is known", () => assert.equal(after(hello("b", false)).skew_seconds, 10));

/** As the browser's, but led by the test. */
class FakeSource {
  static made = [];
  constructor(url) {
    this.url = url;
    this.readyState = 0;
    this.listeners = {};
    this.isClosed = false;
    FakeSource.made.push(this);
  }
  addEventListener(kind, listener) {
    this.listeners[kind] = listener;
  }
  close() {
    this.isClosed = true;
  }
  tell(kind, data, id = "") {
    this.listeners[kind]({ data: JSON.stringify(data), lastEventId: id });
  }
  fail(readyState) {
    this.readyState = readyState;
    this.listeners.error();
  }
}

const settled = () => new Promise((done) => setImmediate(done));

test("a stream that the browser gave up on is opened again from where it was", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  FakeSource.made = [];
  const store = new Store({ source: FakeSource, refused: async () => true });
  store.open();
  const [first] = FakeSource.made;
  assert.equal(first.url, "events");
  first.tell("hello", hello("b", false).data, "b.0");
  first.tell("requests", ended(1, 2).data, "b.2");
  first.fail(2);
  assert.equal(store.state.connection, "lost");
  await settled();
  context.mock.timers.tick(1000);
  assert.deepEqual(FakeSource.made.map((each) => each.url), ["events", "events?last=b.2"]);
});

test("a stream that the browser opens again by itself is left alone", async () => {
  FakeSource.made = [];
  const store = new Store({ source: FakeSource });
  store.open();
  FakeSource.made[0].fail(0);
  await settled();
  assert.equal(FakeSource.made.length, 1);
  assert.equal(FakeSource.made[0].isClosed, false);
});

test("a stream is not opened again where the session is over", async () => {
  FakeSource.made = [];
  const stream = new Stream(() => undefined, { source: FakeSource, refused: async () => false });
  stream.open();
  FakeSource.made[0].fail(2);
  await settled();
  assert.equal(FakeSource.made.length, 1);
});

test("a page that nobody looks at gives its connection back after a minute, not before", (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  FakeSource.made = [];
  const store = new Store({ source: FakeSource });
  store.open();
  const [source] = FakeSource.made;
  source.tell("hello", hello("b", false).data, "b.5");
  store.setHidden(true);
  context.mock.timers.tick(59_000);
  assert.equal(source.isClosed, false);
  store.setHidden(false);
  store.setHidden(true);
  context.mock.timers.tick(60_000);
  assert.equal(source.isClosed, true);
  store.setHidden(false);
  assert.equal(FakeSource.made.at(-1).url, "events?last=b.5");
});

test("the log of a server has a stream of its own, and nothing else of it counts", () => {
  FakeSource.made = [];
  const store = new Store({ source: FakeSource });
  store.open();
  store.followLog("co der");
  const log = FakeSource.made[1];
  assert.equal(log.url, "events?log=co+der");
  log.tell("status", { servers: [] });
  log.tell("log", { server: "co der", lines: ["a"], reset: true });
  assert.deepEqual([store.state.status, store.state.log.lines], [null, ["a"]]);
  store.followLog("");
  assert.deepEqual(FakeSource.made.map((each) => each.isClosed), [false, true]);
});
