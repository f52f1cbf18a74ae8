/* Shows the studies that a text, a class and a split are asked of, and the outlines of masks. */
"use strict";

const STUDIES = Array.from(document.querySelectorAll(".sheet > article"), (card) => ({
  card,
  text: card.textContent.toLowerCase(),
  classes: new Set(Array.from(card.querySelectorAll("[data-class]"), (chip) => chip.dataset.class)),
}));
const FILTERS = ["find", "class", "split"].map((id) => document.getElementById(id));

function filterStudies() {
  const [text, label, split] = FILTERS.map((input) => (input ? input.value : ""));
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const { card, text: whole, classes } of STUDIES) {
    const fits =
      words.every((word) => whole.includes(word)) &&
      (!label || classes.has(label)) &&
      (!split || card.dataset.split === split);
    card.hidden = !fits;
    shown += fits;
  }
  document.getElementById("count").textContent = `${shown} of ${STUDIES.length} studies`;
}

for (const input of FILTERS) if (input) input.addEventListener("input", filterStudies);
for (const box of document.querySelectorAll("[data-outline]")) {
  const show = () => {
    for (const outline of document.querySelectorAll(".outline"))
      if (outline.dataset.structure === box.dataset.outline) outline.hidden = !box.checked;
  };
  box.addEventListener("input", show);
  show(); // a page that is loaded again keeps its ticks
}
filterStudies();
