"use strict";
// Behaviour of a timeline: any checkpoint of any class shown large, by pointer or keys. All it knows is in the document.
(() => {
  const one = (id) => document.getElementById(id);
  const checkpoints = [...one("checkpoints").children].map((entry) => entry.dataset);
  const strips = [...document.querySelectorAll(".strip")];
  const percent = (p) => (p === "" ? "–" : p > 0 && p < 0.01 ? "<1 %" : p < 1 && p >= 0.995 ? ">99 %" : `${Math.round(p * 100)} %`);

  // A strip's points are read when they are first asked for: there may be ten thousand on a page.
  const known = new Map();
  function pointsOf(strip) {
    if (!known.has(strip)) {
      known.set(strip, strip.dataset.points.split(" ").map((token) => {
        const [place, short, logit, probability, rank] = token.split(",");
        const file = short.endsWith(".png") ? short : `${strip.dataset.stem}${short && "."}${short}.png`;
        return { place: Number(place), file, logit, probability, rank, checkpoint: checkpoints[place] };
      }));
    }
    return known.get(strip);
  }

  const at = new Map();
  function show(strip, turn) {
    const points = pointsOf(strip);
    const point = points[turn];
    if (!point || at.get(strip) === turn) return;
    at.set(strip, turn);
    const { checkpoint } = point;
    const href = checkpoint.folder + point.file;
    strip.querySelector(".now img").src = href;
    strip.querySelector(".now img").alt = `${strip.dataset.label} at ${checkpoint.name}`;
    strip.querySelector(".now .open").href = href;
    strip.querySelector(".when").textContent = checkpoint.name;
    strip.querySelector(".what").textContent = `logit ${point.logit || "–"} · ${point.rank === "1" ? "first" : `rank ${point.rank}`}, ${percent(point.probability)}`;
    const links = [["gallery", checkpoint.gallery], ["what changed here", checkpoint.compare && `${checkpoint.compare}#c${strip.dataset.index}`]];
    strip.querySelector(".where").replaceChildren(...links.filter(([, link]) => link).flatMap(([text, link], i) => {
      const anchor = document.createElement("a");
      anchor.href = link;
      anchor.textContent = text;
      return i ? [" · ", anchor] : [anchor];
    }));
    strip.querySelector(".here").setAttribute("d", `M${checkpoint.x} 14V104`);
    for (const thumb of strip.querySelectorAll(".thumbs img")) thumb.classList.toggle("at", Number(thumb.dataset.place) === point.place);
    const track = strip.querySelector(".track");
    track.setAttribute("aria-valuenow", point.place + 1);
    track.setAttribute("aria-valuetext", checkpoint.name);
  }

  const last = (strip) => pointsOf(strip).length - 1;
  function nearest(strip, event) {
    const thumb = event.target.closest(".thumbs img");
    if (thumb) return pointsOf(strip).findIndex((point) => point.place === Number(thumb.dataset.place));
    const box = strip.querySelector("svg").getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * 1000;
    let best = 0;
    pointsOf(strip).forEach((point, turn, all) => {
      if (Math.abs(point.checkpoint.x - x) <= Math.abs(all[best].checkpoint.x - x)) best = turn;
    });
    return best;
  }

  // Without a script thumbnails stand in a row; with it each stands near its step.
  for (const thumb of document.querySelectorAll(".thumbs img")) thumb.style.left = `${thumb.dataset.x}%`;
  document.body.classList.add("placed");
  for (const lane of document.querySelectorAll(".lane")) lane.scrollLeft = lane.scrollWidth; // the newest, where not all fit

  for (const strip of strips) {
    const track = strip.querySelector(".track");
    show(strip, last(strip));
    track.addEventListener("pointermove", (event) => show(strip, nearest(strip, event)));
    track.addEventListener("click", (event) => show(strip, nearest(strip, event)));
    track.addEventListener("keydown", (event) => {
      const now = at.get(strip);
      const next = { ArrowLeft: now - 1, ArrowDown: now - 1, ArrowRight: now + 1, ArrowUp: now + 1, Home: 0, End: last(strip) }[event.key];
      if (next === undefined) return;
      event.preventDefault();
      show(strip, Math.min(Math.max(next, 0), last(strip)));
    });
  }

  const plainText = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
  function refresh() {
    const words = plainText(one("find").value).split(/\s+/).filter(Boolean);
    let found = 0;
    for (const strip of strips) {
      strip.hidden = !words.every((word) => plainText(`${strip.dataset.label} ${strip.dataset.index}`).includes(word));
      found += strip.hidden ? 0 : 1;
    }
    one("nothing").hidden = found > 0;
    one("shown").textContent = `${found} of ${strips.length} ${strips.length === 1 ? "class" : "classes"} on this page`;
  }
  one("tools").hidden = false;
  one("tools").addEventListener("submit", (event) => event.preventDefault());
  one("tools").addEventListener("input", refresh);
  refresh();
})();
