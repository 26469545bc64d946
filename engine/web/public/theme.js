// Before the first paint, so that a remembered choice never flashes. src/theme.ts goes on from here.
(function () {
  var chosen = null;
  try {
    chosen = localStorage.getItem("trimtab-theme");
  } catch (_) {
    // Storage may be forbidden: the system's own choice then holds.
  }
  var dark = matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = chosen === "light" || chosen === "dark" ? chosen : dark ? "dark" : "light";
})();
