// Asks the reader for a token.

import { element, setText } from "./elements.js";
import { fault } from "./token.js";

/** Why a token is asked for. The node's own sentences are for those who write programs. */
const REASONS = {
  token_required: "It shows its state to those who have a token for reading. Tokens are in its token file.",
  unknown_token: "It does not know the token that you have given.",
  role_required: "The token that you have given does not have the right that this view needs.",
};

export class TokenDialog {
  /** Called when the reader has declined, and when calls ask again. */
  declinedChanged = () => {};
  #token;
  #dialog;
  #reason = element("p", { id: "token-reason" });
  #fault = element("p", { class: "fault", role: "alert", id: "token-fault" });
  #input = element("input", {
    id: "token-input",
    type: "password",
    autocomplete: "off",
    spellcheck: "false",
    "aria-describedby": "token-reason token-fault",
  });
  #asking = null;
  #answer = null;
  #declined = false;

  constructor(token) {
    this.#token = token;
    this.#dialog = element(
      "dialog",
      { "aria-labelledby": "token-heading", close: () => this.#end(false) },
      element("h2", { id: "token-heading" }, "This node asks for a token"),
      this.#reason,
      element(
        "form",
        { submit: (event) => this.#submit(event), novalidate: true },
        element("label", { for: "token-input" }, "Token"),
        this.#input,
        this.#fault,
        element("p", { class: "hint" }, "It stays in this tab until you close it or choose “Forget token”."),
        element(
          "div",
          { class: "actions" },
          element("button", { type: "submit", class: "primary" }, "Use token"),
          element("button", { type: "button", click: () => this.#dialog.close() }, "Cancel"),
        ),
      ),
    );
    document.body.append(this.#dialog);
  }

  /** Resolves to whether the reader has given a token. All calls that wait meanwhile share one question. */
  ask(problem) {
    if (this.#declined) {
      // Calls are repeated; the reader is not asked again by each of them.
      return Promise.resolve(false);
    }
    this.#asking ??= new Promise((resolve) => {
      setText(this.#reason, REASONS[problem.code] ?? problem.message);
      setText(this.#fault, "");
      this.#input.value = "";
      this.#dialog.showModal();
      this.#input.focus();
      this.#answer = resolve;
    });
    return this.#asking;
  }

  /** Whether the reader has declined. */
  get declined() {
    return this.#declined;
  }

  /** Asks again from the next call on, although the reader has declined. */
  reconsider() {
    this.#decline(false);
  }

  #decline(declined) {
    this.#declined = declined;
    this.declinedChanged();
  }

  #submit(event) {
    event.preventDefault();
    const text = this.#input.value.trim();
    const found = fault(text);
    setText(this.#fault, found ?? "");
    if (found === null) {
      this.#token.set(text);
      this.#end(true);
      this.#dialog.close();
    }
  }

  #end(given) {
    if (this.#asking === null) {
      return;
    }
    this.#decline(!given);
    this.#asking = null;
    this.#input.value = "";
    this.#answer(given);
  }
}
