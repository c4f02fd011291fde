// What every member knows of one of them.

import { path } from "./api.js";
import { element } from "./elements.js";
import { ago, duration, roundTrip } from "./formats.js";
import { Inquiry, memberName } from "./inquiry.js";
import { plainTable, stateText } from "./plain_table.js";

/** The section for a member. */
export function memberExplanation(api, name) {
  return new Inquiry(
    "What each member knows of it",
    (signal) => api.get(path("members", name, "explain"), {}, signal),
    (explained) => [plainTable(["Member", "State", "Why"], explained.members.map(row))],
  );
}

function row(answer) {
  const { known } = answer;
  if (known === undefined) {
    return [memberName(answer), stateText("unknown", "no answer"), answer.explanation ?? "It knows no such member."];
  }
  const sentences = [...probeSentences(known), ...accusationSentences(known.accusation)];
  const why = element("div", {}, ...sentences.map((sentence) => element("div", {}, sentence)));
  return [memberName(answer), stateText(known.state, known.state), why];
}

function probeSentences({ acknowledged_seconds: seconds, round_trip_seconds: time, state_seconds: since }) {
  const answered = seconds === undefined ? [] : [`Answered a probe ${ago(seconds)}, within ${roundTrip(time)}.`];
  return [`For ${duration(since)}.`, ...answered];
}

function accusationSentences(accusation) {
  if (accusation === undefined) {
    return [];
  }
  const { confirmed_by: confirmed, failed_by: failed, ends_in_seconds: rest } = accusation;
  const sentences = [`Accused by ${accusation.accused_by} ${ago(accusation.seconds_ago)}.`];
  if (confirmed.length > 0) {
    sentences.push(`Confirmed by ${confirmed.join(", ")}.`);
  }
  if (failed !== undefined) {
    sentences.push(`Declared failed by ${failed}.`);
  }
  if (rest !== undefined) {
    sentences.push(`It can refute that for another ${duration(rest)}.`);
  }
  return sentences;
}
