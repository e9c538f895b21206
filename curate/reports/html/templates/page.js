"use strict";
(() => {
  const gallery = document.getElementById("gallery");
  const cards = [...gallery.querySelectorAll(".card")];
  for (const image of gallery.querySelectorAll("img")) {
    const mark = () => image.classList.toggle("tiny", image.naturalWidth > 0 && image.naturalWidth < 64);
    image.complete ? mark() : image.addEventListener("load", mark, { once: true });
  }
  const controls = document.getElementById("controls");
  if (!controls) return;
  controls.hidden = document.getElementById("keys").hidden = false;
  const count = document.getElementById("count");
  const whole = count.textContent;
  const field = (name) => document.getElementById(name);
  const chosen = ["rule", "severity", "given", "suggested", "split", "state"].filter(field);
  const words = new Map(cards.map((card) => {
    const told = card.querySelector("blockquote, .record");
    return [card, `${card.dataset.key}\n${card.dataset.given}\n${card.dataset.suggested}\n${told ? told.textContent : ""}`.toLowerCase()];
  }));
  const several = new Set(["rule", "severity", "state"]);
  const fits = (card) => {
    for (const name of chosen) {
      const value = field(name).value;
      if (value && !(several.has(name) ? card.dataset[name].split(" ").includes(value) : card.dataset[name] === value)) return false;
    }
    const least = Number(field("least").value) || 0;
    if (least > 0 && !(card.dataset.suspicion !== "" && Number(card.dataset.suspicion) >= least)) return false;
    const text = words.get(card);
    return field("search").value.toLowerCase().split(/\s+/).every((word) => text.includes(word));
  };
  const filter = () => {
    let shown = 0;
    for (const card of cards) { card.hidden = !fits(card); if (!card.hidden) shown += 1; }
    count.textContent = shown === cards.length ? whole : `${shown.toLocaleString("en")} of ${whole}`;
  };
  const number = (card, name) => (card.dataset[name] === "" ? -Infinity : Number(card.dataset[name]));
  const sort = () => {
    const order = field("order").value;
    const name = order.replace("-", "");
    const byText = name === "key" || name === "given";
    const compare = byText ? (a, b) => a.dataset[name].localeCompare(b.dataset[name], "en", { numeric: true })
      : (a, b) => { const [x, y] = [number(a, name), number(b, name)]; return x === y ? 0 : (x < y ? 1 : -1) * (order[0] === "-" ? -1 : 1); };
    gallery.append(...cards.slice().sort(compare));
  };
  controls.addEventListener("submit", (event) => event.preventDefault());
  controls.addEventListener("input", (event) => { event.target.id === "order" ? sort() : filter(); });
  controls.addEventListener("reset", () => setTimeout(() => { sort(); filter(); }));
  for (const link of document.querySelectorAll(".matrix a")) {
    link.addEventListener("click", () => {
      for (const name of ["given", "suggested"]) if (field(name)) field(name).value = link.dataset[name];
      filter();
    });
  }
  const go = (card) => { card.hidden = false; card.tabIndex = -1; card.focus(); card.scrollIntoView({ block: "center" }); };
  for (const link of document.querySelectorAll(".map a")) {
    link.addEventListener("click", (event) => {
      const card = cards.find((each) => each.dataset.key === link.dataset.key);
      if (card) { event.preventDefault(); go(card); }
    });
  }
  // Keys work wherever the focus is, but where somebody types; with Ctrl, Alt or Meta they are the browser's.
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
    if (event.key === "/") { event.preventDefault(); field("search").focus(); return; }
    const shown = [...gallery.querySelectorAll(".card:not([hidden])")];
    const place = shown.indexOf(document.activeElement.closest(".card"));
    if (event.key === "j" || event.key === "k") {
      const next = shown[Math.max(0, place + (event.key === "j" ? 1 : -1))];
      if (next) go(next);
    } else if (event.key === "e" && place >= 0) {
      const part = shown[place].querySelector("details.numbers");
      part.open = !part.open;
    }
  });
})();
