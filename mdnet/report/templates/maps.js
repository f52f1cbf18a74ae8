/* What every page with maps needs: unpacking, colours, numbers.
 *
 * A map is {values, rows, columns}: Float64Array in row-major order, in its own unit.
 * Plain ES2020, no library, no request. Text from the data only ever enters through textContent.
 */
"use strict";

const COLOUR_MAPS = (() => {
  const tables = JSON.parse(document.getElementById("colour-maps").textContent);
  return Object.fromEntries(Object.entries(tables).map(([name, data]) => [name, bytes(data)]));
})();

function bytes(base64) {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

/* An array of maps as view.py's `packed` wrote it: float32, or int16 multiples of one step a map. */
function unpack({ shape: [count, rows, columns], steps, data }) {
  const buffer = bytes(data).buffer;
  const stored = steps ? new Int16Array(buffer) : new Float32Array(buffer);
  const size = rows * columns;
  return Array.from({ length: count }, (_, i) => ({
    rows,
    columns,
    values: Float64Array.from(stored.subarray(i * size, (i + 1) * size), (value) => (steps ? value * steps[i] : value)),
  }));
}

const total = (values) => values.reduce((sum, value) => sum + value, 0);

/* Draws a map, one canvas pixel a cell. Evidence: -limit to +limit, zero always in the middle colour.
 * Attention: 0 to limit. A limit of 0 means that the map is zero everywhere, and draws it so.
 * Cells of a magnitude below `floor` are left clear. */
function draw(canvas, map, limit, diverging, floor = 0) {
  const table = diverging ? COLOUR_MAPS.diverging : COLOUR_MAPS.sequential;
  const last = table.length / 3 - 1;
  canvas.width = map.columns;
  canvas.height = map.rows;
  const context = canvas.getContext("2d");
  const image = context.createImageData(map.columns, map.rows);
  map.values.forEach((value, i) => {
    const share = limit > 0 ? Math.min(Math.max(value / limit, -1), 1) : 0;
    const colour = 3 * Math.round(last * (diverging ? (share + 1) / 2 : Math.max(share, 0)));
    image.data.set([table[colour], table[colour + 1], table[colour + 2], Math.abs(value) < floor ? 0 : 255], 4 * i);
  });
  context.putImageData(image, 0, 0);
}

const magnitude = (map) => map.values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);

function peakOf(map) {
  let at = 0;
  map.values.forEach((value, i) => {
    if (value > map.values[at]) at = i;
  });
  return { row: Math.floor(at / map.columns), column: at % map.columns, value: map.values[at] };
}

/* Numbers as the page writes them: a true minus sign, and no sign on a rounded zero. */
function signed(value, digits = 4) {
  const text = Math.abs(value).toFixed(digits);
  return Number(text) === 0 ? text : (value < 0 ? "\u2212" : "+") + text;
}
function short(value) {
  if (value === 0) return "0";
  const text = Math.abs(value) < 1e-4 ? Math.abs(value).toExponential(1) : String(Number(Math.abs(value).toPrecision(3)));
  return (value < 0 ? "\u2212" : "") + text.replace("-", "\u2212");
}
const plus = (value) => (value > 0 ? "+" : "") + short(value);
const grid = (map) => `${map.rows} × ${map.columns}`;

function element(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

/* Tells the style sheet that what needs script may show. */
document.documentElement.classList.add("script");
