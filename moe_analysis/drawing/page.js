"use strict";
const {item, figure, templates} = JSON.parse(document.getElementById("figure").textContent);
const plot = document.getElementById(item), {data, layout} = figure;
const narrow = matchMedia("(max-width: 700px)");
const legend = layout.legend ?? {};

// ---- controls: plotly's menus as the page's own, with labels
(layout.updatemenus ?? []).forEach((menu) => {
  const label = document.createElement("label"), select = document.createElement("select");
  menu.buttons.forEach((button, number) => select.add(new Option(button.label, number)));
  select.selectedIndex = Math.max(0, menu.active ?? 0);
  select.addEventListener("change", () => {
    const {method, args} = menu.buttons[select.value];
    Plotly[method](plot, ...structuredClone(args)).then(place);
  });
  label.append(menu.name ?? "Show", select);
  document.getElementById("controls").append(label);
});
layout.updatemenus = [];

// ---- colors: the template's, and those of lines and marks that would be lost on a dark ground
const paint = document.createElement("canvas").getContext("2d");
const light = (channels) => channels.map((part) => (part / 255) ** 2.2) // nearly WCAG's
  .reduce((sum, part, place) => sum + part * [0.2126, 0.7152, 0.0722][place], 0);
function lifted(color) {
  paint.fillStyle = color;
  if (!paint.fillStyle.startsWith("#")) return color; // translucent
  const parts = [1, 3, 5].map((at) => parseInt(paint.fillStyle.slice(at, at + 2), 16));
  for (let share = 0; share < 1; share += 0.05) {
    const mixed = parts.map((part) => Math.round(part + share * (255 - part)));
    if (light(mixed) > 0.2) return `rgb(${mixed})`;
  }
}
const inks = [];
function collect(value) {
  if (!value || typeof value !== "object") return;
  for (const [name, inner] of Object.entries(value)) {
    if (name === "color" && typeof inner === "string") inks.push([value, inner, lifted(inner)]);
    else if (name !== "textfont") collect(inner);
  }
}
data.forEach(({line, marker, error_x, error_y}) => collect({line, marker, error_x, error_y}));
collect([layout.shapes, layout.annotations]);

// ---- drawing: as high as the window, and the legend below where it has no room at the right
async function draw() {
  inks.forEach(([holder, day, night]) => { holder.color = dark() ? night : day; });
  layout.template = structuredClone(templates[dark() ? "dark" : "light"]);
  if (narrow.matches) layout.template.layout.font.size = 12; // the smallest numbers of a logarithmic axis then have 9 pixels
  unfold();
  layout.legend = {...legend, ...(narrow.matches ? {orientation: "h", x: 0, y: -0.1, yanchor: "top"} : {})};
  if (layout.scene) layout.scene.camera ??= {eye: narrow.matches ? {x: 2.3, y: 2.3, z: 1.6} : {x: 1.7, y: 1.7, z: 1.2}}; // far enough to see the titles
  const told = document.querySelector(".framed .reading")?.offsetHeight ?? 0; // in the gallery's frame the text below is seen too
  const fill = narrow.matches ? 0 : innerHeight - plot.getBoundingClientRect().top - scrollY - 32 - told;
  plot.style.height = `${Math.max(figure.height ?? 480, fill)}px`;
  await Plotly.newPlot(plot, data, layout, {displaylogo: false, displayModeBar: narrow.matches ? false : "hover"});
  panels ??= found();
  logarithmic ??= logarithms();
  if (logarithmic.length) await Plotly.relayout(plot, Object.fromEntries(logarithmic.map((name) => [`${name}.dtick`, decades(name)])));
  await place();
  dispatchEvent(new Event("drawn"));
  plot.dataset.drawn = `${narrow.matches ? "narrow" : "wide"} ${dark() ? "dark" : "light"}`;
}
let drawing = Promise.resolve(), width = innerWidth, waiting;
const redraw = () => { drawing = drawing.then(draw); }; // one at a time
addEventListener("themechange", redraw);
addEventListener("resize", () => { // a phone's bars change the height while it scrolls
  if (innerWidth === width) return;
  width = innerWidth;
  clearTimeout(waiting);
  waiting = setTimeout(redraw, 150);
});
