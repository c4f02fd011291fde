// What has changed since the reader began to look, the latest first.

import { element } from "./elements.js";
import { clock } from "./formats.js";
import { FrameTask } from "./scheduling.js";

/** The most changes that are kept and shown. */
const MOST = 100;

export class RecentChanges {
  element;
  #list = element("ol", { class: "changes", tabindex: "0", "aria-label": "Recent changes, the latest first" });
  #changes = [];
  #frame = new FrameTask(() => this.#draw());

  constructor() {
    this.element = element(
      "details",
      { class: "recent", open: true, toggle: () => this.#frame.request() },
      element("summary", {}, "Recent changes"),
      this.#list,
    );
    this.#draw();
  }

  add(changes) {
    if (changes.length > 0) {
      const at = Date.now();
      const latest = changes.slice(-MOST).reverse().map((change) => ({ at, ...change }));
      this.#changes = [...latest, ...this.#changes].slice(0, MOST);
      this.#frame.request();
    }
  }

  #draw() {
    if (!this.element.open) {
      return;
    }
    const items = this.#changes.map(({ at, what, key, value, previous }) =>
      element(
        "li",
        {},
        element("time", {}, clock(at)),
        element("span", { class: "what" }, what),
        element("code", { class: "key" }, key),
        element("code", { class: "value" }, value === null ? "" : transition(previous, value)),
      ),
    );
    this.#list.replaceChildren(...(items.length > 0 ? items : [element("li", { class: "none" }, "None yet.")]));
  }
}

function transition(previous, value) {
  return previous === undefined || previous === value ? value : `${previous} → ${value}`;
}
