// A question to all members, as a section: it is asked when it is needed, and again when the reader wants to.

import { element, setText } from "./elements.js";
import { clock } from "./formats.js";

export class Inquiry {
  element;
  #answer = element("div");
  #asked = element("span", { class: "hint" });
  #read;
  #show;
  #reading = null;

  /** `read(signal)` resolves to the answer; `show(answer)` makes the nodes that show it. */
  constructor(heading, read, show) {
    this.#read = read;
    this.#show = show;
    const again = element("button", { type: "button", click: () => this.ask() }, "Ask again");
    this.element = element(
      "section",
      { class: "inquiry", "aria-label": heading },
      element("div", { class: "heading" }, element("h3", {}, heading), again),
      this.#answer,
      this.#asked,
    );
  }

  async ask() {
    this.#reading?.abort();
    const reading = new AbortController();
    this.#reading = reading;
    setText(this.#asked, "Asking all members …");
    try {
      const answer = await this.#read(reading.signal);
      this.#answer.replaceChildren(...this.#show(answer));
      setText(this.#asked, `Asked at ${clock(Date.now())}.`);
    } catch (error) {
      if (!reading.signal.aborted) {
        this.#answer.replaceChildren(element("p", { class: "fault" }, `This cannot be asked: ${error.message}.`));
        setText(this.#asked, "");
      }
    }
  }

  close() {
    this.#reading?.abort();
  }
}

/** The name of the member that gave an answer. */
export function memberName({ member, this_node: isThisNode }) {
  return isThisNode ? `${member} (this node)` : member;
}
