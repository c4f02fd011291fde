// A table of any length that has only the rows in sight in the document, and is operated by keyboard as an ARIA grid:
// it has the focus, and one of its rows is active.

import { element, setClass, setText } from "./elements.js";
import { FrameTask } from "./scheduling.js";

/** The height of a row in pixels, as in style.css. */
const ROW_HEIGHT = 30;

/** Rows above and below those in sight, so that scrolling does not show gaps. */
const MARGIN = 10;

let tables = 0;

export class VirtualTable {
  /** The scrolling box, for the document. */
  element;
  #columns;
  #keyOf;
  #open;
  #rows = [];
  #activeKey = null;
  #activeIndex = -1;
  #openKey = null;
  #table;
  #body = element("tbody");
  #above = spacer();
  #below = spacer();
  #drawn = [];
  #empty = element("p", { class: "empty" });
  #prefix = `table-${(tables += 1)}`;
  #frame = new FrameTask(() => this.#draw());

  /**
   * `columns` have a `title`, a `class`, and `fill(cell, row)`, which shows a row in a cell that may have shown another
   * one. `keyOf(row)` tells rows apart. `open(row)` is called for a click and for Enter.
   */
  constructor({ label, columns, keyOf, open }) {
    this.#columns = columns;
    this.#keyOf = keyOf;
    this.#open = open;
    const headings = columns.map(({ title, class: name }) => element("th", { scope: "col", class: name }, title));
    this.#table = element(
      "table",
      {
        role: "grid",
        tabindex: "0",
        "aria-label": label,
        "aria-readonly": "true",
        keydown: (event) => this.#key(event),
        focus: () => this.#activateFirst(),
      },
      element("colgroup", {}, ...columns.map((column) => element("col", { class: column.class }))),
      element("thead", {}, element("tr", { "aria-rowindex": "1" }, ...headings)),
      this.#body,
    );
    this.#body.append(this.#above, this.#below);
    this.element = element(
      "div",
      { class: "scroll", scroll: () => this.#frame.request() },
      this.#table,
      this.#empty,
    );
    this.#body.addEventListener("click", (event) => this.#click(event));
    new ResizeObserver(() => this.#frame.request()).observe(this.element);
  }

  focus() {
    this.#table.focus();
  }

  /** Shows these rows, in the next frame. `empty` is said instead if there are none. */
  show(rows, empty) {
    this.#rows = rows;
    setText(this.#empty, rows.length === 0 ? empty : "");
    if (this.#activeKey !== null && this.#keyAt(this.#activeIndex) !== this.#activeKey) {
      this.#activeIndex = rows.findIndex((row) => this.#keyOf(row) === this.#activeKey);
    }
    this.#activateFirst();
    this.#frame.request();
  }

  /** Marks the row of this key as the one whose details are open, and makes it the active one; null marks none. */
  markOpen(key) {
    this.#openKey = key;
    if (key !== null) {
      this.#activeKey = key;
      this.#activeIndex = this.#rows.findIndex((row) => this.#keyOf(row) === key);
    }
    this.#frame.request();
  }

  #keyAt(index) {
    const row = this.#rows[index];
    return row === undefined ? null : this.#keyOf(row);
  }

  #draw() {
    const { scrollTop, clientHeight } = this.element;
    const first = Math.max(0, Math.floor(scrollTop / ROW_HEIGHT) - MARGIN);
    const last = Math.min(this.#rows.length, Math.ceil((scrollTop + clientHeight) / ROW_HEIGHT) + MARGIN);
    this.#reserve(Math.max(0, last - first));
    this.#drawn.forEach((drawn, at) => this.#fill(drawn, first + at));
    height(this.#above, Math.min(first, this.#rows.length));
    height(this.#below, Math.max(0, this.#rows.length - last));
    this.#table.setAttribute("aria-rowcount", this.#rows.length + 1);
    const isDrawn = this.#activeIndex >= first && this.#activeIndex < last;
    // A row that is out of sight is not in the document, and cannot be pointed to.
    if (isDrawn) {
      this.#table.setAttribute("aria-activedescendant", this.#id(this.#activeIndex));
    } else {
      this.#table.removeAttribute("aria-activedescendant");
    }
  }

  /** Has as many rows in the document. */
  #reserve(number) {
    while (this.#drawn.length > number) {
      this.#drawn.pop().row.remove();
    }
    while (this.#drawn.length < number) {
      const cells = this.#columns.map((column) => element("td", { class: column.class }));
      const row = element("tr", {}, ...cells);
      this.#below.before(row);
      this.#drawn.push({ row, cells });
    }
  }

  #fill({ row, cells }, index) {
    const item = this.#rows[index];
    row.id = this.#id(index);
    row.dataset.index = index;
    row.setAttribute("aria-rowindex", index + 2);
    row.setAttribute("aria-selected", this.#keyOf(item) === this.#openKey);
    setClass(row, index === this.#activeIndex ? "active" : "");
    this.#columns.forEach((column, at) => column.fill(cells[at], item));
  }

  #id(index) {
    return `${this.#prefix}-${index}`;
  }

  #click(event) {
    const row = event.target.closest("tr[data-index]");
    // A reader who marks a text to copy it does not want to open the row.
    if (row !== null && String(getSelection()) === "") {
      this.#activate(Number(row.dataset.index));
      this.#open(this.#rows[this.#activeIndex]);
    }
  }

  #key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey || this.#rows.length === 0) {
      return;
    }
    const page = Math.max(1, Math.floor(this.element.clientHeight / ROW_HEIGHT) - 2);
    const targets = {
      ArrowDown: this.#activeIndex + 1,
      ArrowUp: this.#activeIndex - 1,
      PageDown: this.#activeIndex + page,
      PageUp: this.#activeIndex - page,
      Home: 0,
      End: this.#rows.length - 1,
    };
    if (event.key === "Enter" && this.#activeIndex >= 0) {
      this.#open(this.#rows[this.#activeIndex]);
    } else if (event.key in targets) {
      this.#activate(Math.min(this.#rows.length - 1, Math.max(0, targets[event.key])));
    } else {
      return;
    }
    event.preventDefault();
  }

  /** A table that has the focus has an active row, if it has rows. */
  #activateFirst() {
    if (this.#activeIndex < 0 && this.#rows.length > 0 && document.activeElement === this.#table) {
      this.#activate(0);
    }
  }

  #activate(index) {
    this.#activeIndex = index;
    this.#activeKey = this.#keyAt(index);
    // The heading stays at the top of the box, over the rows.
    const [top, bottom] = [index * ROW_HEIGHT, (index + 2) * ROW_HEIGHT];
    const box = this.element;
    if (top < box.scrollTop) {
      box.scrollTop = top;
    } else if (bottom > box.scrollTop + box.clientHeight) {
      box.scrollTop = bottom - box.clientHeight;
    }
    this.#frame.request();
  }
}

/** A row in place of those that are out of sight. */
function spacer() {
  return element("tr", { class: "spacer", role: "presentation" }, element("td", { role: "presentation" }));
}

function height(spacer, rows) {
  const pixels = `${rows * ROW_HEIGHT}px`;
  if (spacer.style.height !== pixels) {
    spacer.style.height = pixels;
  }
  spacer.hidden = rows === 0;
}
