// The token that the reader has given. It stays in this tab: other tabs, the address and the next session do not have it.

const NAME = "networkdb-token";

export class Token extends EventTarget {
  /** The token, or null. */
  get() {
    return sessionStorage.getItem(NAME);
  }

  set(token) {
    sessionStorage.setItem(NAME, token);
    this.dispatchEvent(new Event("change"));
  }

  forget() {
    sessionStorage.removeItem(NAME);
    this.dispatchEvent(new Event("change"));
  }
}

/** Why a text cannot be a token, or null. A header cannot carry other characters. */
export function fault(text) {
  if (text === "") {
    return "Enter a token.";
  }
  return /^[\x21-\x7e]+$/.test(text) ? null : "A token has no spaces and no characters outside of ASCII.";
}
