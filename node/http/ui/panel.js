// The details of one thing, beside the table that it was chosen from.

import { element, setText } from "./elements.js";

export class Panel {
  element;
  #heading = element("h2", { id: "panel-heading", tabindex: "-1" });
  #content = element("div", { class: "panel-content" });

  /** `close()` is called when the reader wants to go back. */
  constructor(close) {
    this.element = element(
      "aside",
      { class: "panel", "aria-labelledby": "panel-heading", hidden: true },
      element(
        "header",
        {},
        this.#heading,
        element("button", { type: "button", "aria-keyshortcuts": "Escape", click: close }, "Close"),
      ),
      this.#content,
    );
  }

  get isOpen() {
    return !this.element.hidden;
  }

  /** Opens it, with the focus on its heading, so that a screen reader goes on there. */
  open(title) {
    setText(this.#heading, title);
    this.#content.replaceChildren();
    this.element.hidden = false;
    this.#heading.focus({ preventScroll: true });
  }

  /** Shows these nodes. Those that are there already stay as they are. */
  show(...content) {
    const shown = content.filter((part) => part !== null && part !== undefined);
    const present = [...this.#content.childNodes];
    if (shown.length !== present.length || shown.some((node, at) => node !== present[at])) {
      this.#content.replaceChildren(...shown);
    }
  }

  close() {
    this.element.hidden = true;
  }
}
