/* Sorts a table by the column whose heading is pressed: numbers from high to low first, text from a to z;
 * pressed again, the other way round. What was not measured stays at the end either way. */
"use strict";

for (const button of document.querySelectorAll(".leaderboard .sort")) {
  button.addEventListener("click", () => {
    const heading = button.closest("th");
    const numeric = "numeric" in button.dataset;
    const first = numeric ? "descending" : "ascending";
    const second = numeric ? "ascending" : "descending";
    const order = heading.getAttribute("aria-sort") === first ? second : first;
    for (const other of heading.parentElement.children) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", order);
    sortRows(heading.closest("table").tBodies[0], heading.cellIndex, numeric, order === "ascending" ? 1 : -1);
  });
}

function sortRows(body, column, numeric, direction) {
  const key = (row) => {
    const cell = row.cells[column];
    return numeric ? Number(cell.dataset.value ?? NaN) : cell.textContent.trim();
  };
  const missing = (value) => value === "" || Number.isNaN(value);
  const compare = (a, b) => {
    if (missing(a) || missing(b)) return missing(a) - missing(b);
    return direction * (numeric ? a - b : a.localeCompare(b, "en", { numeric: true }));
  };
  const rows = Array.from(body.rows, (row) => [key(row), row]);
  body.append(...rows.sort(([a], [b]) => compare(a, b)).map(([, row]) => row));
}
