// A list that is read again and again, as a table with a search and the details of a row. The views of members,
// networks and tables are made of it.

import { element, setText } from "./elements.js";
import { Panel } from "./panel.js";
import { RowFilter } from "./row_filter.js";
import { repeat } from "./scheduling.js";
import { Status } from "./status.js";
import { VirtualTable } from "./virtual_table.js";

export class ListingView {
  element;
  panel;
  rows = [];
  #options;
  #table;
  #status = new Status();
  #summary = element("p", { class: "summary" });
  #filter = new RowFilter();
  #end = new AbortController();
  #readAt = null;

  /**
   * `heading`, `label` and `empty` are texts. `read(signal)` resolves to the rows; `interval` is the time from one
   * reading to the next, in milliseconds. `columns`, `keyOf` and `open` are those of the table, `textsOf(row)` what the
   * search looks through, `summary(rows)` a sentence. `more` are nodes below the heading. `closePanel()` is called when
   * the reader leaves the details. `beside` is a node in their place.
   */
  constructor(options) {
    this.#options = options;
    this.#table = new VirtualTable(options);
    this.panel = new Panel(() => options.closePanel?.());
    const search = element("input", {
      type: "search",
      "data-search": true,
      "aria-keyshortcuts": "/",
      placeholder: "Search",
      "aria-label": `Search ${options.label.toLowerCase()}`,
      autocomplete: "off",
      spellcheck: "false",
      input: () => this.#search(search.value),
    });
    this.element = element(
      "div",
      { class: "view" },
      element(
        "div",
        { class: "main-column" },
        element("div", { class: "heading" }, options.heading, this.#status.element),
        ...(options.more ?? []),
        element("div", { class: "toolbar" }, search, this.#summary),
        this.#table.element,
      ),
      options.beside ?? this.panel.element,
    );
    repeat(() => this.#read(), options.interval, this.#end.signal);
  }

  /** Ends its work. */
  close() {
    this.#end.abort();
  }

  get signal() {
    return this.#end.signal;
  }

  focusTable() {
    this.#table.focus();
  }

  /** Opens the details under this title, for the row of this key. */
  openPanel(key, title) {
    this.#table.markOpen(key);
    this.panel.open(title);
  }

  closePanel() {
    if (this.panel.isOpen) {
      this.panel.close();
      this.#table.markOpen(null);
      this.focusTable();
    }
  }

  async #read() {
    try {
      const rows = await this.#options.read(this.#end.signal);
      const earlier = this.#readAt === null ? null : this.rows;
      this.rows = rows;
      this.#readAt = Date.now();
      this.#status.current();
      this.#show();
      this.#options.changed?.(rows, earlier);
    } catch (error) {
      this.#end.signal.throwIfAborted();
      this.#status.stale(error.message, this.#readAt);
    }
  }

  #search(text) {
    this.#filter.text = text.trim();
    this.#show();
  }

  #show() {
    const shown = this.#filter.of(this.rows, this.#options.textsOf);
    const hidden = this.rows.length - shown.length;
    setText(this.#summary, this.#options.summary(this.rows) + (hidden > 0 ? `; ${shown.length} match the search` : ""));
    this.#table.show(shown, this.rows.length === 0 ? this.#options.empty : "Nothing matches the search.");
  }
}
