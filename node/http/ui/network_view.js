// One network: what it holds, its tables, and the members on it.

import { AgreementSection } from "./agreement_section.js";
import { path } from "./api.js";
import { element, setText } from "./elements.js";
import { count, counted } from "./formats.js";
import { ListingView } from "./listing_view.js";
import { synchronised } from "./networks_view.js";
import { address } from "./router.js";

export class NetworkView {
  title;
  element;
  #api;
  #network;
  #list;
  #facts = element("p", { class: "facts" });

  #end = new AbortController();

  constructor(context, network) {
    this.#api = context.api;
    this.#network = network;
    this.title = `Network ${network}`;
    this.#list = new ListingView({
      heading: element(
        "h1",
        {},
        element("a", { href: address(["networks"]) }, "Networks"),
        ` / ${network}`,
      ),
      more: [this.#facts],
      beside: new AgreementSection(context, network, this.#end.signal).element,
      label: "Tables",
      empty: "No table of this network has entries.",
      // Each time the node counts the entries of all tables.
      interval: 4000,
      read: (signal) => this.#read(signal),
      columns: [
        { title: "Table", class: "wide", fill: (cell, table) => setText(cell, table.table) },
        { title: "Entries", class: "rest number", fill: (cell, table) => setText(cell, count(table.entries)) },
      ],
      keyOf: (table) => table.table,
      textsOf: (table) => [table.table],
      summary: (tables) => counted(tables.length, "table"),
      open: (table) => (location.hash = address(["networks", network, "tables", table.table])),
    });
    this.element = this.#list.element;
  }

  update() {}

  escape() {
    location.hash = address(["networks"]);
  }

  focus() {
    this.#list.focusTable();
  }

  close() {
    this.#end.abort();
    this.#list.close();
  }

  async #read(signal) {
    const [network, tables, peers] = await Promise.all([
      this.#api.get(path("networks", this.#network), {}, signal),
      this.#api.list(path("networks", this.#network, "tables"), "tables", signal),
      this.#api.list(path("networks", this.#network, "peers"), "peers", signal),
    ]);
    const hidden = network.hidden > 0 ? `, ${count(network.hidden)} hidden` : "";
    const refused = network.refused > 0 ? `, ${count(network.refused)} refused` : "";
    setText(
      this.#facts,
      `${counted(network.entries, "entry", "entries")}${hidden}${refused}. ` +
        `Synchronised: ${synchronised(network)}. Digest ${network.digest}. ` +
        `${counted(peers.length, "member")}: ${shortened(peers)}.`,
    );
    return tables;
  }
}

/** The first names of a list, and how many follow. */
function shortened(names) {
  const shown = names.slice(0, 20).join(", ");
  return names.length > 20 ? `${shown} and ${count(names.length - 20)} more` : shown;
}
