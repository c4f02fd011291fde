// The entries of a table as far as they are loaded, in the order of their keys. Pages of a list and events of a watch
// arrive side by side; what a watch has reported of a key goes before what a page says of it.

import { compareKeys } from "./key_order.js";

/** The most characters of a value that a row keeps: it shows fewer, and the details ask for the entry. */
const PREVIEW = 240;

/** How long a row counts as changed, in milliseconds. */
const RECENT = 10_000;

export class TableEntries {
  /** Only keys that begin with this are here. */
  #prefix;
  #rows = new Map();
  /** All rows by key, but for those in `#added`. */
  #sorted = [];
  #added = [];
  #removed = false;
  /** The number of the listing that is, or was, under way. Rows of an earlier one are not confirmed. */
  #listing = 0;
  /** Keys that were deleted while the listing is under way: a page that was read earlier still has them. */
  #deleted = new Set();
  /** The last key of the last page of the listing. */
  #through = null;
  #complete = false;
  #now;

  constructor(prefix, now = () => Date.now()) {
    this.#prefix = prefix;
    this.#now = now;
  }

  /** Whether a listing has had everything with the prefix. It stays so while the next one is under way. */
  get complete() {
    return this.#complete;
  }

  /** Whether some of the loaded entries are hidden from readers. */
  get someHidden() {
    return this.#sorted.some((row) => row.hidden !== null);
  }

  /** The number of loaded entries. */
  get size() {
    return this.#rows.size;
  }

  get(key) {
    return this.#rows.get(key);
  }

  /** Begins to list anew. Rows stay until the listing has shown that they are gone. */
  beginListing() {
    this.#listing += 1;
    this.#deleted.clear();
    this.#through = null;
  }

  /** The next records of the listing, in order. */
  addPage(records) {
    for (const record of records) {
      const row = this.#rows.get(record.key);
      if (this.#deleted.has(record.key) || row?.watched === this.#listing) {
        continue;
      }
      const isChange = row !== undefined && row.version !== record.version;
      this.#put(record, record.hidden ?? null, isChange);
    }
    if (records.length > 0) {
      this.#through = records[records.length - 1].key;
    }
  }

  /** The listing has ended; `complete` tells whether with the last entry of the table. */
  endListing(complete) {
    this.#complete = complete;
    for (const row of this.#rows.values()) {
      const isBehind = !complete && (this.#through === null || compareKeys(row.key, this.#through) > 0);
      if (isBehind || row.listing !== this.#listing) {
        this.#remove(row);
      }
    }
    this.#deleted.clear();
  }

  /**
   * Applies an event `put`, `hide` or `delete`. Returns what it changed, for people: an object with `what`, `key`,
   * `value` and `previous`; or null if it is nothing new.
   */
  apply(event) {
    if (!event.key.startsWith(this.#prefix)) {
      return null;
    }
    const row = this.#rows.get(event.key);
    const previous = row?.value;
    switch (event.kind) {
      case "put": {
        const isNew = row === undefined || row.version !== event.version || row.hidden !== null;
        const what = row === undefined ? "created" : row.hidden === null ? "updated" : "shown again";
        // Until all of them have been listed, an entry that is not here yet is not new.
        const isChange = isNew && (this.complete || row !== undefined);
        this.#put(event, null, isChange).watched = this.#listing;
        this.#deleted.delete(event.key);
        return isChange ? { what, key: event.key, value: preview(event), previous } : null;
      }
      case "hide":
        if (row === undefined || row.hidden !== null) {
          return null;
        }
        Object.assign(row, { hidden: event.hidden, watched: this.#listing, changed: this.#now() });
        return { what: `hidden: ${event.reason}`, key: event.key, value: row.value, previous };
      case "delete":
        this.#deleted.add(event.key);
        if (row === undefined) {
          return null;
        }
        this.#remove(row);
        return { what: event.reason, key: event.key, value: null, previous };
      default:
        return null;
    }
  }

  /** All rows, in order. The same array as before if no row came or went. */
  rows() {
    if (this.#removed) {
      this.#sorted = this.#sorted.filter((row) => this.#rows.get(row.key) === row);
      this.#removed = false;
    }
    if (this.#added.length > 0) {
      const added = this.#added.filter((row) => this.#rows.get(row.key) === row);
      added.sort((a, b) => compareKeys(a.key, b.key));
      this.#sorted = merged(this.#sorted, added);
      this.#added = [];
    }
    return this.#sorted;
  }

  /** Whether a row has changed a moment ago. */
  isRecent(row) {
    return row.changed !== null && this.#now() - row.changed < RECENT;
  }

  #put(record, hidden, isChange) {
    const content = {
      value: preview(record),
      isText: record.value_base64 === undefined,
      owner: record.owner,
      version: record.version,
      hidden,
      listing: this.#listing,
    };
    if (isChange) {
      content.changed = this.#now();
    }
    const row = this.#rows.get(record.key);
    if (row !== undefined) {
      return Object.assign(row, content);
    }
    const made = { key: record.key, watched: 0, changed: null, ...content };
    this.#rows.set(record.key, made);
    this.#added.push(made);
    return made;
  }

  #remove(row) {
    this.#rows.delete(row.key);
    this.#removed = true;
  }
}

/** The beginning of a record's value. */
function preview(record) {
  const value = record.value ?? record.value_base64 ?? "";
  return value.length > PREVIEW ? value.slice(0, PREVIEW) : value;
}

/** Two sorted lists of rows as one. */
function merged(left, right) {
  const last = left[left.length - 1];
  if (last === undefined || right.length === 0 || compareKeys(last.key, right[0].key) < 0) {
    // The usual case: the next page of a list.
    return left.concat(right);
  }
  const all = [];
  let at = 0;
  for (const row of right) {
    while (at < left.length && compareKeys(left[at].key, row.key) < 0) {
      all.push(left[at]);
      at += 1;
    }
    all.push(row);
  }
  while (at < left.length) {
    all.push(left[at]);
    at += 1;
  }
  return all;
}
