// A table: its entries as they are now, a search, what has changed recently, and an entry in detail.

import { element, setClass, setText } from "./elements.js";
import { EntryPanel } from "./entry_panel.js";
import { count, counted } from "./formats.js";
import { Panel } from "./panel.js";
import { RecentChanges } from "./recent_changes.js";
import { address, replaceParameters } from "./router.js";
import { RowFilter } from "./row_filter.js";
import { FrameTask } from "./scheduling.js";
import { Status } from "./status.js";
import { TableSource } from "./table_source.js";
import { VirtualTable } from "./virtual_table.js";

/** The time from the last letter of a prefix to its search, and from one search in changing rows to the next. */
const [TYPING_PAUSE, FILTER_INTERVAL] = [250, 300];

/** The shortest time from one reading of the open entry to the next: each asks all members. */
const ENTRY_INTERVAL = 1_000;

/** How often the page looks which rows have not changed recently any more, in milliseconds. */
const FADING_INTERVAL = 2_000;

export class TableView {
  title;
  element;
  #context;
  #network;
  #tableName;
  #source = null;
  #listedAt = null;
  #key = null;
  #entryReadAt = 0;
  #typing;
  #filtering = null;
  #fading;
  #filter = new RowFilter();
  #rows = [];
  #status = new Status();
  #summary = element("p", { class: "summary" });
  #recent = new RecentChanges();
  #panel = new Panel(() => this.escape());
  #entry;
  #table;
  #prefixInput = searchInput("Key prefix", "Keys that begin with", { "data-search": true, "aria-keyshortcuts": "/" });
  #filterInput = searchInput("Filter", "Filter by key, value, owner", {});
  #frame = new FrameTask(() => this.#show());

  constructor(context, network, table) {
    this.#context = context;
    this.#network = network;
    this.#tableName = table;
    this.title = `Table ${table}`;
    this.#entry = new EntryPanel(context.api, this.#panel);
    this.#table = new VirtualTable({
      label: `Entries of ${table}`,
      columns: this.#columns(),
      keyOf: (row) => row.key,
      open: (row) => (location.hash = address(this.#parts(row.key), this.#parameters())),
    });
    this.#prefixInput.addEventListener("input", () => {
      clearTimeout(this.#typing);
      this.#typing = setTimeout(() => this.#searched(), TYPING_PAUSE);
    });
    this.#filterInput.addEventListener("input", () => {
      this.#filter.text = this.#filterInput.value.trim();
      replaceParameters(this.#parts(this.#key), this.#parameters());
      this.#frame.request();
    });
    this.#fading = setInterval(() => this.#frame.request(), FADING_INTERVAL);
    const heading = element(
      "h1",
      {},
      element("a", { href: address(["networks"]) }, "Networks"),
      " / ",
      element("a", { href: address(["networks", network]) }, network),
      ` / ${table}`,
    );
    this.element = element(
      "div",
      { class: "view" },
      element(
        "div",
        { class: "main-column" },
        element("div", { class: "heading" }, heading, this.#status.element),
        element("div", { class: "toolbar" }, this.#prefixInput, this.#filterInput, this.#summary),
        this.#table.element,
        this.#recent.element,
      ),
      this.#panel.element,
    );
  }

  /** Shows the place `networks/N/tables/T` or `networks/N/tables/T/entries/KEY`, with `prefix` and `filter`. */
  update({ parts, parameters }) {
    const { prefix = "", filter = "" } = parameters;
    if (this.#source === null || prefix !== this.#prefixInput.value) {
      this.#prefixInput.value = prefix;
      this.#follow(prefix);
    }
    if (filter !== this.#filterInput.value) {
      this.#filterInput.value = filter;
      this.#filter.text = filter;
      this.#frame.request();
    }
    const key = parts.length > 5 ? parts[5] : null;
    if (key === this.#key) {
      return;
    }
    this.#key = key;
    this.#table.markOpen(key);
    if (key === null) {
      this.#entry.close();
      this.#table.focus();
    } else {
      this.#entry.open(this.#network, this.#tableName, key);
    }
  }

  focus() {
    this.#table.focus();
  }

  /** Leaves the entry, or else the table. */
  escape() {
    const isOpen = this.#key !== null;
    location.hash = isOpen ? address(this.#parts(null), this.#parameters()) : address(["networks", this.#network]);
  }

  close() {
    this.#source?.close();
    this.#frame.cancel();
    clearTimeout(this.#typing);
    clearTimeout(this.#filtering);
    clearInterval(this.#fading);
    this.#entry.close();
  }

  #columns() {
    return [
      { title: "Key", class: "wide code", fill: (cell, row) => setText(cell, row.key) },
      {
        title: "Value",
        class: "rest code",
        fill: (cell, row) => setText(cell, row.isText ? row.value : `base64 ${row.value}`),
      },
      { title: "Owner", class: "medium", fill: (cell, row) => setText(cell, row.owner) },
      {
        title: "State",
        class: "broad",
        fill: (cell, row) => {
          const isRecent = this.#source.entries.isRecent(row);
          const [state, text] = stateOf(row, isRecent);
          setClass(cell, `broad state state-${state}`);
          setText(cell, text);
        },
      },
    ];
  }

  #parts(key) {
    const parts = ["networks", this.#network, "tables", this.#tableName];
    return key === null ? parts : [...parts, "entries", key];
  }

  #parameters() {
    return { prefix: this.#prefixInput.value, filter: this.#filterInput.value };
  }

  #searched() {
    replaceParameters(this.#parts(this.#key), this.#parameters());
    this.#follow(this.#prefixInput.value);
  }

  #follow(prefix) {
    this.#source?.close();
    this.#status.loading();
    this.#source = new TableSource(this.#context.api, this.#network, this.#tableName, prefix, {
      changed: (changes) => this.#changed(changes),
      live: (reservation) => {
        this.#listedAt = Date.now();
        this.#status.live(reservation);
        this.#frame.request();
      },
      stale: (reason) => this.#status.stale(reason, this.#listedAt),
    });
    this.#frame.request();
  }

  #changed(changes) {
    this.#recent.add(changes);
    for (const { key, what } of changes) {
      this.#context.announcer.say(`${key} ${what}.`);
    }
    if (changes.length > 0) {
      this.#listedAt = Date.now();
    }
    this.#frame.request();
  }

  /** Shows the rows of this frame. */
  #show() {
    const all = this.#source.entries.rows();
    if (this.#filter.active && this.#filtering !== null) {
      // The rows in sight change at once; whether others match is looked for a few times a second only.
      this.#table.show(this.#rows, this.#emptiness(all.length));
      return;
    }
    this.#rows = this.#filter.of(all, (row) => [row.key, row.value, row.owner]);
    if (this.#filter.active) {
      this.#filtering = setTimeout(() => {
        this.#filtering = null;
        this.#frame.request();
      }, FILTER_INTERVAL);
    }
    this.#table.show(this.#rows, this.#emptiness(all.length));
    setText(this.#summary, this.#summaryText(all.length));
    this.#refreshEntry();
  }

  #emptiness(size) {
    if (size > 0) {
      return "No loaded entry contains this text.";
    }
    if (!this.#source.entries.complete) {
      return "";
    }
    return this.#prefixInput.value === "" ? "This table has no entries." : "No key begins with this prefix.";
  }

  #summaryText(size) {
    const loading = this.#source.entries.complete ? "" : " so far";
    const matching = this.#filter.active ? `; ${count(this.#rows.length)} contain the text` : "";
    return `${counted(size, "entry", "entries")}${loading}${matching}`;
  }

  /** Reads the entry in the panel anew if it is not the one in the table any more. */
  #refreshEntry() {
    const isTooEarly = Date.now() - this.#entryReadAt < ENTRY_INTERVAL;
    if (this.#key === null || this.#entry.isReading || isTooEarly || !this.#source.entries.complete) {
      return;
    }
    const isHere = this.#key.startsWith(this.#prefixInput.value);
    if (isHere && !this.#entry.shows(this.#source.entries.get(this.#key))) {
      this.#entryReadAt = Date.now();
      this.#entry.read(this.#network, this.#tableName, this.#key);
    }
  }
}

function stateOf(row, isRecent) {
  if (row.hidden === "owner_failed") {
    return ["failed", "hidden: owner failed"];
  }
  if (row.hidden !== null) {
    return ["suspect", "hidden: to compare"];
  }
  return isRecent ? ["changed", "changed"] : ["plain", ""];
}

function searchInput(label, placeholder, attributes) {
  return element("input", {
    type: "search",
    "aria-label": label,
    placeholder,
    autocomplete: "off",
    spellcheck: "false",
    ...attributes,
  });
}
