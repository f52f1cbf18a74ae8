"""Synthetic bladder tissue: a public stand-in for the BCIDR data set, drawn from a seed.

    from mdnet.data.phantom import draw_study, render, write_report
    spec = draw_study(seed=1, index=0)   # labels and parameters
    tile = render(spec, size=128)        # image and masks
    report = write_report(spec)          # five writers, six sections

`make_phantom` writes a data set of any length to disk.
"""

from mdnet.data.phantom.dataset import assign_split, make_phantom
from mdnet.data.phantom.rendering import STRUCTURES, PhantomTile, render
from mdnet.data.phantom.specification import (
    LABEL_SPACE,
    NORMAL_RADIUS,
    SECTIONS,
    PhantomSpec,
    conclude,
    draw_study,
)
from mdnet.data.phantom.statements import stated_class
from mdnet.data.phantom.writers import WRITERS, write_report

__all__ = [
    "LABEL_SPACE",
    "NORMAL_RADIUS",
    "SECTIONS",
    "STRUCTURES",
    "WRITERS",
    "PhantomSpec",
    "PhantomTile",
    "assign_split",
    "conclude",
    "draw_study",
    "make_phantom",
    "render",
    "stated_class",
    "write_report",
]
