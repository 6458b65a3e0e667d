"use strict";
// The dialog: one image in full, or all images of a class side by side; which of them is in the page's address.
const dialog = one("unit");
const byId = new Map();
units.forEach((unit, position) => { if (!byId.has(unit.id)) byId.set(unit.id, position); });
const classById = new Map(view.classes.map((entry, position) => [entry.id, position]));
// What is open: the position of a unit, or of a class whose images are side by side. From a card a click can go back.
let current = null, pushed = false;

function numbers(pairs) {
  return make("dl", { class: "numbers" }, ...pairs.map(([name, value]) =>
    make("div", {}, make("dt", { text: name }), make("dd", { text: value }))));
}

function table(rows) {
  return make("table", { class: "rows" }, make("tbody", {}, ...rows.map(([name, value]) =>
    make("tr", {}, make("th", { scope: "row" }, isolated(name)), make("td", {}, isolated(value))))));
}

function folded(title, ...content) {
  return make("details", {}, make("summary", { text: title }), ...content);
}

function verdictOf(verdict) {
  const judge = view.judges[verdict.judge];
  const mark = { itself: "itself", "same family": "same family", independent: "independent" }[verdict.relation];
  const box = make("div", { class: "verdict" }, make("h4", {}, isolated(judge.name), make("span", { class: "mark", text: mark })));
  const line = make("p");
  if (verdict.state !== "done") line.textContent = verdict.state === "missing" ? "No verdict yet." : "The verdict is damaged.";
  else if (verdict.rank === null) line.textContent = "Does not know this class. It sees:";
  else if (verdict.rank === 1) line.textContent = `Sees it: ranks it first, at ${percent(verdict.probability)}`;
  else line.textContent = `Ranks it number ${verdict.rank}, at ${percent(verdict.probability)}`;
  box.append(line);
  if (verdict.top) {
    box.append(make("ol", { "aria-label": "Most probable classes" }, ...verdict.top.map(([label, p, it]) => {
      const filled = make("i");
      filled.style.width = `${Math.max(0, Math.min(1, p ?? 0)) * 100}%`;
      return make("li", it ? { class: "it" } : {}, isolated(label, { title: oneWay(label) }),
        make("span", { class: "share", "aria-hidden": "true" }, filled), make("span", { text: percent(p) }));
    })));
  }
  return box;
}

function settings(unit) {
  const [model, recipe] = [view.models[unit.model], view.recipes[unit.recipe]];
  const [changed, neutral] = [recipe.settings.filter((row) => row[2]), recipe.settings.filter((row) => !row[2])];
  const made = [["seed", String(unit.seed)], ["deterministic", unit.deterministic ? "yes" : ["no", ...unit.nondeterministic].join(", ")], ...view.numerics[unit.numerics], ...view.packages[unit.package]];
  const about = [["model", model.name], ["family", model.family], ["head", model.head], ["classes", String(model.classes)], ["model12", model.model12],
    ...(model.licence ? [["licence of the weights", model.licence]] : []), ...model.notes.map((note) => ["note", note])];
  const left = make("section", {}, make("h3", { text: "Recipe" }), table([["recipe", recipe.name], ["recipe12", recipe.recipe12], ...changed]));
  if (neutral.length) left.append(folded(`${neutral.length} neutral settings`, table(neutral)));
  const right = make("section", {}, make("h3", { text: "Model" }), table(about),
    folded("Identity of the model", table(model.identity)), folded("Numerics and software", table(made)));
  return [left, right];
}

function copyable(command) {
  const code = make("code", { text: command });
  const button = make("button", { type: "button", text: "Copy" });
  button.addEventListener("click", async () => {
    try { await navigator.clipboard.writeText(command); } catch { getSelection().selectAllChildren(code); document.execCommand("copy"); }
    button.textContent = "Copied";
  });
  return make("div", { class: "command" }, code, button);
}

function heading(label, ...after) {
  return make("h2", { id: "unit-title" }, isolated(label), make("span", { class: "soft" }, ...after));
}

function fillUnit(unit) {
  const [model, recipe] = [view.models[unit.model], view.recipes[unit.recipe]];
  const title = heading(unit.label, isolated(model.name), " · ", isolated(recipe.name), ` · class ${unit.index}`);
  if (unit.state !== "done") {
    const why = unit.state === "missing" ? "This image is not there: not done yet, or failed." : "The record of this image is damaged.";
    one("detail").replaceChildren(title, make("p", { class: "whole", text: why }));
    return;
  }
  const shown = stage(unit, `Class model of ${oneWay(unit.label)}`);
  const scores = curve(unit);
  const under = make("div", { class: "under" });
  if (unit.animation) {
    const button = make("button", { type: "button", id: "film", text: "▶\ufe0e Play the ascent" });
    const back = make("button", { type: "button", text: "Final image", hidden: "" });
    button.addEventListener("click", () => {
      shown.canvas.hidden = true;
      shown.image.classList.remove("under-canvas");
      film(shown.image, unit);
      button.textContent = "↻ Replay";
      back.hidden = false;
    });
    back.addEventListener("click", () => { shown.image.src = unit.image.href; button.textContent = "▶\ufe0e Play the ascent"; back.hidden = true; button.focus(); });
    under.append(button, back);
  }
  const download = unit.image.href.startsWith("data:") ? { download: `${unit.index}.webp`, text: "Image" } : { text: "PNG" };
  under.append(make("a", { href: unit.image.href, ...download }));
  if (unit.record) under.append(make("a", { href: unit.record, text: "record" }));
  const seen = unit.held_out;
  const facts = [["raw logit", figure(unit.logit)], ["probability", percent(unit.probability)], ["rank", String(unit.rank)]];
  if (seen.judges) facts.push(["held-out judges that see it", `${seen.top1} of ${seen.judges}`]);
  const parts = [title,
    make("section", {}, shown.box, unit.animation ? slider([shown], (_, step) => scores.mark?.(step)) : "", under),
    make("section", {}, make("h3", { text: "What the network itself says" }), numbers(facts), make("h3", { text: "Score during the ascent" }), scores)];
  if (unit.verdicts.length) {
    parts.push(make("section", { class: "whole" }, make("h3", { text: "What the judges say of the finished image" }),
      make("div", { class: "verdicts" }, ...unit.verdicts.map(verdictOf))));
  }
  parts.push(...settings(unit));
  parts.push(make("section", { class: "whole" }, make("h3", { text: "Make this image again" }), make("p", { class: "soft", text: "With the job file of that run, and the same --set options." }), copyable(unit.command)));
  one("detail").replaceChildren(...parts);
}

function fillClass(position) {
  const entry = view.classes[position];
  const mine = shownPositions().filter((at) => units[at].class === position).map((at) => [at, stage(units[at], "")]);
  const tiles = mine.map(([at, shown]) => {
    const { unit } = shown;
    const seen = unit.held_out;
    const facts = [["logit", figure(unit.logit)], ["p", percent(unit.probability)], ...(seen.judges ? [["judges", `${seen.top1}/${seen.judges}`]] : [])];
    return make("a", { class: "tile", href: `#${unit.id}`, "data-unit": at }, shown.box, make("span", { class: "variant" }, ...variant(unit)),
      make("span", { class: "soft", text: facts.map(([name, value]) => `${name} ${value}`).join(" · ") }));
  });
  const stages = mine.map(([, shown]) => shown).filter((shown) => shown.unit.animation);
  const grid = make("div", { class: "tiles whole" }, ...tiles);
  one("detail").replaceChildren(heading(entry.label, `class ${entry.index}, ${tiles.length} images side by side`),
    make("div", { class: "whole" }, stages.length ? slider(stages) : ""), grid);
}

// The neighbours of what is open, as addresses: images that are shown, or classes that are.
function addresses() {
  if (current.unit !== undefined) return shownPositions().map((position) => units[position].id);
  return [...classes.children].filter((section) => !section.hidden).map((section) => view.classes[section.dataset.class].id);
}
const address = () => (current.unit !== undefined ? units[current.unit].id : view.classes[current.class].id);

function show(what) {
  current = what;
  if (what.unit !== undefined) fillUnit(units[what.unit]); else fillClass(what.class);
  const there = addresses();
  const place = there.indexOf(address());
  one("place").textContent = place < 0 ? "" : `${place + 1} of ${there.length}`;
  one("before").disabled = place <= 0;
  one("after").disabled = place < 0 || place === there.length - 1;
  if (one("together")) one("together").hidden = what.unit === undefined;
  if (!dialog.open) { dialog.showModal(); dialog.focus(); }
  dialog.scrollTop = 0;
}

function step(by) {
  const there = addresses();
  const next = there[there.indexOf(address()) + by];
  if (next === undefined || !there.includes(address())) return;
  remember(next);
  follow();
}

// Some browsers refuse history of a page opened as a file; then the address stays and all else works.
function remember(id) {
  try { history.replaceState(null, "", id ? `#${id}` : location.pathname + location.search); } catch { show(meant(id) ?? current); }
}

function decode(part) { try { return decodeURIComponent(part); } catch { return part; } }

// What an address means: a unit, a class with all its images, or null.
function meant(id) {
  const unit = byId.get(id) ?? byId.get(id.split("/").map((part) => encodeURIComponent(decode(part))).join("/"));
  if (unit !== undefined) return { unit };
  return variants > 1 && classById.has(id) ? { class: classById.get(id) } : null;
}

function follow() {
  const what = meant(location.hash.slice(1));
  if (!what) { if (dialog.open) { pushed = false; dialog.close(); } return; }
  if (!dialog.open || what.unit !== current.unit || what.class !== current.class) show(what);
}

function open(id) {
  pushed = true;
  if (location.hash === `#${id}`) show(meant(id)); else location.hash = id;
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a.open, a.beside, a.tile");
  if (!link || event.metaKey || event.ctrlKey || event.shiftKey || event.button !== 0) return;
  event.preventDefault();
  if (link.matches(".tile")) { remember(units[link.dataset.unit].id); follow(); return; }
  open(link.matches(".beside") ? link.hash.slice(1) : units[link.dataset.unit ?? link.closest(".card").dataset.unit].id);
});
addEventListener("hashchange", follow);
dialog.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || event.target.matches("input")) return;
  if (event.key === "ArrowLeft") step(-1); else if (event.key === "ArrowRight") step(1); else return;
  event.preventDefault();
});
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
dialog.addEventListener("close", () => {
  const from = current.unit !== undefined ? cardOf.get(current.unit)?.querySelector(".open")
    : sections.find((section) => Number(section.dataset.class) === current.class)?.querySelector(".beside");
  const named = meant(location.hash.slice(1)) !== null;
  current = null;
  one("detail").replaceChildren();
  if (named) { if (pushed) history.back(); else remember(""); }
  pushed = false;
  from?.focus();
});
one("before").addEventListener("click", () => step(-1));
one("after").addEventListener("click", () => step(1));
one("together")?.addEventListener("click", () => { remember(view.classes[units[current.unit].class].id); follow(); });
one("close").addEventListener("click", () => dialog.close());
follow();
