// ---- figures whose points are texts: a search that leaves the others pale, a lasso, and a table of what was found
const {called, columns, rows} = layout.meta.texts, LISTED = 300; // rows of the table; more would only slow the page down
const byId = (id) => document.getElementById(id);
const words = byId("words"), lasso = byId("lasso");
let picked = null; // rows, or null where nothing is asked for
let clearing = false; // plotly tells of a lasso that is taken away as of one that holds nothing

function mark() { // names and stars have no rows
  const inside = ({customdata}) => picked && customdata ? customdata.flatMap((row, point) => (picked.has(row) ? [point] : [])) : null;
  return Plotly.restyle(plot, {selectedpoints: plot.data.map(inside)});
}
function list(told) {
  const shown = picked ? [...picked].sort((one, other) => one - other) : [];
  byId("found").textContent = shown.length > LISTED ? `${told} The first ${LISTED} are listed.` : told;
  const cells = (kind, values) => {
    const row = document.createElement("tr");
    row.append(...values.map((value) => Object.assign(document.createElement(kind), {textContent: value}))); // never markup
    return row;
  };
  byId("listed").hidden = !shown.length;
  byId("listed").tHead.replaceChildren(cells("th", columns));
  byId("listed").tBodies[0].replaceChildren(...shown.slice(0, LISTED).map((row) => cells("td", rows[row])));
  byId("none").hidden = !picked;
}
const usual = `Type words or draw around points to list ${called} here.`;
const many = (count) => `${count} of ${rows.length} ${called}`;
async function outline() {
  if (!plot.layout.selections?.length) return;
  clearing = true;
  await Plotly.relayout(plot, {selections: []});
  clearing = false;
}

async function search() {
  const asked = words.value.toLowerCase().split(/\s+/).filter(Boolean);
  picked = asked.length ? new Set(rows.keys().filter((row) => asked.every((word) => rows[row][0].toLowerCase().includes(word)))) : null;
  list(!picked ? usual : picked.size ? `${many(picked.size)} contain ${asked.join(" and ")}.` : `None of the ${rows.length} ${called} contains ${asked.join(" and ")}.`);
  await outline();
  await mark();
}
async function selected(event) {
  if (!event || clearing) return; // without an event: a click beside everything
  words.value = "";
  picked = new Set((event.points ?? []).filter(({customdata}) => Number.isInteger(customdata)).map(({customdata}) => customdata));
  list(picked.size ? `${many(picked.size)} selected.` : `No point is inside; draw around some ${called}.`);
  await mark();
}
async function all() {
  if (clearing) return;
  words.value = "";
  picked = null;
  list(usual);
  await outline();
  await mark();
}
function drag() {
  const on = lasso.getAttribute("aria-pressed") === "true";
  layout.dragmode = on ? "lasso" : "zoom"; // for the next drawing, in another theme or width
  return Plotly.relayout(plot, {dragmode: layout.dragmode});
}
words.addEventListener("input", search);
byId("none").addEventListener("click", all);
lasso.addEventListener("click", () => {
  lasso.setAttribute("aria-pressed", String(lasso.getAttribute("aria-pressed") !== "true"));
  drag();
});
addEventListener("drawn", () => { // a new drawing has lost those that listened to the one before
  plot.on("plotly_selected", selected);
  plot.on("plotly_deselect", all);
  if (picked) mark();
});
list(usual);
