// A small table, as a whole.

import { element } from "./elements.js";

/** `rows` are lists of texts or nodes, of which the first names its row. */
export function plainTable(headings, rows) {
  return element(
    "table",
    { class: "plain" },
    element("thead", {}, element("tr", {}, ...headings.map((heading) => element("th", { scope: "col" }, heading)))),
    element(
      "tbody",
      {},
      ...rows.map(([name, ...cells]) =>
        element("tr", {}, element("th", { scope: "row" }, name), ...cells.map((cell) => element("td", {}, cell))),
      ),
    ),
  );
}

/** A state, as a shape and a colour with its word: `kind` is one of the states of style.css. */
export function stateText(kind, text) {
  return element("span", { class: `state state-${kind}` }, text);
}
