// The page: which view is shown, and what is the same in all of them.

import { Announcer } from "./announcer.js";
import { Api, path } from "./api.js";
import { element, setText } from "./elements.js";
import { HelpDialog } from "./help_dialog.js";
import { MembersView } from "./members_view.js";
import { NetworkView } from "./network_view.js";
import { NetworksView } from "./networks_view.js";
import { address, place } from "./router.js";
import { TableView } from "./table_view.js";
import { bindTheme } from "./theme.js";
import { Token } from "./token.js";
import { TokenDialog } from "./token_dialog.js";

const find = (id) => document.getElementById(id);

const token = new Token();
const tokenDialog = new TokenDialog(token);
const help = new HelpDialog();
const context = {
  api: new Api(token, (problem) => tokenDialog.ask(problem)),
  announcer: new Announcer(find("announcements")),
};

let view = null;
let viewName = null;

/** The view of a place, and its name: a view is kept while its name stays. */
function viewOf({ parts }) {
  const [first, network, third, table] = parts;
  if (first === "members" && parts.length <= 2) {
    return ["members", () => new MembersView(context)];
  }
  if (first === "networks" && parts.length === 1) {
    return ["networks", () => new NetworksView(context)];
  }
  if (first === "networks" && parts.length === 2) {
    return [address(parts), () => new NetworkView(context, network)];
  }
  const isEntry = parts.length === 6 && parts[4] === "entries";
  if (first === "networks" && third === "tables" && (parts.length === 4 || isEntry)) {
    return [address(parts.slice(0, 4)), () => new TableView(context, network, table)];
  }
  return null;
}

function show() {
  const here = location.hash === "" || location.hash === "#/" ? place("#/members") : place(location.hash);
  const found = here && viewOf(here);
  if (!found) {
    leave();
    find("content").replaceChildren(nothingHere());
    document.title = "Not found — networkdb";
    return;
  }
  const [name, make] = found;
  const shownBefore = viewName;
  if (name !== viewName) {
    leave();
    view = make();
    viewName = name;
    find("content").replaceChildren(view.element);
    document.title = `${view.title} — networkdb`;
  }
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === address(here.parts.slice(0, 1))) {
      link.setAttribute("aria-current", "page");
    } else {
      link.removeAttribute("aria-current");
    }
  }
  view.update(here);
  // A view that was just opened continues where the reader was: at its table, not at the top of the page.
  if (name !== shownBefore && shownBefore !== null && document.activeElement === document.body) {
    view.focus();
  }
}

function leave() {
  view?.close();
  view = null;
  viewName = null;
}

function nothingHere() {
  return element(
    "div",
    { class: "main-column" },
    element("h1", {}, "There is nothing here"),
    element("p", {}, "The address names no view. ", element("a", { href: address(["members"]) }, "Go to the members"), "."),
  );
}

/** Begins anew, for example with another token. */
function restart() {
  leave();
  show();
  showNode();
}

async function showNode() {
  try {
    const node = await context.api.get(path("node"));
    setText(find("node"), `${node.name} · ${node.version}`);
  } catch (error) {
    setText(find("node"), error.wantsToken ? "no token" : "not reachable");
  }
}

function showToken() {
  find("forget-token").hidden = token.get() === null;
  find("enter-token").hidden = !tokenDialog.declined;
}

function keyDown(event) {
  if (event.defaultPrevented || event.altKey || event.ctrlKey || event.metaKey || document.querySelector("dialog[open]")) {
    return;
  }
  if (event.key === "Escape") {
    // The first Escape in a search clears it, as in every search of a browser.
    if (!(event.target.matches("input") && event.target.value !== "")) {
      view?.escape();
    }
    return;
  }
  if (event.target.matches("input, select, textarea")) {
    return;
  }
  const actions = {
    "/": () => document.querySelector("[data-search]")?.focus(),
    "?": () => help.open(),
    m: () => (location.hash = address(["members"])),
    n: () => (location.hash = address(["networks"])),
  };
  if (event.key in actions) {
    event.preventDefault();
    actions[event.key]();
  }
}

token.addEventListener("change", showToken);
tokenDialog.declinedChanged = showToken;
find("forget-token").addEventListener("click", () => {
  token.forget();
  restart();
});
find("enter-token").addEventListener("click", () => {
  tokenDialog.reconsider();
  restart();
});
find("open-help").addEventListener("click", () => help.open());
bindTheme(find("theme"));
addEventListener("hashchange", show);
addEventListener("keydown", keyDown);
showToken();
show();
showNode();
