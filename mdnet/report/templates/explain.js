/* Several maps of one picture side by side, with one opacity and one threshold for all.
 *
 * Reads the JSON that mdnet/report/explain_page.py wrote; maps.js stands before it. Values keep the
 * method's own unit: the colours' range is written under every map, and nothing is rescaled.
 */

class Explanations {
  constructor(root) {
    this.root = root;
    const cards = JSON.parse(this.part("payload").textContent);
    this.cards = cards.map((card, i) => ({
      ...card,
      map: unpack(card.map)[0],
      node: root.querySelector(`[data-card="${i}"]`),
    }));
    for (const image of root.querySelectorAll("img.base")) image.src = this.part("picture").src; // embedded once
    for (const name of ["opacity", "threshold"]) this.part(name).addEventListener("input", () => this.update());
    this.part("common").addEventListener("change", () => this.update());
    this.update();
  }

  part(name, root = this.root) {
    return root.querySelector(`[data-part="${name}"]`);
  }

  /* Largest magnitude of a map, or of all maps in its unit. Per cell, so only maps of one grid share it. */
  limitOf(card) {
    if (!this.part("common").checked) return magnitude(card.map);
    const alike = this.cards.filter((other) => other.unit === card.unit && grid(other.map) === grid(card.map));
    return Math.max(...alike.map((other) => magnitude(other.map)));
  }

  update() {
    const [opacity, threshold] = ["opacity", "threshold"].map((name) => Number(this.part(name).value));
    this.part("opacity-text").textContent = `${opacity}%`;
    this.part("threshold-text").textContent = `${threshold}%`;
    for (const card of this.cards) this.paint(card, opacity / 100, threshold / 100);
  }

  paint({ node, map, unit, diverging, ...card }, opacity, threshold) {
    const limit = this.limitOf({ map, unit });
    const floor = threshold * magnitude(map);
    const overlay = this.part("overlay", node);
    draw(overlay, map, limit, diverging, floor);
    overlay.style.opacity = opacity;
    const steps = Float64Array.from({ length: 255 }, (_, i) => (diverging ? i / 127 - 1 : i / 254));
    draw(this.part("bar", node), { rows: 1, columns: 255, values: steps }, 1, diverging);
    const peak = peakOf(map);
    const flat = map.values.every((value) => value === map.values[0]);
    const texts = {
      low: diverging ? plus(-limit) : "0",
      middle: diverging ? "0" : "",
      high: diverging ? plus(limit) : short(limit),
      unit: `${unit}, per cell of ${grid(map)}`,
      detail: [
        card.adds_up ? `sum ${signed(total(map.values), 3)}` : "",
        flat ? "the same value everywhere" : `highest ${plus(peak.value)} at row ${peak.row + 1}, column ${peak.column + 1}`,
        threshold > 0 ? `hidden below ${short(floor)}` : "",
      ].filter(Boolean).join("; "),
    };
    for (const [name, text] of Object.entries(texts)) this.part(name, node).textContent = text;
    overlay.setAttribute("aria-label", `${card.method}: ${texts.detail}`);
  }
}

for (const root of document.querySelectorAll("[data-explanations]")) root.widget = new Explanations(root);
