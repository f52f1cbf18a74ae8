/* A data set in the plane: one canvas, its legend, and the study that is looked at.
 *
 * Reads the JSON that mdnet/report/scatter_page.py wrote; maps.js stands before it.
 */

/* Okabe & Ito, without the black and in an order that keeps the first few far apart. */
const MARK_COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#f0e442", "#8a8a8a"];
const MARK_SHAPES = ["circle", "triangle", "square", "diamond", "wedge", "plus", "star", "cross"];
const MARK_SIZE = 5; // half its width, CSS pixels
const REACH = 18; // how near a pointer must come
const MARGIN = 14;

const polygon = (corners, turn, inner = 1) =>
  Array.from({ length: corners }, (_, i) => {
    const angle = turn + (2 * Math.PI * i) / corners;
    const radius = i % 2 ? inner : 1;
    return [radius * Math.sin(angle), -radius * Math.cos(angle)];
  });
const BAR = 0.32;
const PLUS = [[-BAR, -1], [BAR, -1], [BAR, -BAR], [1, -BAR], [1, BAR], [BAR, BAR], [BAR, 1], [-BAR, 1], [-BAR, BAR], [-1, BAR], [-1, -BAR], [-BAR, -BAR]];
const OUTLINES = {
  circle: polygon(24, 0).map(([x, y]) => [0.9 * x, 0.9 * y]),
  triangle: polygon(3, 0).map(([x, y]) => [1.15 * x, 1.15 * y + 0.2]),
  square: polygon(4, Math.PI / 4).map(([x, y]) => [1.15 * x, 1.15 * y]),
  diamond: polygon(4, 0).map(([x, y]) => [1.15 * x, 1.15 * y]),
  wedge: polygon(3, Math.PI).map(([x, y]) => [1.15 * x, 1.15 * y - 0.2]),
  plus: PLUS.map(([x, y]) => [1.1 * x, 1.1 * y]),
  star: polygon(10, 0, 0.45).map(([x, y]) => [1.25 * x, 1.25 * y]),
  cross: PLUS.map(([x, y]) => [0.78 * (x - y), 0.78 * (x + y)]),
};

/* Colour and shape of the n-th class; the first eight differ in both. */
function markOf(n) {
  const shape = MARK_SHAPES[(n + Math.floor(n / MARK_COLOURS.length)) % MARK_SHAPES.length];
  return { colour: MARK_COLOURS[n % MARK_COLOURS.length], shape };
}

function drawMark(context, x, y, { colour, shape }, size, edge) {
  context.beginPath();
  for (const [dx, dy] of OUTLINES[shape]) context.lineTo(x + size * dx, y + size * dy);
  context.closePath();
  context.fillStyle = colour;
  context.fill();
  context.strokeStyle = edge;
  context.lineWidth = 0.75;
  context.stroke();
}

/* Sizes a canvas for the screen's own pixels; gives its context in CSS pixels. */
function sized(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  return context;
}

class Scatter {
  constructor(root) {
    this.root = root;
    Object.assign(this, JSON.parse(this.part("payload").textContent));
    this.sprites = new Image();
    this.sprites.src = this.sheet;
    this.sprites.addEventListener("load", () => this.describe());
    this.chosen = 0;
    this.hidden = new Set();
    const plot = this.part("plot");
    for (const name of ["space", "method"]) this.part(name).addEventListener("change", () => this.update());
    for (const name of ["aspect", "source"]) {
      this.part(name).addEventListener("change", () => {
        this.hidden.clear();
        this.update();
      });
    }
    for (const event of ["pointermove", "pointerdown"]) {
      plot.addEventListener(event, ({ offsetX, offsetY }) => this.choose(this.nearest(offsetX, offsetY, REACH)));
    }
    plot.addEventListener("keydown", (event) => this.key(event));
    plot.addEventListener("focus", () => this.chosen === null && this.choose(this.shown()[0] ?? null));
    new ResizeObserver(() => this.paint()).observe(plot.parentElement);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.update());
    this.update();
  }

  part(name) {
    return this.root.querySelector(`[data-part="${name}"]`);
  }

  /* The class that colours a study. */
  classOf(study) {
    const aspect = Number(this.part("aspect").value);
    const source = this.part("source").value;
    if (source !== "right") return study[source][aspect] ?? "no label";
    if (study.truth[aspect] === null) return "no label";
    return study.truth[aspect] === study.said[aspect] ? "right" : "wrong";
  }

  update() {
    const [space, method] = ["space", "method"].map((name) => this.part(name).value);
    this.embedding = this.embeddings.find((each) => each.space === space && each.method === method);
    const counts = new Map();
    this.classes = this.studies.map((study) => this.classOf(study));
    for (const name of this.classes) counts.set(name, (counts.get(name) ?? 0) + 1);
    const aspect = this.aspects[Number(this.part("aspect").value)];
    // In the data's own order, so that a class keeps its colour; sets of labels by how many they are.
    const known = this.part("source").value === "right" ? ["right", "wrong"] : aspect.classes;
    const others = [...counts.keys()].filter((name) => !known.includes(name));
    others.sort((a, b) => (a === "no label") - (b === "no label") || counts.get(b) - counts.get(a));
    this.marks = new Map([...known, ...others].map((name, i) => [name, name === "no label" ? { colour: "#8a8a8a", shape: "cross" } : markOf(i)]));
    this.legend(counts);
    this.part("facts").textContent = `${this.embedding.facts}. The space: ${this.embedding.note}.`;
    this.agreement();
    this.paint();
    this.describe();
  }

  legend(counts) {
    const items = [...this.marks].map(([name, mark]) => {
      const sample = element("canvas", { ariaHidden: "true" });
      drawMark(sized(sample, 20, 20), 10, 10, mark, 7, this.ink());
      const button = element("button", { type: "button", ariaPressed: String(!this.hidden.has(name)) });
      button.append(sample, element("span", { textContent: name }), element("span", { className: "aside number", textContent: counts.get(name) ?? 0 }));
      button.addEventListener("click", () => {
        if (!this.hidden.delete(name)) this.hidden.add(name);
        button.ariaPressed = String(!this.hidden.has(name));
        if (this.chosen !== null && this.hidden.has(this.classes[this.chosen])) this.chosen = null;
        this.paint();
        this.describe();
      });
      return element("li", {}, button);
    });
    this.part("legend").replaceChildren(...items);
  }

  ink() {
    return getComputedStyle(this.root).color;
  }

  shown() {
    return this.studies.map((_, i) => i).filter((i) => !this.hidden.has(this.classes[i]));
  }

  /* Where every study lies on the canvas: one scale for both axes. */
  layout(width, height) {
    const { points } = this.embedding;
    const [low, high] = [Math.min, Math.max].map((pick) => [0, 1].map((k) => points.reduce((best, point) => pick(best, point[k]), points[0][k])));
    const spans = [high[0] - low[0], high[1] - low[1]];
    const scale = Math.min((width - 2 * MARGIN) / (spans[0] || 1), (height - 2 * MARGIN) / (spans[1] || 1));
    const place = (value, k, size) => size / 2 + (value - (low[k] + high[k]) / 2) * scale;
    this.places = points.map(([x, y]) => [place(x, 0, width), height - place(y, 1, height)]);
  }

  paint() {
    const plot = this.part("plot");
    const width = plot.clientWidth;
    const height = plot.clientHeight;
    if (!width) return;
    const context = sized(plot, width, height);
    this.layout(width, height);
    const ink = this.ink();
    const wrongLast = (i) => this.classes[i] === "wrong";
    const order = this.shown();
    order.sort((a, b) => wrongLast(a) - wrongLast(b));
    context.globalAlpha = 0.9;
    for (const i of order) drawMark(context, ...this.places[i], this.marks.get(this.classes[i]), MARK_SIZE, ink);
    if (this.chosen === null) return;
    context.globalAlpha = 1;
    const [x, y] = this.places[this.chosen];
    drawMark(context, x, y, this.marks.get(this.classes[this.chosen]), 1.5 * MARK_SIZE, ink);
    context.lineWidth = 2.5;
    context.beginPath();
    context.arc(x, y, 12, 0, 2 * Math.PI);
    context.stroke();
  }

  nearest(x, y, reach, allowed = () => true) {
    let best = null;
    let least = reach;
    for (const i of this.shown()) {
      const [dx, dy] = [this.places[i][0] - x, this.places[i][1] - y];
      const distance = Math.hypot(dx, dy);
      if (distance <= least && allowed(dx, dy, i)) [best, least] = [i, distance];
    }
    return best;
  }

  choose(i) {
    if (i === null || i === this.chosen) return;
    this.chosen = i;
    this.paint();
    this.describe();
  }

  key(event) {
    const shown = this.shown();
    if (event.key === "Home") this.choose(shown[0] ?? null);
    else if (event.key === "End") this.choose(shown.at(-1) ?? null);
    else {
      const along = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (!along || this.chosen === null) return;
      // Within 45 degrees of the arrow, so that two arrows never lead to the same study.
      const ahead = (dx, dy) => {
        const forward = dx * along[0] + dy * along[1];
        return forward > 0 && Math.abs(dx * along[1] + dy * along[0]) <= forward;
      };
      const [x, y] = this.places[this.chosen];
      this.choose(this.nearest(x, y, Infinity, ahead));
    }
    event.preventDefault();
  }

  /* The study that is looked at: its picture, and every answer beside the truth. */
  describe() {
    this.part("card").classList.toggle("empty", this.chosen === null);
    if (this.chosen === null) return;
    const study = this.studies[this.chosen];
    const canvas = this.part("thumbnail");
    canvas.width = canvas.height = this.side;
    const at = [this.chosen % this.columns, Math.floor(this.chosen / this.columns)].map((n) => n * this.side);
    if (this.sprites.complete) canvas.getContext("2d").drawImage(this.sprites, ...at, this.side, this.side, 0, 0, this.side, this.side);
    this.part("id").textContent = study.id;
    const rows = this.aspects.map(({ name }, k) => {
      const differs = study.truth[k] !== null && study.truth[k] !== study.said[k];
      return element(
        "tr",
        {},
        element("th", { scope: "row", textContent: name }),
        element("td", { className: differs ? "differs" : "", textContent: study.said[k] }),
        element("td", { textContent: study.truth[k] ?? "\u2013" }),
      );
    });
    this.part("answers").replaceChildren(...rows);
  }

  agreement() {
    const percent = (share) => `${Math.round(100 * share)}%`;
    const rows = Object.entries(this.embedding.agreement).map(([name, { plane, space, chance, silhouette }]) =>
      element(
        "tr",
        {},
        element("th", { scope: "row", textContent: name }),
        ...[percent(plane), percent(space), percent(chance), silhouette === null ? "\u2013" : signed(silhouette, 2)].map((text) => element("td", { textContent: text })),
      ),
    );
    this.part("agreement").replaceChildren(...rows);
  }
}

for (const root of document.querySelectorAll("[data-scatter]")) root.widget = new Scatter(root);
