// What the keys do and what the words mean.

import { element } from "./elements.js";
import { plainTable } from "./plain_table.js";

const KEYS = [
  ["/", "Search"],
  ["↑ ↓ Page Up Page Down Home End", "Move in a table"],
  ["Enter", "Open the active row"],
  ["Escape", "Close the details, or go back"],
  ["m, n", "Members, networks"],
  ["?", "This help"],
];

const WORDS = [
  ["alive", "The member answers."],
  ["suspect", "It has not answered; if it does not refute this, it is failed."],
  ["failed", "Members agree that it does not answer. Its entries are hidden, and return if it does."],
  ["left", "It has left on purpose, and its entries with it."],
  ["Round trip", "The smoothed time to a member and back, as long as there is a connection with it."],
  ["Agreement", "Whether all members that answer show the same entries of a network."],
  ["Digest", "Equal on two nodes if and only if both show the same entries."],
  ["Tombstones", "What is kept of deleted entries, so that they do not come back."],
  ["hidden", "The entry is there, but readers do not see it, because its owner has failed or is not compared yet."],
];

export class HelpDialog {
  #heading = element("h2", { id: "help-heading", tabindex: "-1" }, "Help");
  #dialog = element(
    "dialog",
    { "aria-labelledby": "help-heading" },
    this.#heading,
    element("h3", {}, "Keys"),
    plainTable(["Key", "What it does"], KEYS.map(([key, what]) => [element("kbd", {}, key), what])),
    element("h3", {}, "Words"),
    plainTable(["Word", "What it means"], WORDS),
    element(
      "p",
      {},
      "The page shows what this node sees; other nodes may be ahead by milliseconds. Calls for programs: ",
      element("a", { href: "../v1/docs" }, "HTTP API"),
      ".",
    ),
    element(
      "div",
      { class: "actions" },
      element("button", { type: "button", class: "primary", click: () => this.#dialog.close() }, "Close"),
    ),
  );

  constructor() {
    document.body.append(this.#dialog);
  }

  open() {
    this.#dialog.showModal();
    // Not its first link, which is at its end.
    this.#heading.focus();
  }
}
