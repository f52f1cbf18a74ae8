/* One finding, made interactive: a word's attention over the picture, and the evidence for one class
 * against another, block by block and summed, with its sum check.
 *
 * Reads the JSON that mdnet/report/view.py wrote; maps.js stands before it. Evidence is in logits;
 * attention is a share, each word's map sums to 1.
 */
const RELATIVE_TOLERANCE = 1e-4; // of the sum check; float32 arithmetic leaves about 1e-6

/* Map of class `label` minus map of class `against` (-1: nothing is subtracted). */
function contrast(maps, label, against) {
  const { rows, columns, values } = maps[label];
  return { rows, columns, values: against < 0 ? values : values.map((value, i) => value - maps[against].values[i]) };
}

/* Matrix (cells, coarse): linear interpolation between coarse cell centres, each coarse cell keeping
 * its sum. The same as `spread` in mdnet/inference/finding.py, for cells >= coarse. */
function spread(cells, coarse) {
  const weights = Array.from({ length: cells }, (_, i) => {
    const centre = Math.min(Math.max(((i + 0.5) * coarse) / cells - 0.5, 0), coarse - 1);
    return Float64Array.from({ length: coarse }, (_, j) => Math.max(1 - Math.abs(centre - j), 0));
  });
  for (let j = 0; j < coarse; j++) {
    const sum = weights.reduce((partial, row) => partial + row[j], 0);
    for (const row of weights) row[j] /= sum;
  }
  return weights;
}

/* The sum of maps of different resolution, on the finest grid. */
function summed(maps) {
  const rows = Math.max(...maps.map((map) => map.rows));
  const columns = Math.max(...maps.map((map) => map.columns));
  const values = new Float64Array(rows * columns);
  for (const map of maps) {
    const down = spread(rows, map.rows);
    const across = spread(columns, map.columns);
    for (let r = 0; r < rows; r++) {
      const line = new Float64Array(map.columns);
      for (let k = 0; k < map.rows; k++) {
        if (down[r][k] === 0) continue;
        for (let j = 0; j < map.columns; j++) line[j] += down[r][k] * map.values[k * map.columns + j];
      }
      for (let c = 0; c < columns; c++) {
        for (let j = 0; j < map.columns; j++) values[r * columns + c] += across[c][j] * line[j];
      }
    }
  }
  return { rows, columns, values };
}

class FindingWidget {
  constructor(root) {
    this.root = root;
    const payload = JSON.parse(this.part("payload").textContent);
    this.aspects = payload.aspects.map((aspect) => ({
      ...aspect,
      blocks: aspect.blocks.map(({ name, maps }) => ({ name, maps: unpack(maps) })),
    }));
    this.sections = payload.sections.map((section) => ({ ...section, attention: unpack(section.attention) }));
    root.querySelector("img.base").src = this.part("picture").src; // embedded once, shown twice
    this.words = [...root.querySelectorAll("button.word")];
    this.block = -1; // shown over the picture: -1 is the sum
    this.pinned = null; // the word button that stays shown; null shows evidence
    this.pointed = null; // the word button under the pointer, shown while it is there
    this.listen();
    if (this.aspects.length) this.chooseAspect(0);
    else if (this.words.length) this.pin(this.words[0]);
    else root.classList.add("no-maps");
    this.setOpacity();
  }

  part(name) {
    return this.root.querySelector(`[data-part="${name}"]`);
  }

  listen() {
    for (const word of this.words) {
      word.addEventListener("pointerenter", () => this.point(word));
      word.addEventListener("pointerleave", () => this.point(null));
      word.addEventListener("focus", () => this.pin(word));
      word.addEventListener("click", () => this.pin(word)); // Safari does not focus a clicked button
      word.addEventListener("keydown", (event) => this.walk(event, word));
    }
    for (const button of this.root.querySelectorAll("[data-evidence]")) {
      button.addEventListener("click", () => this.chooseAspect(Number(button.dataset.evidence)));
    }
    this.part("opacity").addEventListener("input", () => this.setOpacity());
    this.part("common").addEventListener("change", () => this.update());
    if (!this.aspects.length) return;
    this.part("aspect").append(...this.aspects.map(({ name }, i) => element("option", { value: i, textContent: name })));
    this.part("aspect").addEventListener("change", (event) => this.chooseAspect(Number(event.target.value)));
    this.part("label").addEventListener("change", (event) => {
      const [label, before] = [Number(event.target.value), this.label];
      this.chooseClasses(label, this.against === label ? before : this.against);
    });
    this.part("against").addEventListener("change", (event) => this.chooseClasses(this.label, Number(event.target.value)));
  }

  /* Arrow keys walk through all words; up and down go section by section. */
  walk(event, word) {
    const at = this.words.indexOf(word);
    const section = Number(word.dataset.section);
    const firstOf = (index) => this.words.findIndex((other) => Number(other.dataset.section) === index);
    const here = this.words.filter((other) => other.dataset.section === word.dataset.section);
    const sections = [...new Set(this.words.map((other) => Number(other.dataset.section)))];
    const place = sections.indexOf(section);
    const goal = {
      ArrowRight: at + 1,
      ArrowLeft: at - 1,
      ArrowDown: firstOf(sections[place + 1]),
      ArrowUp: firstOf(sections[place - 1]),
      Home: this.words.indexOf(here[0]),
      End: this.words.indexOf(here[here.length - 1]),
    }[event.key];
    if (event.key === "Escape") this.pin(null);
    if (goal === undefined || !this.words[goal]) return;
    event.preventDefault();
    this.words[goal].focus();
  }

  point(word) {
    this.pointed = word;
    this.show();
  }

  /* Keeps a word's attention shown (null: evidence again), and makes it its section's tab stop. */
  pin(word) {
    this.pinned = word ?? (this.aspects.length ? null : this.pinned);
    for (const other of this.words) {
      other.setAttribute("aria-pressed", String(other === this.pinned));
      if (word && other.dataset.section === word.dataset.section) other.tabIndex = other === word ? 0 : -1;
    }
    this.show();
  }

  chooseAspect(index) {
    this.aspect = this.aspects[index];
    this.part("aspect").value = index;
    const options = () => this.aspect.classes.map((name, i) => element("option", { value: i, textContent: name }));
    this.part("label").replaceChildren(...options());
    const nothing = element("option", { value: -1, textContent: "nothing (the logit itself)" });
    this.part("against").replaceChildren(nothing, ...options());
    this.chooseClasses(this.aspect.label, this.aspect.against);
  }

  chooseClasses(label, against) {
    [this.label, this.against, this.block] = [label, against, -1];
    this.part("label").value = label;
    this.part("against").value = against;
    for (const option of this.part("against").options) option.disabled = Number(option.value) === label;
    this.maps = this.aspect.blocks.map(({ name, maps }) => ({ name, ...contrast(maps, label, against) }));
    this.sum = { name: "All blocks", ...summed(this.maps) };
    this.fillSums();
    this.update();
    this.pin(null);
  }

  /* What is asked: "frequent against absent", or "frequent". */
  question() {
    const { classes } = this.aspect;
    return classes[this.label] + (this.against < 0 ? "" : ` against ${classes[this.against]}`);
  }

  /* Logit (or difference of two) of one column of the sum check. */
  columnOf(label, against) {
    const difference = (values) => values[label] - (against < 0 ? 0 : values[against]);
    const blocks = this.aspect.blocks.map(({ maps }) => total(contrast(maps, label, against).values));
    const bias = difference(this.aspect.bias);
    return { blocks, bias, sum: total(blocks) + bias, logit: difference(this.aspect.logits) };
  }

  fillSums() {
    const { classes, blocks, logits } = this.aspect;
    const heads = [this.question()];
    const columns = [this.columnOf(this.label, this.against)];
    if (this.against >= 0) {
      heads.push(classes[this.label], classes[this.against]);
      columns.push(this.columnOf(this.label, -1), this.columnOf(this.against, -1));
    }
    const row = (name, pick, className = "") =>
      element("tr", { className }, element("th", { scope: "row", textContent: name }),
        ...columns.map((column) => element("td", { textContent: pick(column) })));
    const head = element("tr", {}, element("th", { scope: "col", textContent: "Logit from" }),
      ...heads.map((name) => element("th", { scope: "col", textContent: name })));
    this.part("sums").replaceChildren(
      element("thead", {}, head),
      element("tbody", {},
        ...blocks.map(({ name, maps }, i) => row(`${name} (${grid(maps[0])})`, (column) => signed(column.blocks[i]))),
        row("bias", (column) => signed(column.bias)),
        row("sum of maps and bias", (column) => signed(column.sum), "sum"),
        row("the model’s own logit", (column) => signed(column.logit), "logit"),
        row("difference", (column) => short(column.sum - column.logit), "difference")));
    const [{ sum, logit }] = columns;
    this.total = sum;
    this.part("sum-aspect").textContent = this.aspect.name;
    const size = Math.max(1, Math.abs(logits[this.label]), this.against < 0 ? 0 : Math.abs(logits[this.against]));
    const agrees = Math.abs(sum - logit) <= RELATIVE_TOLERANCE * size;
    this.part("verdict").textContent = agrees
      ? "✓ The maps and the bias sum to the model’s logit."
      : "✗ The maps and the bias do not sum to the model’s logit: do not trust these maps.";
    this.part("verdict").classList.toggle("differs", !agrees);
  }

  /* Limit of the colours, in logit a cell of `map`. With one scale for all maps, equal colours mean
   * equal evidence for equal areas, so a coarse cell may hold more than a fine one. */
  evidenceLimit(map) {
    if (!this.part("common").checked) return magnitude(map);
    const perArea = [this.sum, ...this.maps].map((other) => magnitude(other) * other.values.length);
    return Math.max(...perArea) / map.values.length;
  }

  attentionLimit(section, map) {
    return Math.max(...(this.part("common").checked ? section.attention : [map]).map(magnitude));
  }

  /* Draws the small multiples anew, then the large map. */
  update() {
    if (this.aspects.length) {
      const picture = this.part("picture");
      const ratio = `${picture.getAttribute("width")} / ${picture.getAttribute("height")}`;
      this.part("blocks").replaceChildren(...[this.sum, ...this.maps].map((map, i) => this.thumbnail(map, i - 1, ratio)));
    }
    this.show();
  }

  thumbnail(map, block, ratio) {
    const canvas = element("canvas");
    canvas.style.aspectRatio = ratio;
    draw(canvas, map, this.evidenceLimit(map), true);
    const value = block < 0 ? `${signed(total(map.values))} + bias ${signed(this.columnOf(this.label, this.against).bias)}` : signed(total(map.values));
    const button = element("button", { type: "button", className: "block" }, canvas,
      element("strong", { textContent: map.name }),
      element("span", { textContent: `${value} logit` }),
      element("span", { className: "aside", textContent: `${grid(map)} cells` }));
    button.dataset.block = block;
    button.addEventListener("click", () => {
      this.block = block;
      this.pin(null);
    });
    return button;
  }

  /* Shows the pointed word, else the pinned word, else the chosen evidence over the picture. */
  show() {
    const word = this.pointed ?? this.pinned;
    if (word) this.showAttention(word);
    else if (this.aspects.length) this.showEvidence();
    for (const button of this.root.querySelectorAll("button.block")) {
      button.setAttribute("aria-pressed", String(!word && Number(button.dataset.block) === this.block));
    }
  }

  showAttention(button) {
    const section = this.sections[button.dataset.section];
    const i = Number(button.dataset.word);
    const map = section.attention[i];
    const limit = this.attentionLimit(section, map);
    const [aspect, guide] = section.guide;
    const even = 1 / map.values.length;
    this.paint(map, limit, false, {
      shown: `Attention of the word “${section.words[i]}” in ${section.name}`,
      marks: ["0", "", short(limit)],
      unit: `share of attention per cell (${grid(map)} cells; spread evenly, each would hold ${short(even)})`,
      detail: `word probability ${section.probability[i].toFixed(3)}, sharpness ${section.sharpness[i].toFixed(2)} (0 even, 1 one cell)` +
        (guide ? `; guided by ${aspect}: ${guide}` : ""),
    });
  }

  showEvidence() {
    const map = this.block < 0 ? this.sum : this.maps[this.block];
    const limit = this.evidenceLimit(map);
    const { classes, name } = this.aspect;
    const [label, against] = [classes[this.label], classes[this.against]];
    const whole = `Evidence for ${this.question()}: ${signed(this.total, 2)} logit`;
    const sides = `orange speaks for ${label}, blue ${against === undefined ? "against it" : `for ${against}`}`;
    this.paint(map, limit, true, {
      shown: this.block < 0 ? whole : `${whole}, of which ${signed(total(map.values), 2)} from ${map.name}`,
      marks: [plus(-limit), "0", plus(limit)],
      unit: `logit per cell (${grid(map)} cells, ${name}); ${sides}`,
      detail: limit === 0 || magnitude(map) === 0 ? "This map is zero everywhere." : "",
    });
  }

  /* Puts a map over the picture, with its colour bar and its words. */
  paint(map, limit, diverging, { shown, marks, unit, detail }) {
    const steps = Float64Array.from({ length: 255 }, (_, i) => (diverging ? i / 127 - 1 : i / 254));
    draw(this.part("overlay"), map, limit, diverging);
    draw(this.part("bar"), { rows: 1, columns: 255, values: steps }, 1, diverging);
    const peak = peakOf(map);
    const flat = map.values.every((value) => value === map.values[0]);
    const place = `highest cell: row ${peak.row + 1}, column ${peak.column + 1}, ${(diverging ? plus : short)(peak.value)}`;
    const texts = { shown, low: marks[0], middle: marks[1], high: marks[2], unit, detail: [detail, flat ? "" : place].filter(Boolean).join("; ") };
    for (const [name, text] of Object.entries(texts)) this.part(name).textContent = text;
    this.part("overlay").setAttribute("aria-label", `${shown}; ${texts.detail}`);
    const frame = this.part("peak");
    frame.hidden = flat;
    const percent = (share) => `${100 * share}%`;
    Object.assign(frame.style, {
      left: percent(peak.column / map.columns),
      top: percent(peak.row / map.rows),
      width: percent(1 / map.columns),
      height: percent(1 / map.rows),
    });
  }

  setOpacity() {
    const opacity = Number(this.part("opacity").value);
    this.part("overlay").style.opacity = opacity / 100;
    this.part("opacity-text").textContent = `${opacity}%`;
  }
}

/* A finding inside a closed <details> is made interactive when it is first opened. */
for (const root of document.querySelectorAll("[data-finding]")) {
  const folder = root.parentElement.closest("details");
  const mount = () => {
    if (!folder || folder.open) root.widget ??= new FindingWidget(root);
  };
  folder?.addEventListener("toggle", mount);
  mount();
}
