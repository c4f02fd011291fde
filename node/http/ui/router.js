// Places of the page, as the part of the address behind `#`. Names are encoded, so they may hold any character.

/** The address of a place from its parts and parameters; empty parameters are left out. */
export function address(parts, parameters = {}) {
  const given = Object.entries(parameters).filter(([, value]) => value);
  const query = given.length > 0 ? `?${new URLSearchParams(given)}` : "";
  return `#/${parts.map(encodeURIComponent).join("/")}${query}`;
}

/** The parts and parameters of an address, or null if it is not one. */
export function place(hash) {
  const [path, query = ""] = hash.replace(/^#?\/?/, "").split("?", 2);
  try {
    const parts = path === "" ? [] : path.split("/").map(decodeURIComponent);
    return { parts, parameters: Object.fromEntries(new URLSearchParams(query)) };
  } catch {
    // A percent sign that no two digits follow.
    return null;
  }
}

/** Changes the parameters of the present place, without a step in the history: each letter of a search is one. */
export function replaceParameters(parts, parameters) {
  history.replaceState(null, "", address(parts, parameters));
}
