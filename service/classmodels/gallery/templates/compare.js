"use strict";
// Behaviour of a comparison: find, filter, order, keys, and both ascents played in step. All it knows is in the document.
(() => {
  const one = (id) => document.getElementById(id);
  const changes = one("changes");
  const cards = [...changes.children];
  const rank = new Map(cards.map((card, place) => [card, place]));
  const plainText = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
  const names = new Map(cards.map((card) => [card, plainText(`${card.dataset.label} ${card.dataset.index}`)]));
  const visible = () => [...changes.children].filter((card) => !card.hidden);

  function refresh() {
    const words = plainText(one("find").value).split(/\s+/).filter(Boolean);
    const only = one("only")?.checked;
    for (const card of cards) {
      card.hidden = (only && card.dataset.changed !== "yes") || !words.every((word) => names.get(card).includes(word));
    }
    const found = visible().length;
    one("nothing").hidden = found > 0;
    one("shown").textContent = `${found} of ${cards.length} ${cards.length === 1 ? "class" : "classes"}`;
  }

  function reorder() {
    const by = {
      change: (a, b) => rank.get(a) - rank.get(b),
      index: (a, b) => a.dataset.index - b.dataset.index || rank.get(a) - rank.get(b),
      name: (a, b) => a.dataset.label.localeCompare(b.dataset.label) || rank.get(a) - rank.get(b),
    }[one("order").value];
    changes.append(...[...cards].sort(by));
  }

  // Both films are loaded before either starts; a new fragment makes the browser start each from its first frame.
  let replays = 0;
  const playing = (card) => card.querySelector(".play")?.getAttribute("aria-pressed") === "true";
  async function play(card) {
    const button = card.querySelector(".play");
    if (!button) return;
    const images = [...card.querySelectorAll("img[data-film]")];
    for (const image of images) image.dataset.still ||= image.getAttribute("src");
    if (playing(card)) {
      button.setAttribute("aria-pressed", "false");
      for (const image of images) image.src = image.dataset.still;
      return;
    }
    button.setAttribute("aria-pressed", "true");
    const films = images.map((image) => `${image.dataset.film}#${replays += 1}`);
    await Promise.all(films.map((film) => { const ahead = new Image(); ahead.src = film.split("#")[0]; return ahead.decode().catch(() => {}); }));
    if (playing(card)) images.forEach((image, place) => { image.src = films[place]; });
  }

  const current = () => document.activeElement?.closest?.(".change");
  function go(by) {
    const shown = visible();
    const place = shown.indexOf(current());
    const next = place < 0 ? shown[0] : shown[Math.min(Math.max(place + by, 0), shown.length - 1)];
    if (next) { next.focus({ preventScroll: true }); next.scrollIntoView({ block: "nearest" }); }
  }

  for (const button of document.querySelectorAll(".play")) {
    button.hidden = false;
    button.addEventListener("click", () => play(button.closest(".change")));
  }
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.target.closest("input, select, textarea")) { if (event.key === "Escape") event.target.blur(); return; }
    if (event.key === "j") go(1);
    else if (event.key === "k") go(-1);
    else if (event.key === "p") { if (current()) play(current()); }
    else if (event.key === "c" && one("only")) { one("only").checked = !one("only").checked; refresh(); }
    else if (event.key === "/") one("find").focus();
    else return;
    event.preventDefault();
  });

  one("tools").hidden = false;
  document.querySelector(".keys").hidden = false;
  one("tools").addEventListener("submit", (event) => event.preventDefault());
  one("tools").addEventListener("input", refresh);
  one("order").addEventListener("change", reorder);
  one("reset").addEventListener("click", () => { one("tools").reset(); refresh(); reorder(); });
  refresh();
})();
