// Elements of the page. Data becomes text nodes and attributes only, never markup.

/**
 * Makes an element. Attributes are named as in HTML; a function is a listener of the event of its name; `true` is an
 * empty attribute; `false`, null and undefined are left out. Children are nodes or texts.
 */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) {
    if (typeof value === "function") {
      made.addEventListener(attribute, value);
    } else if (value !== false && value !== null && value !== undefined) {
      made.setAttribute(attribute, value === true ? "" : value);
    }
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** Shows a text, and touches the document only if it differs: screen readers and layout follow every change. */
export function setText(node, text) {
  if (node.textContent !== text) {
    node.textContent = text;
  }
}

/** Shows a class, and touches the document only if it differs. */
export function setClass(node, name) {
  if (node.className !== name) {
    node.className = name;
  }
}

/** A list of terms with what each means, which changes in place: a reader may be marking a part of it. */
export class Definitions {
  element = element("dl", { class: "definitions" });
  #terms = [];

  /** `rows` are pairs of a term and a text or a node; a row without either is left out. */
  show(rows) {
    const given = rows.filter(([, meaning]) => meaning !== null && meaning !== undefined);
    const terms = given.map(([term]) => term);
    if (terms.join("\n") !== this.#terms.join("\n")) {
      this.#terms = terms;
      const pairs = terms.flatMap((term) => [element("dt", {}, term), element("dd")]);
      this.element.replaceChildren(...pairs);
    }
    const cells = this.element.querySelectorAll("dd");
    given.forEach(([, meaning], at) => {
      const shown = element("dd", {}, meaning);
      if (!cells[at].isEqualNode(shown)) {
        cells[at].replaceWith(shown);
      }
    });
    return this.element;
  }
}
