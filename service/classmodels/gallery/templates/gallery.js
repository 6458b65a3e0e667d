"use strict";
// Behaviour of the gallery page. Data reaches the document through textContent and attributes only, never as markup.
(() => {
  const view = JSON.parse(document.getElementById("view").textContent);
  const units = view.units;
  const byId = new Map();
  units.forEach((unit, position) => { if (!byId.has(unit.id)) byId.set(unit.id, position); });
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const one = (id) => document.getElementById(id);
  const calm = matchMedia("(prefers-reduced-motion: reduce)");

  // ---- filters, search, order ----
  const classes = one("classes");
  const sections = all(".class");
  const cardOf = new Map(all(".card").map((card) => [Number(card.dataset.unit), card]));
  // In a page that stands alone each picture is there once, as the image that shows it.
  for (const [position, card] of cardOf) {
    const image = units[position].image;
    if (image && image.href === null) image.href = card.querySelector("img")?.src ?? "";
  }
  for (const image of all(".pair img:not([src])")) image.src = units[image.closest("a").dataset.unit].image.href;
  const plainText = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
  const names = view.classes.map((entry) => plainText(`${entry.label} ${entry.index}`));
  const chosen = (name) => {
    const boxes = all(`fieldset[data-filter=${name}] input`);
    return boxes.length ? new Set(boxes.filter((box) => box.checked).map((box) => Number(box.value))) : null;
  };
  const shownPositions = () =>
    all(".card:not([hidden])", classes).filter((card) => !card.closest(".class").hidden)
      .map((card) => Number(card.dataset.unit)).filter((position) => units[position].state === "done");

  function refresh() {
    const [models, recipes] = [chosen("model"), chosen("recipe")];
    const words = plainText(one("find").value).split(/\s+/).filter(Boolean);
    let cards = 0, found = 0, most = 1;
    for (const section of sections) {
      const matches = words.every((word) => names[section.dataset.class].includes(word));
      let visible = 0;
      for (const card of all(".card", section)) {
        card.hidden = (models && !models.has(Number(card.dataset.model))) || (recipes && !recipes.has(Number(card.dataset.recipe)));
        visible += card.hidden ? 0 : 1;
      }
      section.hidden = !matches || !visible;
      if (!section.hidden) { found += 1; cards += visible; most = Math.max(most, visible); }
    }
    classes.dataset.columns = String(Math.min(most, 5));
    one("nothing").hidden = found > 0;
    one("shown").textContent = `${found} of ${sections.length} ${sections.length === 1 ? "class" : "classes"}` +
      (cards === found ? "" : `, ${cards} images`);
  }

  function reorder() {
    const order = one("order").value;
    const seen = view.classes.map(() => -1);
    for (const unit of units) if (unit.held_out) seen[unit.class] = Math.max(seen[unit.class], unit.held_out.probability ?? -1);
    const compare = {
      job: (a, b) => a - b,
      index: (a, b) => view.classes[a].index - view.classes[b].index || a - b,
      name: (a, b) => view.classes[a].label.localeCompare(view.classes[b].label) || a - b,
      seen: (a, b) => seen[b] - seen[a] || a - b,
    }[order];
    classes.append(...[...sections].sort((a, b) => compare(Number(a.dataset.class), Number(b.dataset.class))));
  }

  // ---- the film of an ascent: loaded only when it is asked for ----
  let replays = 0;
  function film(image, unit) {
    // A new fragment makes the browser start the film anew instead of joining it half-way.
    const href = unit.animation.href;
    image.src = href.startsWith("data:") ? href : `${href}#${++replays}`;
  }
  function still(image, unit) { image.src = unit.image.href; }

  for (const [position, card] of cardOf) {
    const unit = units[position];
    if (!unit.animation) continue;
    const [frame, image, button] = [card.querySelector(".frame"), card.querySelector("img"), card.querySelector(".play")];
    let waiting = 0;
    const play = () => { button.setAttribute("aria-pressed", "true"); film(image, unit); };
    const stop = () => { clearTimeout(waiting); button.setAttribute("aria-pressed", "false"); still(image, unit); };
    const playing = () => button.getAttribute("aria-pressed") === "true";
    button.hidden = false;
    button.addEventListener("click", () => (playing() ? stop() : play()));
    frame.addEventListener("pointerenter", (event) => {
      // The pause keeps a mouse that only crosses the page from loading every film on its way.
      if (event.pointerType === "mouse" && !calm.matches) waiting = setTimeout(() => playing() || play(), 120);
    });
    frame.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") { clearTimeout(waiting); if (playing()) stop(); } });
  }

  // ---- one image in full ----
  const dialog = one("unit");
  let current = -1, pushed = false;

  function make(tag, properties = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (name === "text") element.textContent = value; else element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }
  const isolated = (text, properties = {}) => make("bdi", { ...properties, text });
  // Attributes cannot isolate the direction of text as <bdi> does.
  const oneWay = (text) => text.replace(/[\u202a-\u202e\u2066-\u2069]/g, "");
  const figure = (value, digits = 4) => (value === null ? "–" : String(Number(value.toPrecision(digits))));
  const percent = (p) => (p === null ? "–" : p > 0 && p < 0.01 ? "<1 %" : p < 1 && p >= 0.995 ? ">99 %" : `${Math.round(p * 100)} %`);

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

  function drawing(tag, attributes, text) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    if (text !== undefined) element.textContent = text;
    return element;
  }

  // Round values between low and high: 1, 2 or 5 times a power of ten apart.
  function ticks(low, high) {
    const rough = (high - low) / 4;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
    const values = [];
    for (let k = Math.ceil(low / step); k * step <= high + step * 1e-9 && values.length < 16; k += 1) values.push(Number((k * step).toPrecision(12)));
    return values;
  }

  function curve(unit) {
    const points = view.steps[unit.steps].map((step, i) => [step, unit.scores[i]]).filter(([, score]) => score !== null);
    if (points.length < 2) return make("p", { class: "soft", text: "No score curve." });
    const [width, height, left, right, top, bottom] = [460, 230, 46, 12, 10, 38];
    const scores = points.map(([, score]) => score);
    let [low, high] = [Math.min(...scores), Math.max(...scores)];
    if (low === high) { const room = Math.max(1, Math.abs(low) / 100); low -= room; high += room; }
    const last = points[points.length - 1][0] || 1;
    const x = (step) => left + (step / last) * (width - left - right);
    const y = (score) => height - bottom - ((score - low) / (high - low)) * (height - top - bottom);
    const svg = drawing("svg", { class: "curve", viewBox: `0 0 ${width} ${height}`, role: "img",
      "aria-label": `Raw logit by step, from ${figure(scores[0])} to ${figure(scores[scores.length - 1])}` });
    for (const value of ticks(low, high)) {
      svg.append(drawing("path", { class: "axis", d: `M${left} ${y(value).toFixed(1)}H${width - right}` }),
        drawing("text", { x: left - 6, y: (y(value) + 4).toFixed(1), "text-anchor": "end" }, figure(value)));
    }
    for (const value of ticks(0, last)) {
      if (Number.isInteger(value)) svg.append(drawing("text", { x: x(value).toFixed(1), y: height - bottom + 16, "text-anchor": "middle" }, value));
    }
    svg.append(
      drawing("text", { x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle" }, "step"),
      drawing("text", { transform: `translate(11 ${(top + height - bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, "raw logit"),
      drawing("path", { class: "line", d: "M" + points.map(([step, score]) => `${x(step).toFixed(1)} ${y(score).toFixed(1)}`).join("L") }),
      drawing("circle", { class: "end", r: 3.5, cx: x(points[points.length - 1][0]).toFixed(1), cy: y(scores[scores.length - 1]).toFixed(1) }));
    return svg;
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

  function fill(unit) {
    const [model, recipe] = [view.models[unit.model], view.recipes[unit.recipe]];
    const title = make("h2", { id: "unit-title" }, isolated(unit.label),
      make("span", { class: "soft" }, isolated(model.name), " · ", isolated(recipe.name), ` · class ${unit.index}`));
    if (unit.state !== "done") {
      const why = unit.state === "missing" ? "This image is not there: not done yet, or failed." : "The record of this image is damaged.";
      one("detail").replaceChildren(title, make("p", { class: "whole", text: why }));
      return;
    }
    const image = make("img", { class: unit.image.width < 112 ? "large pixels" : "large", src: unit.image.href,
      width: unit.image.width, height: unit.image.height, alt: `Class model of ${oneWay(unit.label)}` });
    const under = make("div", { class: "under" });
    if (unit.animation) {
      const button = make("button", { type: "button", id: "film", text: "▶\ufe0e Play the ascent" });
      const back = make("button", { type: "button", text: "Final image", hidden: "" });
      button.addEventListener("click", () => { film(image, unit); button.textContent = "↻ Replay"; back.hidden = false; });
      back.addEventListener("click", () => { still(image, unit); button.textContent = "▶\ufe0e Play the ascent"; back.hidden = true; button.focus(); });
      under.append(button, back);
    }
    const alone = unit.image.href.startsWith("data:") ? { download: `${unit.index}.webp`, text: "Image" } : { text: "PNG" };
    under.append(make("a", { href: unit.image.href, ...alone }));
    if (unit.record) under.append(make("a", { href: unit.record, text: "record" }));
    const seen = unit.held_out;
    const facts = [["raw logit", figure(unit.logit)], ["probability", percent(unit.probability)], ["rank", String(unit.rank)]];
    if (seen.judges) facts.push(["held-out judges that see it", `${seen.top1} of ${seen.judges}`]);
    const parts = [title, make("section", {}, image, under),
      make("section", {}, make("h3", { text: "What the network itself says" }), numbers(facts), make("h3", { text: "Score during the ascent" }), curve(unit))];
    if (unit.verdicts.length) {
      parts.push(make("section", { class: "whole" }, make("h3", { text: "What the judges say of the finished image" }),
        make("div", { class: "verdicts" }, ...unit.verdicts.map(verdictOf))));
    }
    one("detail").replaceChildren(...parts, ...settings(unit));
  }

  function show(position) {
    current = position;
    fill(units[position]);
    const shown = shownPositions();
    const place = shown.indexOf(position);
    one("place").textContent = place < 0 ? "" : `${place + 1} of ${shown.length}`;
    one("before").disabled = place <= 0;
    one("after").disabled = place < 0 || place === shown.length - 1;
    if (!dialog.open) { dialog.showModal(); dialog.focus(); }
    dialog.scrollTop = 0;
  }

  function step(by) {
    const shown = shownPositions();
    const next = shown[shown.indexOf(current) + by];
    if (current < 0 || next === undefined || !shown.includes(current)) return;
    remember(units[next].id);
    show(next);
  }

  // Some browsers refuse history of a page opened as a file; then the address stays and all else works.
  function remember(id) {
    try { history.replaceState(null, "", id ? `#${id}` : location.pathname + location.search); } catch { /* see above */ }
  }

  function follow() {
    const id = location.hash.slice(1);
    const position = byId.get(id) ?? byId.get(id.split("/").map((part) => encodeURIComponent(decode(part))).join("/"));
    if (position === undefined) { if (dialog.open) { pushed = false; dialog.close(); } return; }
    if (position !== current || !dialog.open) show(position);
  }
  function decode(part) { try { return decodeURIComponent(part); } catch { return part; } }

  document.addEventListener("click", (event) => {
    const link = event.target.closest("a.open");
    if (!link || event.metaKey || event.ctrlKey || event.shiftKey || event.button !== 0) return;
    const position = Number(link.dataset.unit ?? link.closest(".card").dataset.unit);
    event.preventDefault();
    pushed = true;
    if (location.hash === `#${units[position].id}`) show(position); else location.hash = units[position].id;
  });
  addEventListener("hashchange", follow);
  dialog.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "ArrowLeft") step(-1); else if (event.key === "ArrowRight") step(1); else return;
    event.preventDefault();
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => {
    const card = cardOf.get(current);
    const isUnit = byId.has(location.hash.slice(1));
    current = -1;
    one("detail").replaceChildren();
    if (isUnit) { if (pushed) history.back(); else remember(""); }
    pushed = false;
    card?.querySelector(".open")?.focus();
  });
  one("before").addEventListener("click", () => step(-1));
  one("after").addEventListener("click", () => step(1));
  one("close").addEventListener("click", () => dialog.close());

  one("tools").hidden = false;
  one("tools").addEventListener("submit", (event) => event.preventDefault());
  one("tools").addEventListener("input", refresh);
  one("order")?.addEventListener("change", reorder);
  one("reset").addEventListener("click", () => { one("tools").reset(); refresh(); if (one("order")) reorder(); });
  refresh();
  follow();
})();
