// Rows that contain a text.

export class RowFilter {
  #pattern = null;

  /** The rows to show are those that contain `text`, in any case; all of them if it is empty. */
  set text(text) {
    this.#pattern = text === "" ? null : new RegExp(text.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&"), "i");
  }

  get active() {
    return this.#pattern !== null;
  }

  /** Those of `rows` of which one of the texts that `textsOf` returns contains the text. */
  of(rows, textsOf) {
    const pattern = this.#pattern;
    return pattern === null ? rows : rows.filter((row) => textsOf(row).some((text) => pattern.test(text)));
  }
}
