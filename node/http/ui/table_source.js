// Fills the entries of a table: lists what there is, and follows what changes.

import { nextPart, path } from "./api.js";
import { jsonLines } from "./json_lines.js";
import { pause, repeat } from "./scheduling.js";
import { TableEntries } from "./table_entries.js";
import { Watch } from "./watch.js";

/** The first part of a list is small, so that something is shown at once; for each part the node goes through the table. */
const [FIRST_PART, FURTHER_PARTS] = [200, 100_000];

/** The pause before a list that could not be read is read again, in milliseconds. */
const RETRY_PAUSE = 2_000;

/**
 * The pause before a table with hidden entries is listed anew, in milliseconds: a watch tells of what readers see, and
 * not when a hidden entry is deleted or its owner forgotten.
 */
const HIDDEN_PAUSE = 30_000;

/** The most entries that the page holds. The node may have any number. */
const MOST_ENTRIES = 300_000;

export class TableSource {
  entries;
  #api;
  #network;
  #table;
  #prefix;
  #listener;
  #watch;
  /** Whether the watch has sent everything that the node had when it began. */
  #isSynchronised = false;
  /** What to say of a node that follows, but may lack entries. */
  #reservation = "";
  #listing = null;
  #end = new AbortController();

  /**
   * `listener` has three functions: `changed(changes)`, after entries came, went or changed, with what is new since they
   * were listed, as `TableEntries.apply` returns it; `live(reservation)`; and `stale(reason)`.
   */
  constructor(api, network, table, prefix, listener) {
    this.#api = api;
    this.#network = network;
    this.#table = table;
    this.#prefix = prefix;
    this.#listener = listener;
    this.entries = new TableEntries(prefix);
    this.#watch = new Watch(api, { network, table, prefix }, {
      connected: (resumed) => this.#connected(resumed),
      events: (events) => this.#apply(events),
      lost: (reason, seconds) => this.#lost(reason, seconds),
    });
    repeat(async () => this.#listHidden(), HIDDEN_PAUSE, this.#end.signal);
  }

  close() {
    this.#end.abort();
    this.#watch.close();
    this.#listing?.abort();
  }

  #connected(resumed) {
    if (!resumed || !this.entries.complete) {
      this.#list();
    }
  }

  #lost(reason, seconds) {
    this.#isSynchronised = false;
    const next = seconds === null ? "" : `; the next attempt follows in ${Math.ceil(seconds)} s`;
    this.#listener.stale(reason + next);
    // Without a watch, too, a reader wants to see what there is.
    if (this.entries.size === 0 && this.#listing === null) {
      this.#list();
    }
  }

  #apply(events) {
    const changes = [];
    for (const event of events) {
      if (event.kind === "reset") {
        this.#isSynchronised = false;
        this.#list();
      } else if (event.kind === "synchronised") {
        this.#isSynchronised = true;
        this.#reservation = event.compared ? "" : ", but this node has not compared itself with others yet";
        this.#liveIfSo();
      } else if (event.key !== undefined) {
        const change = this.entries.apply(event);
        if (change !== null) {
          changes.push(change);
        }
      }
    }
    if (this.entries.size > MOST_ENTRIES) {
      this.#stopFollowing();
    }
    this.#listener.changed(changes);
  }

  #liveIfSo() {
    if (this.#isSynchronised && this.entries.complete && this.#listing === null) {
      this.#listener.live(this.#reservation);
    }
  }

  #listHidden() {
    if (this.#isSynchronised && this.#listing === null && this.entries.someHidden) {
      this.#list();
    }
  }

  /** Lists everything anew, in place of a listing under way. Watched changes that arrive meanwhile count. */
  #list() {
    this.#listing?.abort();
    this.#listing = new AbortController();
    const { signal } = this.#listing;
    this.#listUntilDone(signal).catch((error) => {
      if (!signal.aborted) {
        throw error;
      }
    });
  }

  async #listUntilDone(signal) {
    for (;;) {
      this.entries.beginListing();
      try {
        const complete = await this.#readParts(signal);
        this.entries.endListing(complete);
        this.#listing = null;
        this.#listener.changed([]);
        if (!complete) {
          this.#stopFollowing();
        }
        this.#liveIfSo();
        return;
      } catch (error) {
        signal.throwIfAborted();
        this.#listener.stale(error.message);
        await pause(RETRY_PAUSE, signal);
      }
    }
  }

  /** Returns whether the last part was read. */
  async #readParts(signal) {
    const entries = path("networks", this.#network, "tables", this.#table, "entries");
    let parameters = { prefix: this.#prefix, limit: FIRST_PART, hidden: "include" };
    let read = 0;
    while (parameters !== null) {
      const response = await this.#api.open(entries, parameters, signal);
      for await (const records of jsonLines(response.body)) {
        signal.throwIfAborted();
        this.entries.addPage(records);
        this.#listener.changed([]);
        read += records.length;
      }
      parameters = nextPart(response);
      if (parameters !== null) {
        parameters.limit = FURTHER_PARTS;
        if (read >= MOST_ENTRIES) {
          return false;
        }
      }
    }
    return true;
  }

  #stopFollowing() {
    this.#watch.close();
    this.#isSynchronised = false;
    const shown = this.entries.size.toLocaleString("en");
    this.#listener.stale(`the table is too large to follow, and only its first ${shown} entries are here; choose a prefix`);
  }
}
