// Whether the members of a network show the same entries: asked again and again, and red if they do not.

import { path } from "./api.js";
import { element, setClass, setText } from "./elements.js";
import { count, counted, duration } from "./formats.js";
import { memberName } from "./inquiry.js";
import { plainTable, stateText } from "./plain_table.js";
import { address } from "./router.js";
import { repeat } from "./scheduling.js";

/** The time from one question to all members to the next, in milliseconds. */
const INTERVAL = 5_000;

export class AgreementSection {
  element;
  #network;
  #announcer;
  #verdict = element("p", { class: "status status-waiting" }, "Asking all members …");
  #content = element("div");
  #agreed = null;

  /** Asks until `signal` is aborted. */
  constructor({ api, announcer }, network, signal) {
    this.#network = network;
    this.#announcer = announcer;
    this.element = element(
      "section",
      { class: "beside", "aria-labelledby": "agreement-heading" },
      element("h2", { id: "agreement-heading" }, "Agreement"),
      this.#verdict,
      this.#content,
    );
    const ask = async () => {
      try {
        this.#show(await api.get(path("networks", network, "agreement"), {}, signal));
      } catch (error) {
        signal.throwIfAborted();
        this.#say("stale", `Not known: ${error.message}.`);
      }
    };
    repeat(ask, INTERVAL, signal);
  }

  #show(agreement) {
    const { agree, members, differences, more_differences: more, disagreement_seconds: since } = agreement;
    const answers = members.filter((row) => row.holds !== undefined).length;
    const silent = members.length - answers;
    const rest = silent > 0 ? `; ${counted(silent, "member")} did not answer` : "";
    if (agree) {
      this.#say(silent > 0 ? "partial" : "live", `${counted(answers, "member")} agree${answers === 1 ? "s" : ""}${rest}`);
    } else {
      const time = since > 0 ? ` for ${duration(since)}` : "";
      this.#say("stale", `Members differ${time}${rest}`);
    }
    if (this.#agreed !== null && this.#agreed !== agree) {
      this.#announcer.say(agree ? "Members agree." : "Members differ.");
    }
    this.#agreed = agree;
    const own = members.find((row) => row.this_node)?.holds;
    this.#content.replaceChildren(
      plainTable(["Member", "Shows", "Entries", "Hidden", "Refused"], members.map((row) => memberRow(row, own))),
      ...this.#differences(differences, more),
    );
  }

  #differences(differences, more) {
    if (differences.length === 0) {
      return [];
    }
    const rows = differences.map(({ table, key, explanation }) => {
      const place = address(["networks", this.#network, "tables", table, "entries", key]);
      return [element("a", { href: place }, `${table} / ${key}`), explanation];
    });
    const rest = more ? [element("p", { class: "hint" }, "There are more.")] : [];
    return [element("h3", {}, "Entries that differ"), plainTable(["Entry", "Why"], rows), ...rest];
  }

  #say(kind, text) {
    setClass(this.#verdict, `status status-${kind}`);
    setText(this.#verdict, text);
  }
}

function memberRow(row, own) {
  const { holds } = row;
  if (holds === undefined) {
    return [memberName(row), stateText("unknown", `no answer: ${row.explanation}`), "", "", ""];
  }
  const shows = holds.digest === own?.digest ? stateText("alive", "the same") : stateText("failed", "something else");
  return [memberName(row), shows, count(holds.entries), count(holds.hidden), count(holds.refused)];
}
