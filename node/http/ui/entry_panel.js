// One entry in detail: its whole value, where it is from, and why readers see it or not.

import { path } from "./api.js";
import { Definitions, element, setText } from "./elements.js";
import { bytes } from "./formats.js";
import { entryExplanation } from "./entry_explanation.js";
import { jsonLines } from "./json_lines.js";
import { address } from "./router.js";

/** The most characters of a value that are shown. The rest can be had from the API. */
const MOST_CHARACTERS = 100_000;

const HIDDEN = {
  owner_failed: "no: its owner has failed; it is shown again if the owner returns",
  awaits_comparison: "no: its owner has returned, and the entry may be stale until both have compared",
};

export class EntryPanel {
  #api;
  #panel;
  #facts = new Definitions();
  #valueHeading = element("h3", {}, "Value");
  #value = element("pre", { class: "whole-value", tabindex: "0", "aria-label": "Value" });
  #explanation = null;
  #reading = null;
  #shown = null;

  constructor(api, panel) {
    this.#api = api;
    this.#panel = panel;
  }

  /** Opens the panel for an entry, and reads it. */
  async open(network, table, key) {
    this.#panel.open(key === "" ? "Entry with an empty key" : key);
    this.#shown = null;
    this.#explanation?.close();
    this.#explanation = entryExplanation(this.#api, network, table, key);
    await this.read(network, table, key);
  }

  /** Whether the panel shows this version, visible or not. */
  shows(row) {
    const shown = this.#shown;
    return row === undefined ? shown === null : shown?.version === row.version && (shown.hidden ?? null) === row.hidden;
  }

  async read(network, table, key) {
    this.#reading?.abort();
    const reading = new AbortController();
    this.#reading = reading;
    try {
      this.#show(await this.#find(network, table, key, reading.signal), network);
    } catch (error) {
      if (!reading.signal.aborted) {
        this.#panel.show(element("p", { class: "fault" }, `This entry cannot be read: ${error.message}.`));
      }
    } finally {
      if (this.#reading === reading) {
        this.#reading = null;
      }
    }
  }

  close() {
    this.#reading?.abort();
    this.#explanation?.close();
    this.#panel.close();
  }

  get isReading() {
    return this.#reading !== null;
  }

  /** The record, or null. The call for one entry has only those that readers see; the list has hidden ones too. */
  async #find(network, table, key, signal) {
    const list = path("networks", network, "tables", table, "entries");
    // A key comes first among those that begin with it.
    const response = await this.#api.open(list, { prefix: key, limit: 1, hidden: "include" }, signal);
    for await (const records of jsonLines(response.body)) {
      if (records.length > 0) {
        return records[0].key === key ? records[0] : null;
      }
    }
    return null;
  }

  #show(record, network) {
    this.#shown = record;
    this.#explanation.ask();
    if (record === null) {
      const absent = element("p", {}, "This entry is not in the table: it was deleted, or has not arrived here.");
      this.#panel.show(absent, this.#explanation.element);
      return;
    }
    const { text, kind, size } = valueOf(record);
    setText(this.#valueHeading, `Value: ${kind}, ${bytes(size)}`);
    setText(this.#value, text);
    this.#facts.show([
      ["Visible", HIDDEN[record.hidden] ?? (record.hidden ? `no: ${record.hidden}` : "yes")],
      ["Owner", element("a", { href: address(["members", record.owner]) }, record.owner)],
      ["Version", element("code", {}, record.version)],
      ["Network", element("a", { href: address(["networks", network]) }, network)],
    ]);
    this.#panel.show(this.#facts.element, this.#valueHeading, this.#value, this.#explanation.element);
  }
}

/** The value as it is shown, what it is, and its size in bytes. */
function valueOf({ value, value_base64: base64 }) {
  if (base64 !== undefined) {
    return { text: shortened(base64), kind: "bytes, as base64", size: atob(base64).length };
  }
  const size = new TextEncoder().encode(value).length;
  if (/^\s*[[{]/.test(value) && value.length < MOST_CHARACTERS) {
    try {
      return { text: JSON.stringify(JSON.parse(value), null, 2), kind: "JSON, indented here", size };
    } catch {
      // It only looks like JSON.
    }
  }
  return { text: shortened(value), kind: "text", size };
}

function shortened(text) {
  return text.length <= MOST_CHARACTERS ? text : `${text.slice(0, MOST_CHARACTERS)}… (the rest is left out)`;
}
