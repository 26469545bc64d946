// Set the stored theme before the first paint, so that the page does not flash. src/theme.ts takes over from here.
(function () {
  var chosen = null;
  try {
    chosen = localStorage.getItem("trimtab-theme");
  } catch (_) {
    // Storage may be blocked: the theme of the system applies.
  }
  var dark = matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = chosen === "light" || chosen === "dark" ? chosen : dark ? "dark" : "light";
})();
