// Follows `/v1/watch`: reads its lines, notices when nothing arrives any more, and connects again where it stopped.

import { jsonLines } from "./json_lines.js";
import { pause, seen } from "./scheduling.js";
import { eventOf } from "./watch_events.js";

/** A node sends an empty line every ten seconds. After this many milliseconds without any, the connection is dead. */
const SILENCE = 25_000;

/** The pause before the first further attempt, and the longest one, in milliseconds. */
const [FIRST_PAUSE, LONGEST_PAUSE] = [500, 10_000];

/** Codes of problems that a watch without a cursor does not have. */
const UNUSABLE_CURSOR = new Set(["bad_cursor", "foreign_cursor"]);

/** How long a page that cannot be seen keeps its watch, in milliseconds. */
const HIDDEN_TIME = 60_000;

export class Watch {
  #api;
  #filter;
  #listener;
  #end = new AbortController();
  #cursor = null;

  /**
   * `filter` has the parameters of the call. `listener` has three functions: `connected(resumed)`, before events, tells
   * whether they go on where they stopped or begin with a snapshot; `events(batch)`; and `lost(reason, seconds)`, with
   * the time to the next attempt, or null while the page cannot be seen.
   */
  constructor(api, filter, listener) {
    this.#api = api;
    this.#filter = filter;
    this.#listener = listener;
    this.#run().catch((error) => {
      if (!this.#end.signal.aborted) {
        throw error;
      }
    });
  }

  close() {
    this.#end.abort();
  }

  async #run() {
    for (let failures = 0; ; failures += 1) {
      // A browser opens six connections to a host at a time, for all of its tabs: a tab that nobody sees gives its own back.
      if (document.hidden) {
        this.#listener.lost("paused while this tab is in the background", null);
        await seen(this.#end.signal);
        failures = 0;
      }
      let reason = "the node has ended the stream";
      try {
        if (await this.#read()) {
          failures = 0;
        }
      } catch (error) {
        this.#end.signal.throwIfAborted();
        reason = error.message;
        if (UNUSABLE_CURSOR.has(error.code)) {
          // Another node, or another version of it, answers at this address now. Its snapshot is as good.
          this.#cursor = null;
        }
      }
      if (!document.hidden) {
        const longest = Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** Math.min(failures, 10));
        // A random part, so that all pages of a node that has restarted do not come back at once.
        const milliseconds = longest * (0.5 + Math.random() / 2);
        this.#listener.lost(reason, milliseconds / 1000);
        await pause(milliseconds, this.#end.signal);
      }
    }
  }

  /** Reads until the stream ends. Returns whether anything has arrived. */
  async #read() {
    const attempt = new AbortController();
    const signal = AbortSignal.any([attempt.signal, this.#end.signal]);
    let silence;
    let hidden;
    const listen = () => {
      clearTimeout(silence);
      silence = setTimeout(() => attempt.abort(new Error("nothing has arrived for a while")), SILENCE);
    };
    const look = () => {
      clearTimeout(hidden);
      if (document.hidden) {
        hidden = setTimeout(() => attempt.abort(new Error("hidden")), HIDDEN_TIME);
      }
    };
    document.addEventListener("visibilitychange", look);
    let arrived = false;
    try {
      const response = await this.#api.open("watch", { ...this.#filter, cursor: this.#cursor }, signal);
      this.#listener.connected(this.#cursor !== null);
      listen();
      for await (const lines of jsonLines(response.body)) {
        arrived = true;
        listen();
        for (const line of lines) {
          this.#cursor = line.cursor ?? this.#cursor;
        }
        const events = lines.map(eventOf).filter((event) => event !== null);
        if (events.length > 0) {
          this.#listener.events(events);
        }
      }
    } finally {
      document.removeEventListener("visibilitychange", look);
      clearTimeout(silence);
      clearTimeout(hidden);
      attempt.abort();
    }
    return arrived;
  }
}
