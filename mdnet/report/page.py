"""What every HTML page of the project shares: templates, inlined assets, safe writing.

A page is one file that asks nothing of any network: script and style are inlined, pictures are
data URIs, and a Content-Security-Policy forbids everything else, inline code included unless its
hash is named (https://www.w3.org/TR/CSP3/). All text is escaped by jinja2.
"""

from __future__ import annotations

import base64
import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

import mdnet
from mdnet.report.colour_maps import diverging, sequential

__all__ = ["image_data_uri", "render_page"]

_TEMPLATES = Path(__file__).parent / "templates"


def render_page(template: str, *, script: str = "finding.js", **context: Any) -> str:
    """The HTML of one template, with `maps.js`, its own script and `style.css` inlined, allowed by hash."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    scripts = "\n".join((_TEMPLATES / name).read_text(encoding="utf-8") for name in ("maps.js", script))
    style = (_TEMPLATES / "style.css").read_text(encoding="utf-8")
    policy = (
        f"default-src 'none'; img-src data:; script-src '{_hash(scripts)}'; style-src '{_hash(style)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    colours = {
        "diverging": base64.b64encode(diverging().tobytes()).decode(),
        "sequential": base64.b64encode(sequential().tobytes()).decode(),
    }
    return environment.get_template(template).render(
        script=Markup(scripts),
        style=Markup(style),
        policy=policy,
        colours=colours,
        version=mdnet.__version__,
        **context,
    )


def image_data_uri(image: npt.NDArray[np.uint8], max_side: int, *, lossless: bool = True) -> str:
    """`image` (H, W, 3) uint8 as a data URI, scaled down to at most `max_side` pixels a side.

    PNG; or, unless `lossless`, JPEG where the image had to be scaled down.
    """
    picture = Image.fromarray(image)
    scaled = max(picture.size) > max_side
    if scaled:
        picture.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    if lossless or not scaled:
        picture.save(buffer, "PNG")
        kind = "png"
    else:
        picture.save(buffer, "JPEG", quality=90)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode()
