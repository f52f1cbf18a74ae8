/* The sheet of a query: each part's attention over each picture, clear where it is none.
 *
 * Reads the JSON that mdnet/report/retrieval_page.py wrote; maps.js stands before it.
 */

class Sheet {
  constructor(root) {
    this.root = root;
    JSON.parse(this.part("payload").textContent).forEach(({ maps }, i) => {
      const hit = root.querySelector(`[data-hit="${i}"]`);
      maps.forEach((packedMap, k) => this.paint(hit, hit.querySelector(`[data-look="${k}"]`), unpack(packedMap)[0]));
    });
    const opacity = this.part("opacity");
    if (opacity === null) return; // an image was searched for: no words, no maps
    opacity.addEventListener("input", () => this.update());
    this.update();
  }

  part(name, root = this.root) {
    return root.querySelector(`[data-part="${name}"]`);
  }

  paint(hit, look, map) {
    look.querySelector("img.base").src = this.part("picture", hit).src; // embedded once
    const overlay = this.part("overlay", look);
    draw(overlay, map, magnitude(map), false);
    const image = overlay.getContext("2d").getImageData(0, 0, map.columns, map.rows);
    map.values.forEach((value, i) => (image.data[4 * i + 3] = Math.round((255 * value) / magnitude(map))));
    overlay.getContext("2d").putImageData(image, 0, 0);
  }

  update() {
    const value = Number(this.part("opacity").value);
    this.part("opacity-text").textContent = `${value}%`;
    for (const canvas of this.root.querySelectorAll('[data-part="overlay"]')) canvas.style.opacity = value / 100;
  }
}

for (const root of document.querySelectorAll("[data-retrieval]")) root.widget = new Sheet(root);
