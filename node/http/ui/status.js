// Whether what is shown is up to date: as a shape, a colour and a text.

import { clock } from "./formats.js";
import { element, setClass, setText } from "./elements.js";

export class Status {
  element = element("p", { class: "status status-waiting", role: "status" }, "Loading");

  /** Every change is shown as it happens, with a reservation if there is one. */
  live(reservation) {
    this.#show("live", `Live${reservation}`);
  }

  /** What is shown was read a moment ago, and is read again and again. */
  current() {
    this.#show("live", "Up to date");
  }

  loading(text = "Loading") {
    this.#show("waiting", text);
  }

  /** What is shown is from `since`, a clock in milliseconds, or from never. */
  stale(reason, since) {
    const from = since === null ? "" : ` This is from ${clock(since)}.`;
    this.#show("stale", `Not up to date: ${reason}.${from}`);
  }

  #show(kind, text) {
    setClass(this.element, `status status-${kind}`);
    setText(this.element, text);
  }
}
