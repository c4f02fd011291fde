// The networks that this node is on.

import { path } from "./api.js";
import { element, setClass, setText } from "./elements.js";
import { count, counted } from "./formats.js";
import { ListingView } from "./listing_view.js";
import { address } from "./router.js";

export class NetworksView {
  title = "Networks";
  element;
  #list;

  constructor({ api }) {
    this.#list = new ListingView({
      heading: element("h1", {}, "Networks"),
      label: "Networks",
      empty: "This node has not joined a network.",
      interval: 2000,
      read: (signal) => api.list(path("networks"), "networks", signal),
      columns: COLUMNS,
      keyOf: (network) => network.network,
      textsOf: (network) => [network.network, network.join],
      summary: (networks) => counted(networks.length, "network"),
      open: (network) => (location.hash = address(["networks", network.network])),
    });
    this.element = this.#list.element;
  }

  update() {}

  escape() {}

  focus() {
    this.#list.focusTable();
  }

  close() {
    this.#list.close();
  }
}

const number = (title, field) => ({
  title,
  class: "narrow number",
  fill: (cell, network) => setText(cell, count(network[field])),
});

const COLUMNS = [
  { title: "Name", class: "wide", fill: (cell, network) => setText(cell, network.network) },
  {
    title: "Synchronised",
    class: "medium",
    fill(cell, network) {
      setClass(cell, `medium state ${network.synchronised || network.join === "alone" ? "state-alive" : "state-suspect"}`);
      setText(cell, synchronised(network));
    },
  },
  number("Entries", "entries"),
  number("Hidden", "hidden"),
  number("Tombstones", "tombstones"),
  number("Refused", "refused"),
  number("To send", "queue_length"),
  number("Members", "peers"),
  { title: "Digest", class: "rest code", fill: (cell, network) => setText(cell, network.digest) },
];

/** Whether the node has what others have, in words. */
export function synchronised(network) {
  if (network.synchronised) {
    return "yes";
  }
  return { alone: "alone", joining: "joining", unsynchronised: "not yet" }[network.join] ?? "not yet";
}
