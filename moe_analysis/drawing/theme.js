// before the first paint, so that a dark page does not flash white
const root = document.documentElement, system = matchMedia("(prefers-color-scheme: dark)");
const dark = () => (root.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
const chosenTheme = () => { try { return localStorage.getItem("moe_analysis.theme") || ""; } catch { return ""; } };
root.classList.add("scripted");
root.dataset.theme = chosenTheme();
addEventListener("DOMContentLoaded", () => {
  const button = document.getElementById("theme");
  const tell = () => {
    button.setAttribute("aria-pressed", String(dark()));
    dispatchEvent(new Event("themechange"));
  };
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    try { localStorage.setItem("moe_analysis.theme", root.dataset.theme); } catch { /* no storage */ }
    tell();
  });
  system.addEventListener("change", tell);
  addEventListener("storage", () => { root.dataset.theme = chosenTheme(); tell(); }); // chosen on another page
  tell();
});
