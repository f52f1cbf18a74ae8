"""Makes docs/finding.png: the page of one sample tile in Chromium. `make figures`."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

import mdnet

DOCS = Path(__file__).parent


def main() -> None:
    browser_path = shutil.which("chromium")
    if browser_path is None:
        sys.exit("chromium is not installed: apt-get install chromium")
    predictor = mdnet.Predictor.from_pretrained("mdnet_tiny/phantom")
    finding = predictor("data/sample/images/p00000.png")  # from the top of the repository
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page_file = finding.save_html(Path(folder) / "finding.html")
        arguments = ["--no-sandbox", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=browser_path, args=arguments)
        page = browser.new_page(viewport={"width": 1120, "height": 820})
        page.goto(page_file.as_uri())
        page.select_option("select >> nth=0", label="mitosis")
        page.select_option("select >> nth=1", label="frequent")
        page.screenshot(path=DOCS / "finding.png")
        browser.close()


if __name__ == "__main__":
    main()
