"""Lets `import torchvision` work beside a CPU-only torch.

torchvision's wheel from PyPI is built against the CUDA build of torch. Beside the CPU build its
compiled library does not load, so `torchvision::nms` is undefined, and the import itself fails
when torchvision registers a shape function for it. Nothing here calls that operator; declaring
its schema is enough for transforms and models. Import this module before torchvision or anything
that imports it (transformers does). Where the compiled library loads, nothing is changed.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch

_SCHEMAS = {
    "torchvision::nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "torchvision::qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


def _compiled_operators_load() -> bool:
    spec = importlib.util.find_spec("torchvision")  # finds without importing
    if spec is None or not spec.submodule_search_locations:
        return True  # no torchvision: its own import error is the right message
    folder = Path(spec.submodule_search_locations[0])
    for library in [*folder.glob("_C*.so"), *folder.glob("_C*.pyd")]:
        try:
            torch.ops.load_library(str(library))
        except OSError:  # an undefined symbol, or a CUDA library that is not there
            return False
    return hasattr(torch.ops.torchvision, "nms")


if not _compiled_operators_load():
    for _name, _schema in _SCHEMAS.items():
        torch.library.define(_name, _schema)
