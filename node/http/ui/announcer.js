// Tells screen readers what has changed, seldom enough to be listened to.

/** The shortest time between two announcements, in milliseconds. */
const INTERVAL = 4_000;

/** The most sentences of one announcement; the others are counted. */
const SENTENCES = 3;

export class Announcer {
  #region;
  #waiting = [];
  #more = 0;
  #timer = null;
  #last = 0;

  /** `region` is an element with `aria-live`. */
  constructor(region) {
    this.#region = region;
  }

  say(sentence) {
    if (this.#waiting.length < SENTENCES) {
      this.#waiting.push(sentence);
    } else {
      this.#more += 1;
    }
    this.#timer ??= setTimeout(() => this.#speak(), Math.max(100, this.#last + INTERVAL - Date.now()));
  }

  #speak() {
    const rest = this.#more > 0 ? ` And ${this.#more} more changes.` : "";
    this.#region.textContent = this.#waiting.join(" ") + rest;
    this.#waiting = [];
    this.#more = 0;
    this.#timer = null;
    this.#last = Date.now();
  }
}
