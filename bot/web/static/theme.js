// Before the first paint, so that nobody who chose dark is blinded for a moment.
(function () {
  try {
    const theme = localStorage.getItem("slipway.theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch { /* no storage: the system's choice stands */ }
})();
