"use strict";
(() => {
  const form = document.getElementById("verdicts");
  const gallery = document.getElementById("gallery");
  if (!form || !gallery) return;
  const cards = () => [...gallery.querySelectorAll(".card:not(.said)")];
  const told = document.getElementById("told");
  const typing = (event) => event.target.closest("input, select, textarea, summary");
  const go = (card) => { if (card) { card.focus(); card.scrollIntoView({ block: "center" }); } };
  const at = () => document.activeElement.closest(".card");
  for (const image of gallery.querySelectorAll("img")) {
    const mark = () => image.classList.toggle("tiny", image.naturalWidth > 0 && image.naturalWidth < 64);
    image.complete ? mark() : image.addEventListener("load", mark, { once: true });
  }
  const last = [];
  const say = async (what, card) => {
    const data = new URLSearchParams(new FormData(form));
    data.set("say", what);
    const answer = await fetch(form.action, {
      method: "POST", body: data, headers: { accept: "application/json" }, credentials: "same-origin",
    }).catch(() => null);
    const result = answer && answer.headers.get("content-type").startsWith("application/json") ? await answer.json() : null;
    told.hidden = false;
    if (!result || result.refused) {
      told.className = "warning";
      told.textContent = `Not stored: ${result ? result.refused : "the server did not answer"}`;
      return;
    }
    told.className = "outcome passed";
    told.textContent = `${result.told} `;
    if (!result.undone) {
      const back = document.createElement("button");
      back.name = "say"; back.value = `${what.split(" ")[0]} undo`; back.textContent = "Take it back";
      told.append(back);
    }
    document.getElementById("done").textContent = result.done.toLocaleString("en");
    document.getElementById("bar").value = result.done;
    if (!card) return;
    const next = cards()[cards().indexOf(card) + 1] || cards()[cards().indexOf(card) - 1];
    card.classList.toggle("said", !result.undone);
    if (!result.undone) { last.push(card); go(next); } else { go(card); }
    if (!cards().length && document.querySelector("[rel=next], [rel=prev]")) location.reload();
  };
  if (told) {
    form.addEventListener("submit", (event) => {
      const button = event.submitter;
      if (!button || button.name !== "say" || button.value.startsWith("all ") || button.value.startsWith("batch ")) return;
      event.preventDefault();
      say(button.value, gallery.querySelector(`[data-example="${button.value.split(" ")[0]}"]`));
    });
  }
  const verdicts = { r: "relabel-suggested", k: "keep", d: "drop", o: "none", u: "unsure" };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event)) return;
    const shown = cards();
    const card = at();
    const place = shown.indexOf(card);
    if (event.key === "s" || event.key === "ArrowDown") { event.preventDefault(); go(shown[place + 1] || shown[0]); }
    else if (event.key === "b" || event.key === "ArrowUp") { event.preventDefault(); go(shown[Math.max(0, place - 1)]); }
    else if (event.key === "/") { event.preventDefault(); document.querySelector("[name=q]").focus(); }
    else if (event.key === "e" && card) { const part = card.querySelector("details.numbers"); part.open = !part.open; }
    else if (event.key === "l" && card && told) {
      event.preventDefault();
      const part = card.querySelector("details.more"); part.open = true; part.querySelector("input").focus();
    } else if (event.key === "z" && told && last.length) {
      const back = last.pop(); back.classList.remove("said"); say(`${back.dataset.example} undo`, back);
    } else if (verdicts[event.key] && card && told) {
      const button = card.querySelector(`[value="${card.dataset.example} ${verdicts[event.key]}"]`);
      if (button) say(button.value, card); else { told.hidden = false; told.className = "warning"; told.textContent = "No label is sure enough to be suggested: l takes another."; }
    }
  });
  const first = cards()[0]; if (first) first.focus({ preventScroll: true });  // the head of the page stays in sight
})();
