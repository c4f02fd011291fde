// The members of the cluster, and one of them in detail.

import { path } from "./api.js";
import { Definitions, element, setClass, setText } from "./elements.js";
import { ago, count, counted, duration, roundTrip } from "./formats.js";
import { ListingView } from "./listing_view.js";
import { memberExplanation } from "./member_explanation.js";
import { address } from "./router.js";

const STATES = ["alive", "suspect", "failed", "left"];

export class MembersView {
  title = "Members";
  element;
  #list;
  #facts = new Definitions();
  #chosen = null;
  #explanation = null;
  /** The state of the chosen member when the others were asked about it. */
  #explainedState = null;
  #api;
  #announcer;

  constructor({ api, announcer }) {
    this.#api = api;
    this.#announcer = announcer;
    this.#list = new ListingView({
      heading: element("h1", {}, "Members"),
      label: "Members",
      empty: "This node knows no members yet.",
      interval: 1500,
      read: (signal) => api.list(path("members"), "members", signal),
      columns: COLUMNS,
      keyOf: (member) => member.name,
      textsOf: (member) => [member.name, member.address, member.state, labels(member)],
      summary,
      open: (member) => (location.hash = address(["members", member.name])),
      closePanel: () => (location.hash = address(["members"])),
      changed: (members, earlier) => this.#changed(members, earlier),
    });
    this.element = this.#list.element;
  }

  /** Shows the place `members` or `members/NAME`. */
  update({ parts: [, name] }) {
    const chosen = name ?? null;
    if (chosen === this.#chosen) {
      return;
    }
    this.#chosen = chosen;
    this.#explanation?.close();
    if (chosen === null) {
      this.#list.closePanel();
    } else {
      this.#explanation = memberExplanation(this.#api, chosen);
      this.#explainedState = null;
      this.#list.openPanel(chosen, `Member ${chosen}`);
      this.#showMember();
    }
  }

  escape() {
    if (this.#chosen !== null) {
      location.hash = address(["members"]);
    }
  }

  focus() {
    this.#list.focusTable();
  }

  close() {
    this.#explanation?.close();
    this.#list.close();
  }

  #changed(members, earlier) {
    this.#showMember();
    if (earlier === null) {
      return;
    }
    const states = new Map(earlier.map((member) => [member.name, member.state]));
    for (const { name, state } of members) {
      if (states.get(name) !== state) {
        this.#announcer.say(`Member ${name} is ${state}.`);
      }
    }
  }

  #showMember() {
    if (this.#chosen === null) {
      return;
    }
    const member = this.#list.rows.find((row) => row.name === this.#chosen);
    if (member === undefined) {
      this.#list.panel.show(element("p", {}, "This node knows no member of this name."));
      return;
    }
    const state = element("span", {}, member.state);
    setClass(state, stateClass(member));
    this.#list.panel.show(
      this.#facts.show([
        ["State", state],
        ["In this state for", duration(member.state_seconds)],
        ["Address", element("code", {}, member.address)],
        ["Round trip", roundTripOf(member) || "no connection at present"],
        ["Last heard", heard(member) || "never directly"],
        ["Generation", String(member.generation)],
        ...Object.entries(member.labels).map(([name, value]) => [`Label ${name}`, value]),
      ]),
      this.#explanation.element,
    );
    if (member.state !== this.#explainedState) {
      this.#explainedState = member.state;
      this.#explanation.ask();
    }
  }
}

const COLUMNS = [
  {
    title: "State",
    class: "narrow",
    fill(cell, member) {
      setClass(cell, `narrow ${stateClass(member)}`);
      setText(cell, member.state);
    },
  },
  { title: "Name", class: "wide", fill: (cell, member) => setText(cell, nameOf(member)) },
  { title: "Address", class: "medium code", fill: (cell, member) => setText(cell, member.address) },
  { title: "Round trip", class: "narrow number", fill: (cell, member) => setText(cell, roundTripOf(member)) },
  { title: "Last heard", class: "medium number", fill: (cell, member) => setText(cell, heard(member)) },
  { title: "In state for", class: "medium number", fill: (cell, member) => setText(cell, duration(member.state_seconds)) },
  { title: "Labels", class: "rest", fill: (cell, member) => setText(cell, labels(member)) },
];

function nameOf(member) {
  return member.this_node ? `${member.name} (this node)` : member.name;
}

function stateClass(member) {
  return `state state-${STATES.includes(member.state) ? member.state : "unknown"}`;
}

/** The round-trip time in words. The connection of a member that has failed lasts a while, but nothing comes back. */
function roundTripOf({ state, round_trip_seconds: seconds }) {
  return seconds === undefined || ["failed", "left"].includes(state) ? "" : roundTrip(seconds);
}

function heard(member) {
  if (member.this_node) {
    return "this node";
  }
  return member.last_seen_seconds === undefined ? "" : ago(member.last_seen_seconds);
}

function labels(member) {
  return Object.entries(member.labels).map(([name, value]) => `${name}=${value}`).join(" ");
}

function summary(members) {
  const counts = STATES.map((state) => [members.filter((member) => member.state === state).length, state]);
  const parts = counts.filter(([number]) => number > 0).map(([number, state]) => `${count(number)} ${state}`);
  return `${counted(members.length, "member")}: ${parts.join(", ")}`;
}
