// What every member of a network knows about an entry.

import { path } from "./api.js";
import { element } from "./elements.js";
import { ago, bytes, duration } from "./formats.js";
import { Inquiry, memberName } from "./inquiry.js";
import { plainTable, stateText } from "./plain_table.js";

const REFUSED = {
  future_time: "its time is in the future",
  too_long: "it is longer than a limit of the member",
  network_full: "the network is full there",
  too_many_tables: "there are too many tables there",
  too_many_bytes: "the network has too many bytes there",
  fragmented: "it would fragment the member’s version vector",
};

/** The section for an entry. */
export function entryExplanation(api, network, table, key) {
  return new Inquiry(
    "At each member",
    (signal) => api.get(path("networks", network, "tables", table, "entries", key, "explain"), {}, signal),
    ({ members }) => {
      // What this node holds is described once, and of the others what is different.
      const own = members.find((row) => row.this_node)?.entry?.write;
      const sentences = own === undefined ? [] : [element("p", {}, writtenSentence(own))];
      return [...sentences, plainTable(["Member", "State", "How it came there"], members.map((row) => cells(row, own)))];
    },
  );
}

function cells(row, own) {
  const { entry } = row;
  if (entry === undefined) {
    return [memberName(row), stateText("unknown", "no answer"), row.explanation];
  }
  const isOther = entry.write?.version !== own?.version;
  const sentences = [...writeSentences(entry.write, isOther), ...refusedSentences(entry.refused)];
  const how = element("div", {}, ...sentences.map((sentence) => element("div", {}, sentence)));
  return [memberName(row), stateCell(entry, isOther), how];
}

function stateCell({ state, hidden }, isOther) {
  switch (state) {
    case "visible":
      return isOther ? stateText("suspect", "another version") : stateText("alive", "visible");
    case "hidden":
      return stateText("failed", hidden === "owner_failed" ? "hidden: owner failed" : "hidden: to compare");
    case "deleted":
      return stateText(isOther ? "suspect" : "left", "deleted");
    default:
      return stateText(isOther ? "suspect" : "left", "not there");
  }
}

function writtenSentence({ owner, written, bytes: size, version }) {
  return `Written by ${owner} on ${when(written)}, ${bytes(size)}, version ${version}.`;
}

function writeSentences(write, isOther) {
  if (write === undefined) {
    return [];
  }
  const { arrival, tombstone_seconds: rest } = write;
  const sentences = isOther ? [writtenSentence(write)] : [];
  if (arrival === undefined) {
    sentences.push("How it came is not kept any more.");
  } else {
    const time = arrival.seconds_ago === undefined ? "" : `, ${ago(arrival.seconds_ago)}`;
    sentences.push(arrival.path === "local" ? `Written here${time}.` : `By ${arrival.path} from ${arrival.from}${time}.`);
    if (arrival.replaced_version !== undefined) {
      sentences.push(`It replaced a version of ${arrival.replaced_owner}.`);
    }
  }
  if (rest !== undefined) {
    sentences.push(`Its tombstone is kept for another ${duration(rest)}.`);
  }
  return sentences;
}

function refusedSentences(refused) {
  if (refused === undefined) {
    return [];
  }
  const reason = REFUSED[refused.reason] ?? refused.reason;
  return [`Refuses the write of ${refused.owner} on ${when(refused.written)}: ${reason}.`];
}

/** Seconds since 1970 as a date and a time. */
function when(seconds) {
  return new Date(seconds * 1000).toLocaleString("sv-SE");
}
