// Light or dark colours: those of the system until the reader chooses.
"use strict";
(() => {
  const button = document.getElementById("theme");
  const choices = ["system", "light", "dark"];
  const words = { system: "Colours: system", light: "Colours: light", dark: "Colours: dark" };
  let current = "system";
  try { current = localStorage.getItem("qa-report-theme") || "system"; } catch { /* a file may have no storage: the choice is not kept */ }
  if (!choices.includes(current)) current = "system";
  const show = () => {
    if (current === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = current;
    button.textContent = words[current];
  };
  button.addEventListener("click", () => {
    current = choices[(choices.indexOf(current) + 1) % choices.length];
    try { localStorage.setItem("qa-report-theme", current); } catch { /* not kept */ }
    show();
  });
  show();
})();
