"use strict";
// Finding a class in a list of links.
(() => {
  const one = (id) => document.getElementById(id);
  const plainText = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
  const entries = [...document.querySelectorAll(".links li")].map((entry) => [entry, plainText(entry.dataset.name)]);
  function refresh() {
    const words = plainText(one("find").value).split(/\s+/).filter(Boolean);
    let found = 0;
    for (const [entry, name] of entries) {
      entry.hidden = !words.every((word) => name.includes(word));
      found += entry.hidden ? 0 : 1;
    }
    one("nothing").hidden = found > 0;
    one("shown").textContent = words.length ? `${found} of ${entries.length}` : "";
  }
  one("tools").hidden = "few" in one("tools").dataset;
  one("tools").addEventListener("input", refresh);
  one("tools").addEventListener("submit", (event) => {
    event.preventDefault();
    const first = entries.find(([entry]) => !entry.hidden);
    if (first && one("find").value) first[0].querySelector("a").click();
  });
  refresh();
})();
