// The modules that need no browser.

import assert from "node:assert/strict";
import { test } from "node:test";
import { duration, bytes, roundTrip } from "../formats.js";
import { jsonLines } from "../json_lines.js";
import { compareKeys } from "../key_order.js";
import { address, place } from "../router.js";
import { RowFilter } from "../row_filter.js";
import { TableEntries } from "../table_entries.js";

const keys = (entries) => entries.rows().map((row) => row.key);
const record = (key, version = "1", more = {}) => ({ key, value: `value of ${key}`, owner: "n", version, ...more });
const put = (key, version = "1") => ({ kind: "put", ...record(key, version) });

/** Entries of a table whose listing is complete. */
function listed(...records) {
  const entries = new TableEntries("");
  entries.beginListing();
  entries.addPage(records);
  entries.endListing(true);
  return entries;
}

test("keys are in the order of their bytes", () => {
  const ordered = ["", "a", "a/", "a/1", "ab", "z", "é", "\ud7ff", "\ue000", "\uffff", "\u{10000}", "\u{10ffff}"];
  const byBytes = [...ordered].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  assert.deepEqual(ordered, byBytes);
  assert.deepEqual([...ordered].reverse().sort(compareKeys), ordered);
});

test("entries that were listed change with the watch", () => {
  const entries = listed(record("a"), record("c"), record("d"));
  assert.equal(entries.apply(put("a")), null, "the snapshot of a watch repeats what was listed");
  assert.deepEqual(entries.apply(put("b")), { what: "created", key: "b", value: "value of b", previous: undefined });
  assert.equal(entries.apply(put("c", "2")).what, "updated");
  assert.equal(entries.apply({ kind: "delete", key: "d", reason: "deleted" }).what, "deleted");
  assert.equal(entries.apply({ kind: "delete", key: "x", reason: "deleted" }), null);
  assert.deepEqual(keys(entries), ["a", "b", "c"]);
  assert.ok(entries.isRecent(entries.get("b")) && !entries.isRecent(entries.get("a")));
});

test("entries of a failed owner stay, are marked, and are shown again", () => {
  const entries = listed(record("a"), record("b", "1", { hidden: "awaits_comparison" }));
  assert.equal(entries.get("b").hidden, "awaits_comparison");
  assert.deepEqual([keys(entries), entries.someHidden], [["a", "b"], true]);
  assert.equal(entries.apply({ kind: "hide", key: "a", reason: "owner failed", hidden: "owner_failed" }).key, "a");
  assert.equal(entries.get("a").hidden, "owner_failed");
  assert.equal(entries.apply(put("a")).what, "shown again");
  assert.equal(entries.get("a").hidden, null);
});

test("what a watch has reported goes before a page that was read earlier", () => {
  const entries = new TableEntries("");
  entries.beginListing();
  entries.addPage([record("a")]);
  entries.apply(put("b", "2"));
  entries.apply({ kind: "delete", key: "c", reason: "deleted" });
  entries.addPage([record("b", "1"), record("c")]);
  entries.endListing(true);
  assert.deepEqual(keys(entries), ["a", "b"]);
  assert.equal(entries.get("b").version, "2");
});

test("a further listing removes what is gone and keeps what is there", () => {
  const entries = listed(record("a"), record("b"), record("c"));
  const kept = entries.get("c");
  entries.beginListing();
  assert.deepEqual(keys(entries), ["a", "b", "c"], "nothing flickers");
  entries.addPage([record("a", "2"), record("c")]);
  assert.equal(entries.apply(put("d")).what, "created");
  entries.endListing(true);
  assert.deepEqual(keys(entries), ["a", "c", "d"]);
  assert.equal(entries.get("c"), kept);
});

test("a listing that ends before the table does has its part of it only", () => {
  const entries = new TableEntries("");
  entries.beginListing();
  entries.apply(put("z"));
  entries.addPage([record("a"), record("b")]);
  entries.endListing(false);
  assert.deepEqual([keys(entries), entries.complete], [["a", "b"], false]);
});

test("with a prefix, other keys are left out", () => {
  const entries = new TableEntries("a/");
  entries.beginListing();
  entries.endListing(true);
  assert.equal(entries.apply(put("b")), null);
  assert.equal(entries.apply(put("a/1")).what, "created");
  assert.deepEqual(keys(entries), ["a/1"]);
});

test("JSON lines are read however they are split", async () => {
  const text = new TextEncoder().encode('{"a":"é\u{1f600}"}\n\n{"a":2}\n{"a":3}\nunfinished');
  for (let size = 1; size <= text.length; size += 1) {
    const pieces = [];
    for (let at = 0; at < text.length; at += size) {
      pieces.push(text.slice(at, at + size));
    }
    const found = [];
    for await (const batch of jsonLines(ReadableStream.from(pieces))) {
      found.push(...batch);
    }
    assert.deepEqual(found, [{ a: "é\u{1f600}" }, { a: 2 }, { a: 3 }], `pieces of ${size} bytes`);
  }
});

test("an address holds any names, and leads back to them", () => {
  for (const parts of [["members"], ["networks", "a/b", "tables", "?#%", "entries", ""], ["networks", "ż \u{1f600}"]]) {
    for (const parameters of [{}, { prefix: "a&b=?", filter: "+ %" }]) {
      assert.deepEqual(place(address(parts, parameters)), { parts, parameters });
    }
  }
  assert.equal(address(["x"], { prefix: "" }), "#/x");
  assert.equal(place("#/networks/%zz"), null);
});

test("a filter takes its text literally and in any case", () => {
  const filter = new RowFilter();
  const rows = ["a.b", "axb", "A.B(", "c"];
  for (const [text, found] of [["a.b", ["a.b", "A.B("]], ["(", ["A.B("]], ["", rows], ["none", []]]) {
    filter.text = text;
    assert.deepEqual(filter.of(rows, (row) => [row]), found, text);
  }
});

test("numbers read well", () => {
  assert.deepEqual([0.42, 59.9, 61, 3600, 90_000].map(duration), ["0.4 s", "59 s", "1 min 1 s", "1 h 0 min", "1 d 1 h"]);
  assert.deepEqual([0.0002149, 0.0142].map(roundTrip), ["0.21 ms", "14 ms"]);
  assert.deepEqual([0, 812, 1536, 1 << 20].map(bytes), ["0 B", "812 B", "1.5 KiB", "1 MiB"]);
});
