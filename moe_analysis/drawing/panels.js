// ---- panels: those of one row with room for their names; on a phone all of them below one another
let panels; // as the figure has them, from the first row down and in a row from left to right
const meet = (one, other) => Math.min(one[1], other[1]) - Math.max(one[0], other[0]) > 0.01;
function found() {
  if (plot._fullData.some(({type}) => type === "sankey")) return []; // which lies where it was put, beside no axes
  const {_subplots: kinds, _plots: plots} = plot._fullLayout;
  const flat = kinds.cartesian.map((id) => {
    const {xaxis, yaxis} = plots[id];
    return {id, x: xaxis._name, y: yaxis._name, across: xaxis.domain, up: yaxis.domain};
  });
  const round = [...kinds.polar, ...kinds.gl3d].map((id) => {
    const {x, y} = plot._fullLayout[id].domain;
    return {id, across: x, up: y};
  });
  const all = [...flat, ...round].sort((one, other) => meet(one.up, other.up) ? one.across[0] - other.across[0] : other.up[0] - one.up[0]);
  const title = (panel) => (layout.annotations ?? []).findIndex((note) => note.yref === "paper" && note.yanchor === "bottom"
    && !note.showarrow && note.x > panel.across[0] && note.x < panel.across[1] && Math.abs(note.y - panel.up[1]) < 0.01);
  const bars = (panel) => data.flatMap(({type, showscale, xaxis = "x", yaxis = "y"}, number) => // also those that a menu shows later
    type === "heatmap" && showscale !== false && `${xaxis}${yaxis}` === panel.id ? [number] : []);
  all.forEach((panel) => Object.assign(panel, {title: title(panel), bars: bars(panel)}));
  const pairs = all.flatMap((one, number) => all.slice(number + 1).map((other) => meet(one.up, other.up)));
  return pairs.length && !pairs.includes(true) ? [] : Object.assign(all, {row: !pairs.includes(false)}); // one column is stacked already
}
const boxes = (selector) => [...plot.querySelectorAll(selector)].map((element) => element.getBoundingClientRect()).filter((box) => box.width);
function around({x, y}) { // pixels that names and titles take at the left of a panel and under it
  if (!x) return [48, 32];
  const {_offset: left} = plot._fullLayout[x], {_offset: top, _length: high} = plot._fullLayout[y];
  const {left: start, top: head} = plot.getBoundingClientRect();
  const [across, up] = [x.replace("axis", ""), y.replace("axis", "")];
  const beside = boxes(`.cartesianlayer .${up}tick text, .g-${up}title`).map((box) => start + left - box.left);
  const under = boxes(`.cartesianlayer .${across}tick text, .g-${across}title`).map((box) => box.bottom - head - top - high);
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
const scales = new Map(); // bars of colors, as the figure has them: beside a panel, on a phone under it
const BAR = 60; // pixels that a bar of colors takes under a panel: its title, the colors and their numbers
const named = (axis) => (axis.type === "category" ? axis._categories : axis.tickmode === "array" ? axis.ticktext ?? [] : []);
function height({y}) {
  if (!y) return 320;
  const axis = plot._fullLayout[y], names = named(axis).length;
  const least = axis.scaleanchor ? plot.clientWidth : 280; // a map is as high as it is wide
  return Math.max(least, names * (axis.ticktext?.some?.(wrapped) ? 32 : 20));
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
  const unders = panels.map(({bars}, number) => rooms[number][1] + (bars.length && BAR));
  const lines = ({title}) => (title >= 0 ? layout.annotations[title].text.split("<br>").length : 1);
  const heads = panels.map((panel, number) => (number ? 24 + 16 * lines(panel) : 0));
  const talls = panels.map(height);
  const sum = (values) => values.reduce((total, value) => total + value, 0);
  const whole = sum(talls) + sum(heads) + sum(unders.slice(0, -1));
  const share = (1 - sum(gaps) / w) / sum(panels.map(({across}) => across[1] - across[0]));
  let end = stacked ? whole : 0;
  for (const [number, panel] of panels.entries()) {
    let {across, up} = panel;
    if (stacked) {
      end -= heads[number] + talls[number];
      [across, up] = [[panel.y ? rooms[number][0] / room : 0, 1], [end / whole, (end + talls[number]) / whole]];
      end -= unders[number];
    } else if (panels.row) {
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
    if (panel.bars.length) {
      const beside = panels.length > 1 && {x: across[1] + 0.02, y: (up[0] + up[1]) / 2, len: up[1] - up[0]};
      const below = {xanchor: "center", x: (across[0] + across[1]) / 2, len: across[1] - across[0], yanchor: "top", y: up[0] - rooms[number][1] / whole};
      const bar = Object.entries(stacked ? below : beside).map(([key, value]) => [`colorbar.${key}`, value]);
      if (bar.length) await Plotly.restyle(plot, Object.fromEntries(bar), panel.bars);
    }
  }
  const names = plot._fullLayout.legend?._height ?? 0;
  layout.margin.t = 16 + 16 * lines(panels[0]);
  if (stacked) plot.style.height = `${Math.round(whole + unders.at(-1) + names + layout.margin.t + 32)}px`;
  await Plotly.relayout(plot, change);
  await Plotly.Plots.resize(plot);
}

// ---- titles that are longer than what they name, and names that leave no room for a drawing, take several lines
const halved = new Map(); // axes of names that we have wrapped, and their own names
const NAMES = ["tickmode", "tickvals", "ticktext"];
const own = (name) => Object.fromEntries(NAMES.filter((key) => key in layout[name]).map((key) => [key, layout[name][key]]));
const BREAK = "\u200b<br>"; // ours, which a wider window takes back
const unbroken = (text) => text.replaceAll(BREAK, " "), wrapped = (text) => text.includes(BREAK);
function fitted(text, {size, family}, most, deepest = Infinity) { // pixels of a line
  paint.font = `${size}px ${family}`;
  const wide = (part) => paint.measureText(part.replace(/<[^>]*>/g, "")).width;
  const words = unbroken(text).split(" "), count = Math.min(deepest, Math.ceil(wide(unbroken(text)) / most)), lines = [words.shift()];
  for (const word of words) { // lines of like lengths
    const told = `${lines.join(" ")} ${word}`, longer = `${lines.at(-1)} ${word}`;
    if (count > 1 && lines.length < count && wide(told) - wide(word) / 2 > lines.length * wide(unbroken(text)) / count) lines.push(word);
    else lines[lines.length - 1] = longer;
  }
  return lines.join(BREAK);
}
async function fit() {
  const change = {}, all = plot._fullLayout, {xaxis, yaxis} = all._subplots;
  for (const id of [...xaxis, ...yaxis]) {
    const name = id.replace(/[xy]/, "$&axis"), axis = all[name];
    const text = layout[name]?.title?.text; // the full layout has a placeholder where there is none
    if (text) change[`${name}.title.text`] = fitted(text, axis.title.font, axis._length + 16);
  }
  for (const {id, x, y, title} of panels) {
    const high = narrow.matches && !plot.style.minWidth && y ? all[y] : null, names = high ? named(high) : [];
    if (title >= 0) {
      const across = x ? all[x]._length : (all[id].domain.x[1] - all[id].domain.x[0]) * all._size.w;
      change[`annotations[${title}].text`] = fitted(all.annotations[title].text, all.annotations[title].font, across + 24);
    }
    if (names.length && around({x, y})[0] > 0.45 * plot.clientWidth) {
      if (!halved.has(y)) halved.set(y, own(y));
      if (high.type === "category") change[`${y}.tickvals`] = names;
      change[`${y}.ticktext`] = names.map((one) => fitted(one, high.tickfont, 0.4 * plot.clientWidth, 2));
    }
  }
  const now = (path) => path.split(/[.[\]]+/).reduce((value, key) => value?.[key], all);
  const fresh = Object.entries(change).filter(([path, value]) => `${now(path)}` !== `${value}`);
  if (fresh.length) await Plotly.relayout(plot, Object.fromEntries(fresh));
  return fresh.length > 0;
}
async function place() {
  for (let turn = 0, moved = true; turn < 3 && moved; turn++) { // a narrower panel turns its names, which then take another room
    const before = panels.map(around);
    if (panels.length) await arrange();
    const told = await fit();
    moved = panels.length && (told || panels.map(around).some((room, number) => room.some((side, at) => Math.abs(side - before[number][at]) > 4)));
  }
  await settle();
}
async function settle() {
  for (let turn = 0; turn < 3 && narrow.matches && plot.querySelector(".legend"); turn++) {
    const area = plot._fullLayout._size, foot = plot.getBoundingClientRect().top + area.t + area.h;
    const under = boxes("[class$=tick] text, .infolayer [class^=g-x], .colorbar").map((box) => box.bottom - foot);
    await Plotly.relayout(plot, {"legend.y": -(Math.max(0, ...under) + 12) / area.h});
  }
}
function unfold() { // bars of colors and names as this width has them, before the figure is drawn anew
  for (const trace of data.filter(({type}) => type === "heatmap")) {
    const bar = scales.get(trace) ?? structuredClone(trace.colorbar ?? {});
    scales.set(trace, bar);
    trace.colorbar = {...bar, ...(narrow.matches && !plot.style.minWidth ? {orientation: "h", ypad: 4, title: {...bar.title, side: "bottom"}} : {})};
  }
  for (const [name, ticks] of halved) {
    for (const key of NAMES) delete layout[name][key];
    Object.assign(layout[name], ticks);
  }
  halved.clear();
}
