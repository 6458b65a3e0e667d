"use strict";
// The list of classes: find, filter, order, move by keys, play films.
const classes = one("classes");
const sections = all(".class");
const cards = new Map(sections.map((section) => [section, all(".card", section)]));
const cardOf = new Map([...cards.values()].flat().map((card) => [Number(card.dataset.unit), card]));
const calm = matchMedia("(prefers-reduced-motion: reduce)");

// In a page that stands alone each picture is there once, as the image that shows it.
for (const [position, card] of cardOf) {
  const image = units[position].image;
  if (image && image.href === null) image.href = card.querySelector("img")?.src ?? "";
}
for (const image of all(".pair img:not([src])")) image.src = units[image.closest("a").dataset.unit].image.href;

// ---- find, filter, order ----
// Letters that no normalization takes apart; all other accents fall off with NFKD.
const LETTERS = { ß: "ss", æ: "ae", œ: "oe", ø: "o", đ: "d", ð: "d", ł: "l", ħ: "h", ı: "i", þ: "th" };
const plainText = (text) => text.toLowerCase().normalize("NFKD").replace(/\p{M}/gu, "").replace(/[ßæœøđðłħıþ]/g, (letter) => LETTERS[letter]);
const names = view.classes.map((entry) => plainText(`${entry.label} ${entry.index}`));
const chosen = (name) => {
  const boxes = all(`fieldset[data-filter=${name}] input`);
  return boxes.length ? new Set(boxes.filter((box) => box.checked).map((box) => box.value)) : null;
};
const visible = () => [...classes.children].filter((section) => !section.hidden).flatMap((section) => cards.get(section).filter((card) => !card.hidden));
const shownPositions = () => visible().map((card) => Number(card.dataset.unit)).filter((position) => units[position].state === "done");

function refresh() {
  const [models, recipes] = [chosen("model"), chosen("recipe")];
  const words = plainText(one("find").value).split(/\s+/).filter(Boolean);
  let images = 0, found = 0, most = 1;
  for (const [section, mine] of cards) {
    let count = 0;
    for (const card of mine) {
      card.hidden = Boolean((models && !models.has(card.dataset.model)) || (recipes && !recipes.has(card.dataset.recipe)));
      count += card.hidden ? 0 : 1;
    }
    section.hidden = !count || !words.every((word) => names[section.dataset.class].includes(word));
    if (!section.hidden) { found += 1; images += count; most = Math.max(most, count); }
  }
  classes.dataset.columns = String(Math.min(most, 5));
  one("nothing").hidden = found > 0;
  one("shown").textContent = `${found} of ${sections.length} ${sections.length === 1 ? "class" : "classes"}` +
    (images === found ? "" : `, ${images} images`);
}

function reorder() {
  // A class stands where the best of its images that are shown would.
  const best = (value) => sections.map((section) => Math.max(...cards.get(section).filter((card) => !card.hidden)
    .map((card) => value(units[card.dataset.unit]) ?? -Infinity), -Infinity));
  const byValue = (value) => { const values = best(value); return (a, b) => (values[b] > values[a]) - (values[b] < values[a]) || a - b; };
  const compare = {
    job: () => (a, b) => a - b,
    index: () => (a, b) => view.classes[a].index - view.classes[b].index || a - b,
    name: () => (a, b) => view.classes[a].label.localeCompare(view.classes[b].label) || a - b,
    score: () => byValue((unit) => unit.logit),
    seen: () => byValue((unit) => unit.held_out?.probability),
    apart: () => byValue((unit) => unit.disagreement),
  }[one("order")?.value ?? "job"]();
  classes.append(...[...sections].sort((a, b) => compare(Number(a.dataset.class), Number(b.dataset.class))));
}

// ---- keys ----
function beside(link, key) {
  const links = visible().map((card) => card.querySelector("a.open")).filter(Boolean);
  const at = links.indexOf(link);
  if (key === "ArrowLeft") return links[at - 1];
  if (key === "ArrowRight") return links[at + 1];
  // Up and down: of the nearest row in that direction, what is nearest across.
  const [down, from] = [key === "ArrowDown", link.getBoundingClientRect()];
  let found, row = null, gap = Infinity;
  for (let i = down ? at + 1 : at - 1; links[i]; i += down ? 1 : -1) {
    const box = links[i].getBoundingClientRect();
    if (down ? box.top < from.bottom : box.bottom > from.top) continue;
    row ??= down ? box.bottom : box.top;
    if (down ? box.top > row : box.bottom < row) break;
    if (Math.abs(box.left - from.left) < gap) [found, gap] = [links[i], Math.abs(box.left - from.left)];
  }
  return found;
}
document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || one("unit").open) return;
  const within = event.target;
  if (event.key === "/" && !within.matches("input:not([type=checkbox]), select, textarea")) {
    event.preventDefault();
    one("find").focus();
    one("find").select();
  } else if (within === one("find") && ["ArrowDown", "Enter"].includes(event.key)) {
    event.preventDefault();
    visible()[0]?.querySelector("a.open")?.focus();
  } else if (within === one("find") && event.key === "Escape" && !within.value) {
    within.blur();
  } else if (event.key.startsWith("Arrow") && within.matches("#classes a.open")) {
    const next = beside(within, event.key);
    if (next) { event.preventDefault(); next.focus(); }
  }
});

// ---- the film of an ascent: loaded only when it is asked for ----
let replays = 0;
function film(image, unit) {
  // A new fragment makes the browser start the film anew instead of joining it half-way.
  const href = unit.animation.href;
  image.src = href.startsWith("data:") ? href : `${href}#${++replays}`;
}
function still(image, unit) { image.src = unit.thumb ?? unit.image.href; }

for (const [position, card] of cardOf) {
  const unit = units[position];
  if (!unit.animation) continue;
  const [frame, image, button] = [card.querySelector(".frame"), card.querySelector("img"), card.querySelector(".play")];
  let waiting = 0;
  const play = () => { button.setAttribute("aria-pressed", "true"); film(image, unit); };
  const rest = () => { clearTimeout(waiting); button.setAttribute("aria-pressed", "false"); still(image, unit); };
  const playing = () => button.getAttribute("aria-pressed") === "true";
  button.hidden = false;
  button.addEventListener("click", () => (playing() ? rest() : play()));
  frame.addEventListener("pointerenter", (event) => {
    // The pause keeps a mouse that only crosses the page from loading every film on its way.
    if (event.pointerType === "mouse" && !calm.matches) waiting = setTimeout(() => playing() || play(), 120);
  });
  frame.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") { clearTimeout(waiting); if (playing()) rest(); } });
}

one("tools").hidden = false;
one("tools").addEventListener("submit", (event) => event.preventDefault());
one("tools").addEventListener("input", refresh);
one("tools").addEventListener("change", (event) => { if (event.target !== one("find")) reorder(); });
one("reset").addEventListener("click", () => { one("tools").reset(); refresh(); reorder(); });
refresh();
