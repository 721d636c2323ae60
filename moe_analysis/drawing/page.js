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
    Plotly[method](plot, ...structuredClone(args)).then(settle);
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

// ---- panels of one row: beside one another with room for their names, on a phone below one another
let panels; // as the figure has them, from left to right
function found() {
  if (plot._fullData.some(({type}) => type === "sankey")) return []; // which lies where it was put, beside no axes
  const {_subplots: kinds, _plots: plots} = plot._fullLayout;
  const flat = kinds.cartesian.map((id) => {
    const {xaxis, yaxis} = plots[id], names = yaxis.type === "category" && yaxis._categories.length;
    const least = yaxis.scaleanchor ? plot.clientWidth : 280; // a map is as high as it is wide
    return {id, x: xaxis._name, y: yaxis._name, across: xaxis.domain, up: yaxis.domain, tall: Math.max(least, 20 * names)};
  });
  const round = [...kinds.polar, ...kinds.gl3d].map((id) => {
    const {x, y} = plot._fullLayout[id].domain;
    return {id, across: x, up: y, tall: 320};
  });
  const all = [...flat, ...round].sort((one, other) => one.across[0] - other.across[0]);
  const title = (panel) => (layout.annotations ?? []).findIndex((note) => note.yref === "paper" && note.yanchor === "bottom"
    && !note.showarrow && note.x > panel.across[0] && note.x < panel.across[1] && Math.abs(note.y - panel.up[1]) < 0.01);
  const bars = (panel) => plot._fullData.flatMap((trace, number) =>
    trace.type === "heatmap" && `${trace.xaxis}${trace.yaxis}` === panel.id ? [number] : []);
  all.forEach((panel) => Object.assign(panel, {title: title(panel), bars: bars(panel)}));
  return all.every((panel) => panel.up[0] === all[0].up[0] && panel.up[1] === all[0].up[1]) ? all : [];
}
const boxes = (selector) => [...plot.querySelectorAll(selector)].map((element) => element.getBoundingClientRect()).filter((box) => box.width);
function around({x, y}) { // pixels that names and titles take at the left of a panel and under it
  if (!x) return [48, 32];
  const {_offset: left} = plot._fullLayout[x], {_offset: top, _length: high} = plot._fullLayout[y];
  const {left: start, top: head} = plot.getBoundingClientRect();
  const [across, up] = [x.replace("axis", ""), y.replace("axis", "")];
  const beside = boxes(`.${up}tick text, .g-${up}title`).map((box) => start + left - box.left);
  const under = boxes(`.${across}tick text, .g-${across}title`).map((box) => box.bottom - head - top - high);
  return [Math.max(0, ...beside), Math.max(0, ...under)];
}
let logarithmic; // axes whose numbers are plotly's choice: 1 to 9 in every decade, which smaller panels have no room for
function logarithms() {
  const {xaxis, yaxis} = plot._fullLayout._subplots;
  const names = [...xaxis, ...yaxis].map((id) => id.replace(/[xy]/, "$&axis"));
  return names.filter((name) => plot._fullLayout[name].type === "log" && plot._fullLayout[name].dtick === "D1");
}
function decades(name) {
  const [low, high] = plot._fullLayout[name].range;
  return Math.abs(high - low) > 1.5 ? 1 : "D2";
}
async function arrange() {
  const stacked = narrow.matches && !plot.style.minWidth, change = {};
  if (stacked) { // before rooms are measured: panels side by side may share the names of the first
    const below = panels.slice(1).filter(({y}) => y).map(({y}) => [`${y}.showticklabels`, true]);
    if (below.length) await Plotly.relayout(plot, Object.fromEntries(below));
  }
  const {w, r} = plot._fullLayout._size;
  const room = plot.clientWidth - layout.margin.l - r; // all of it, without the names at the left
  const rooms = panels.map(around), gaps = rooms.map(([left], number) => (number ? left + 24 : 0));
  const heads = panels.map((panel, number) => (number ? 40 : 0));
  const sum = (values) => values.reduce((total, value) => total + value, 0);
  const whole = sum(panels.map(({tall}) => tall)) + sum(heads) + sum(rooms.slice(0, -1).map(([, under]) => under));
  const share = (1 - sum(gaps) / w) / sum(panels.map(({across}) => across[1] - across[0]));
  let end = stacked ? whole : 0;
  for (const [number, panel] of panels.entries()) {
    let [across, up] = [[panel.y ? rooms[number][0] / room : 0, 1], panel.up];
    if (stacked) {
      end -= heads[number] + panel.tall;
      up = [end / whole, (end + panel.tall) / whole];
      end -= rooms[number][1];
    } else {
      across = [end + gaps[number] / w, end + gaps[number] / w + share * (panel.across[1] - panel.across[0])];
      end = across[1];
    }
    [across, up] = [across, up].map((span) => span.map((value) => Math.min(1, Math.max(0, value))));
    change[panel.x ? `${panel.x}.domain` : `${panel.id}.domain.x`] = across;
    change[panel.y ? `${panel.y}.domain` : `${panel.id}.domain.y`] = up;
    if (panel.y) change[`${panel.y}.automargin`] = stacked ? false : "width"; // every panel has its own room for names
    if (panel.title >= 0) {
      change[`annotations[${panel.title}].x`] = (across[0] + across[1]) / 2;
      change[`annotations[${panel.title}].y`] = up[1];
    }
    if (panel.bars.length && panels.length > 1) {
      const bar = {"colorbar.x": across[1] + 0.02, "colorbar.y": (up[0] + up[1]) / 2, "colorbar.len": up[1] - up[0]};
      await Plotly.restyle(plot, bar, panel.bars);
    }
  }
  const names = plot._fullLayout.legend?._height ?? 0;
  if (stacked) plot.style.height = `${Math.round(whole + rooms.at(-1)[1] + names + 64)}px`;
  await Plotly.relayout(plot, change);
  await Plotly.Plots.resize(plot);
}

// ---- drawing: as high as the window, and the legend below where it has no room at the right
async function draw() {
  inks.forEach(([holder, day, night]) => { holder.color = dark() ? night : day; });
  layout.template = structuredClone(templates[dark() ? "dark" : "light"]);
  if (narrow.matches) layout.template.layout.font.size = 12; // the smallest numbers of a logarithmic axis then have 9 pixels
  layout.legend = {...legend, ...(narrow.matches ? {orientation: "h", x: 0, y: -0.1, yanchor: "top"} : {})};
  if (layout.scene) layout.scene.camera ??= {eye: {x: 1.7, y: 1.7, z: 1.2}};
  const fill = narrow.matches ? 0 : innerHeight - plot.getBoundingClientRect().top - scrollY - 32;
  plot.style.height = `${Math.max(figure.height ?? 480, fill)}px`;
  await Plotly.newPlot(plot, data, layout, {displaylogo: false, displayModeBar: narrow.matches ? false : "hover"});
  panels ??= found();
  logarithmic ??= logarithms();
  if (logarithmic.length) await Plotly.relayout(plot, Object.fromEntries(logarithmic.map((name) => [`${name}.dtick`, decades(name)])));
  if (panels.length) await arrange();
  await settle();
  dispatchEvent(new Event("drawn"));
  plot.dataset.drawn = `${narrow.matches ? "narrow" : "wide"} ${dark() ? "dark" : "light"}`;
}
async function settle() {
  for (let turn = 0; turn < 3 && narrow.matches && plot.querySelector(".legend"); turn++) {
    const area = plot._fullLayout._size, foot = plot.getBoundingClientRect().top + area.t + area.h;
    const under = boxes("[class$=tick] text, .infolayer [class^=g-x]").map((box) => box.bottom - foot);
    await Plotly.relayout(plot, {"legend.y": -(Math.max(0, ...under) + 12) / area.h});
  }
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
