"use strict";
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const one = (id) => document.getElementById(id);
const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;
const plain = (text) => text.toLowerCase().replace(/\s+/g, " ");

// ---- search and filters: a word matches anywhere in an item; a verdict also hides the claims with another one
const items = all("article.item").map((article) => ({
  article,
  rows: all(":scope > .fold > .judged > .cards > .claim", article),
  link: document.querySelector(`nav.contents a[href="#${article.dataset.item}"]`).parentElement,
  words: plain(article.id + " " + all("h3, .short, .cards, .badge, .quiet, figcaption, details.origin", article)
    .map((part) => part.textContent).join(" ")),
  folded: all("details", article).map((details) => ({ details, text: plain(details.textContent) })),
}));
const query = one("query"), study = one("study");
const chosen = (name) => document.querySelector(`input[name="${name}"]:checked`)?.value ?? ""; // not every page asks for it

function filter() {
  const words = plain(query.value).split(" ").filter(Boolean);
  const [paper, verdict, origin] = [chosen("paper"), chosen("verdict"), chosen("origin")];
  const shown = new Set(), claims = new Set(); // an item counts once, by its first edition, and a claim of several figures once
  for (const item of items) {
    const right = item.rows.filter((row) => !verdict || row.dataset.verdict === verdict);
    const visible = (!paper || item.article.dataset.paper === paper)
      && (!study?.value || item.article.dataset.study === study.value)
      && (!origin || item.article.dataset.origin === origin)
      && (!verdict || right.length > 0 || (verdict === "missing" && item.article.classList.contains("missing")))
      && words.every((word) => item.words.includes(word));
    item.article.hidden = !visible;
    item.rows.forEach((row) => { row.hidden = !right.includes(row); });
    const note = item.article.querySelector(".unseen-rows");
    if (note) {
      note.hidden = right.length === item.rows.length;
      note.textContent = `${plural(item.rows.length - right.length, "claim")} with a different verdict hidden.`;
    }
    for (const { details, text } of visible ? item.folded : []) {
      if (words.some((word) => text.includes(word)) || (verdict && details.matches(".judged"))) details.open = true;
    }
    if (visible && !shown.has(item.link)) {
      shown.add(item.link);
      right.forEach((row) => claims.add(row.dataset.name));
    }
  }
  for (const { link } of items) link.hidden = !shown.has(link);
  for (const section of all("section.paper")) {
    section.hidden = items.every((item) => item.article.hidden || !section.contains(item.article));
    document.querySelector(`nav.contents a[href="#${section.id}"]`).parentElement.hidden = section.hidden;
  }
  one("nothing").hidden = shown.size > 0;
  one("reset").hidden = !(words.length || paper || verdict || study?.value || origin);
  reveal(!one("reset").hidden);
  one("hits").textContent = `${shown.size} of ${plural(new Set(items.map((item) => item.link)).size, "item")}, ${plural(claims.size, "claim")}`;
  highlight(words);
  keep({q: query.value.trim(), paper, verdict, study: study?.value, origin});
}

// ---- groups are sheets of small pictures until they are opened: by hand, by a filter that finds something in them, by an address
const groups = all(".group"), opened = new Set(); // by a filter
function reveal(asking) {
  for (const group of groups) {
    if (asking && !group.open && !group.parentElement.hidden) opened.add(group);
    if (asking ? opened.has(group) : opened.delete(group)) group.open = asking;
  }
}
function show(target) {
  const own = target?.querySelector(":scope > :is(.group, .fold)");
  for (let details = own ?? target?.closest("details"); details; details = details.parentElement.closest("details")) details.open = true;
}
function tellGroups() {
  const every = groups.every((group) => group.open);
  one("groups").textContent = every ? "Close all groups" : "Open all groups";
  one("groups").setAttribute("aria-pressed", String(every));
}
one("groups").addEventListener("click", () => {
  const open = !groups.every((group) => group.open);
  opened.clear();
  groups.forEach((group) => { group.open = open; });
});
groups.forEach((group) => group.addEventListener("toggle", tellGroups));

// ---- the address holds what is asked for, so that it can be shared; a link with filters opens filtered
function keep(asked) {
  const told = new URLSearchParams(Object.entries(asked).filter(([, value]) => value)).toString();
  const fresh = `${location.pathname}${told && `?${told}`}${location.hash.includes("=") ? "" : location.hash}`;
  if (fresh === location.pathname + location.search + location.hash) return;
  try { history.replaceState(null, "", fresh); } catch { /* a browser that keeps the addresses of files as they are */ }
}
function ask() {
  const asked = new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : location.search);
  query.value = asked.get("q") ?? "";
  for (const name of ["paper", "verdict", "origin"]) {
    const inputs = all(`input[name="${name}"]`), wanted = asked.get(name) ?? "";
    const found = inputs.find((input) => input.value === wanted) ?? inputs[0]; // an address may be older than the page
    if (found) found.checked = true;
  }
  if (study) study.value = [...study.options].some(({value}) => value === asked.get("study")) ? asked.get("study") : "";
  filter();
}

function highlight(words) {
  if (!window.CSS?.highlights) return;
  const ranges = [];
  for (const { article } of words.length ? items : []) {
    if (article.hidden) continue;
    const walker = document.createTreeWalker(article, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const text = walker.currentNode.data.toLowerCase();
      for (const word of words) {
        for (let at = text.indexOf(word); at >= 0; at = text.indexOf(word, at + word.length)) {
          const range = new Range();
          range.setStart(walker.currentNode, at);
          range.setEnd(walker.currentNode, at + word.length);
          ranges.push(range);
        }
      }
    }
  }
  CSS.highlights.set("hits", new Highlight(...ranges));
}

function reset() {
  query.value = "";
  if (study) study.value = "";
  all('.filters input[type="radio"]').forEach((input) => { input.checked = input.value === ""; });
  filter();
}

query.addEventListener("input", filter);
all('.filters input[type="radio"]').forEach((input) => input.addEventListener("change", filter));
study?.addEventListener("change", filter);
addEventListener("hashchange", () => { if (location.hash.includes("=")) ask(); });
one("reset").addEventListener("click", () => { reset(); query.focus(); });
// a link to an item that a filter hides shows everything again, or it would lead nowhere
document.addEventListener("click", (event) => {
  const link = event.target.closest('a[href^="#"]'), target = link && one(link.hash.slice(1));
  if (target?.hidden) reset();
  show(target);
});

// ---- the interactive twin in the place of the picture; the frame is made when it is asked for
for (const button of all("button[data-twin]")) {
  button.addEventListener("click", () => {
    const place = one(button.getAttribute("aria-controls"));
    const opening = place.hidden;
    if (opening && !place.firstChild) {
      const frame = document.createElement("iframe");
      frame.src = button.dataset.twin;
      frame.title = `Interactive: ${button.closest("article").querySelector("h3").textContent}`;
      place.append(frame);
    }
    place.hidden = !opening;
    for (const part of all(".picture, figcaption", button.closest("article"))) part.hidden = opening; // the page has its own text
    button.textContent = opening ? "Show the picture" : "Explore here";
    button.removeAttribute("aria-label"); // the text says it, and what it says has changed
    button.setAttribute("aria-expanded", String(opening));
  });
}

// ---- copy a command; where the clipboard is refused, select it for the reader's own Ctrl+C
for (const button of all("button[data-copy]")) {
  button.addEventListener("click", async () => {
    const code = one(button.dataset.copy);
    let said = "Copied";
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {
      getSelection().selectAllChildren(code);
      said = "Selected: press Ctrl+C";
    }
    button.textContent = said;
    one("told").textContent = said;
    setTimeout(() => { button.textContent = "Copy"; one("told").textContent = ""; }, 2500);
  });
}

// ---- on a phone an item is its result in short and a small picture, until it is opened
const phone = matchMedia("(max-width: 44rem)");
function fold() {
  for (const details of all("details.fold")) details.open = !phone.matches;
  unfold();
}
function unfold() {
  if (location.hash.length > 1 && !location.hash.includes("=")) show(one(location.hash.slice(1)));
}
phone.addEventListener("change", () => { fold(); filter(); });
addEventListener("hashchange", unfold);

// ---- a picture that is wider than its card says that there is more of it at the right
function more(picture) {
  picture.toggleAttribute("data-more", picture.scrollLeft + picture.clientWidth < picture.scrollWidth - 2);
}
const seen = new ResizeObserver((entries) => entries.forEach(({ target }) => more(target)));
for (const picture of all(".picture")) {
  seen.observe(picture);
  picture.addEventListener("scroll", () => more(picture), { passive: true });
}

// ---- paper shows all that is folded
let folded = [];
addEventListener("beforeprint", () => {
  folded = all("details:not([open])");
  folded.forEach((details) => { details.open = true; });
});
addEventListener("afterprint", () => folded.forEach((details) => { details.open = false; }));

fold();
ask();
if (location.hash.length > 1) one(location.hash.slice(1))?.scrollIntoView(); // what was filtered has moved it
