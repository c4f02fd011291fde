// Light or dark: as the system has it, or as the reader chose.

const NAME = "networkdb-theme";
const CHOICES = ["system", "light", "dark"];

function chosen() {
  const stored = localStorage.getItem(NAME);
  return CHOICES.includes(stored) ? stored : "system";
}

function show(choice) {
  document.documentElement.dataset.theme = choice;
}

/** Has a `<select>` with the choices decide. */
export function bindTheme(select) {
  select.value = chosen();
  select.addEventListener("change", () => {
    localStorage.setItem(NAME, select.value);
    show(select.value);
  });
}

// At once, before the first paint: this file blocks rendering.
show(chosen());
