"""A headless Chromium for the pages, and the finding that most tests draw."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from handmade import make_finding

from mdnet.inference.finding import Finding


@pytest.fixture
def finding() -> Finding:
    return make_finding()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("chromium is not installed (Debian: apt install chromium)")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=executable, args=["--no-sandbox", "--disable-background-networking"]
        )
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Opens a file in a fresh page; the test fails if it asked for anything or logged an error."""
    pages, complaints = [], []

    def open_file(path: Path, **options: Any) -> Any:
        page = browser.new_page(**options)
        pages.append(page)
        page.on(
            "console", lambda message: complaints.append(message.text) if message.type == "error" else None
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        url = path.resolve().as_uri()
        page.on(
            "request",
            lambda r: complaints.append(r.url) if r.url != url and not r.url.startswith("data:") else None,
        )
        page.goto(url)
        return page

    yield open_file
    for page in pages:
        page.close()
    assert complaints == []
