"use strict";
(() => {
  const search = document.getElementById("search");
  const found = document.getElementById("found");
  const all = document.getElementById("all");
  const entries = [...document.querySelectorAll("[data-words]")];
  const operations = entries.filter((entry) => entry.classList.contains("operation"));
  const links = new Map([...document.querySelectorAll("nav li a")].map((link) => [link.hash.slice(1), link.parentNode]));
  document.getElementById("tools").hidden = false;

  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const entry of entries) {
      const fits = words.every((word) => entry.dataset.words.includes(word));
      entry.hidden = !fits;
      if (links.has(entry.id)) links.get(entry.id).hidden = !fits;
      if (fits && entry.classList.contains("operation")) count += 1;
    }
    for (const group of document.querySelectorAll("nav details")) {
      group.hidden = ![...group.querySelectorAll("li")].some((link) => !link.hidden);
    }
    for (const section of document.querySelectorAll("main > section")) {
      const own = section.querySelectorAll("[data-words]");
      section.hidden = words.length > 0 && ![...own].some((entry) => !entry.hidden);
    }
    found.value = words.length ? `${count} found` : "";
  };

  const show = () => {
    let id = location.hash.slice(1);
    try { id = decodeURIComponent(id); } catch { return; }
    const target = id && document.getElementById(id);
    if (!target || !target.dataset.words) return;
    if (target.hidden) { search.value = ""; filter(); }
    target.open = true;
    target.scrollIntoView();
    target.querySelector("summary").focus({ preventScroll: true });
  };

  const step = (by) => {
    const shown = entries.filter((entry) => !entry.hidden);
    const at = shown.findIndex((entry) => entry.contains(document.activeElement));
    const next = shown[at < 0 ? (by > 0 ? 0 : shown.length - 1) : Math.min(Math.max(at + by, 0), shown.length - 1)];
    if (next) next.querySelector("summary").focus();
  };

  search.addEventListener("input", filter);
  search.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { search.value = ""; filter(); }
    if (event.key === "ArrowDown") { event.preventDefault(); step(1); }
    if (event.key === "Enter") {
      const first = operations.find((entry) => !entry.hidden);
      if (first) { location.hash = first.id; show(); }
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target === search) return;
    if (event.key === "/") { event.preventDefault(); search.focus(); search.select(); }
    if (event.key === "j") step(1);
    if (event.key === "k") step(-1);
  });
  all.addEventListener("click", () => {
    const open = all.getAttribute("aria-pressed") !== "true";
    for (const entry of operations) entry.open = open;
    all.setAttribute("aria-pressed", String(open));
    all.textContent = open ? "Close all" : "Open all";
  });
  addEventListener("hashchange", show);
  show();
})();
