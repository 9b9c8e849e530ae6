#include "report/page_assets.h"

namespace switchyard::report {

std::string_view page_script() {
  return R"js(
(() => {
"use strict";
const root = document.documentElement;
addEventListener("error", e => { root.dataset.scriptError = e.message; });
const all = (selector, from = document) => [...from.querySelectorAll(selector)];
const make = (tag, css, text) => {
  const node = document.createElement(tag);
  if (css) node.className = css;
  if (text !== undefined) node.textContent = text;
  return node;
};

// Tooltips. The <title> of a chart's part becomes its tip, so that it shows at once and on touch.
const tip = make("div", "tip");
tip.hidden = true;
document.body.append(tip);
for (const title of all("svg title")) {
  title.parentNode.dataset.tip = title.textContent;
  title.remove();
}
const place = (x, y) => {
  const box = tip.getBoundingClientRect();
  const left = Math.max(6, Math.min(x + 14, innerWidth - box.width - 6));
  const above = y - box.height - 14;
  tip.style.transform = `translate(${left}px, ${above > 6 ? above : y + 20}px)`;
};
const textTip = text => {
  const [head, ...rest] = text.split("\n");
  return [make("b", "", head), ...rest.map(line => {
    const cut = line.lastIndexOf(": ");
    if (cut < 0) return make("div", "", line);
    const row = make("div", "row");
    row.append(make("span", "", line.slice(0, cut)), make("span", "", line.slice(cut + 2)));
    return row;
  })];
};
const tipOf = target => target.classList.contains("tok") ? tokenTip(target) : textTip(target.dataset.tip);
const show = (target, x, y) => {
  if (tip.target !== target) {
    tip.target = target;
    tip.replaceChildren(...tipOf(target));
  }
  tip.hidden = false;
  place(x, y);
};
const hide = () => { tip.hidden = true; tip.target = null; };
const tipped = node => node instanceof Element ? node.closest("[data-tip], .tok") : null;
for (const kind of ["pointermove", "pointerdown"])
  document.addEventListener(kind, e => {
    const target = tipped(e.target);
    if (target) show(target, e.clientX, e.clientY); else hide();
  });
document.addEventListener("pointerleave", hide);
addEventListener("scroll", hide, {passive: true});
document.addEventListener("keydown", e => { if (e.key === "Escape") hide(); });

// The passage: colours, shares and tips come from the data of the chosen layer and choice.
const passage = document.querySelector(".passage");
const source = document.getElementById("passage-data");
const data = source ? JSON.parse(source.textContent) : [];
const tokens = passage ? all(".tok", passage) : [];
const legend = document.querySelector(".experts");
let layer = 0, choice = 0, picked = null;
const colour = e => `var(--e${e % 64})`;
const expertOf = t => data[layer] && data[layer].experts[t].length > choice ? data[layer].experts[t][choice] : -1;
const percent = v => (100 * v).toFixed(v < 0.0995 ? 1 : 0) + "%";
function tokenTip(span) {
  const t = tokens.indexOf(span);
  const rows = (data[layer] ? data[layer].experts[t] : []).map((e, j) => {
    const row = make("div", "pick");
    const w = data[layer].weights[t][j];
    const bar = make("i"), fill = make("i");
    if (e >= 0) row.style.setProperty("--e", colour(e));
    fill.style.width = percent(Math.max(0, Math.min(1, w ?? 0)));
    bar.append(fill);
    row.append(make("span", "chip"), make("span", "", e < 0 ? "no expert" : "expert " + e), bar, make("span", "", w == null ? "" : percent(w)));
    return row;
  });
  return [make("b", "", `“${span.dataset.t ?? span.textContent}”`), make("div", "", `token ${t + 1} of ${tokens.length}`), ...rows];
}
const pick = e => {
  picked = e;
  passage.classList.toggle("picking", e !== null);
  tokens.forEach((span, t) => span.classList.toggle("picked", e !== null && expertOf(t) === e));
};
const expertButton = (e, count) => {
  const button = make("button");
  button.type = "button";
  const chip = make("span", "chip");
  chip.style.setProperty("--c", `rgb(${colour(e)})`);
  button.append(chip, make("span", "", String(e)), make("small", "", percent(count / Math.max(tokens.length, 1))));
  button.setAttribute("aria-label", `expert ${e}: ${count} of ${tokens.length} tokens; press to highlight them`);
  button.setAttribute("aria-pressed", "false");
  button.addEventListener("click", () => {
    const on = picked !== e;
    for (const other of legend.children) other.setAttribute("aria-pressed", String(on && other === button));
    pick(on ? e : null);
  });
  return button;
};
const paint = () => {
  if (!passage || !data.length) return;
  const counts = new Array(Math.max(data[layer].num_experts, 0)).fill(0);
  tokens.forEach((span, t) => {
    const e = expertOf(t);
    span.classList.toggle("none", e < 0);
    span.dataset.e = e < 0 ? "" : e;
    span.removeAttribute("title");
    if (e >= 0) {
      span.style.setProperty("--e", colour(e));
      counts[e] = (counts[e] || 0) + 1;
    }
  });
  legend.replaceChildren(...counts.map((count, e) => expertButton(e, count)));
  pick(null);
};

// One layer is shown at a time, in every part of the page that has one view per layer.
const press = (buttons, index) => buttons.forEach((b, i) => b.setAttribute("aria-pressed", String(i === index)));
const layerButtons = all("[data-choose-layer]"), choiceButtons = all("[data-choose-choice]");
layerButtons.forEach(button => button.addEventListener("click", () => {
  layer = Number(button.dataset.chooseLayer);
  press(layerButtons, layer);
  for (const view of all("[data-layer]")) view.hidden = Number(view.dataset.layer) !== layer;
  paint();
}));
choiceButtons.forEach(button => button.addEventListener("click", () => {
  choice = Number(button.dataset.chooseChoice);
  press(choiceButtons, choice);
  paint();
}));
for (const node of all(".script-only")) node.hidden = false;
paint();

// Keyboard: one tab stop for the passage, arrows go from token to token.
tokens.forEach((span, t) => { span.tabIndex = t === 0 ? 0 : -1; });
if (passage) passage.addEventListener("keydown", e => {
  const from = tokens.indexOf(document.activeElement);
  const to = from + (e.key === "ArrowRight" ? 1 : e.key === "ArrowLeft" ? -1 : 0);
  if (from < 0 || to === from || !tokens[to]) return;
  e.preventDefault();
  tokens[from].tabIndex = -1;
  tokens[to].tabIndex = 0;
  tokens[to].focus();
});
document.addEventListener("focusin", e => {
  if (!e.target.classList.contains("tok")) return;
  const box = e.target.getBoundingClientRect();
  show(e.target, box.left, box.top);
});

root.dataset.height = Math.ceil(document.body.getBoundingClientRect().height);
root.dataset.script = "done";
})();
)js";
}

}  // namespace switchyard::report
