"""`import mdnet` stays light, and its names are found when they are asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

import mdnet

HEAVY = ("torch", "torchvision", "transformers", "sklearn", "matplotlib", "nltk", "pydicom", "jinja2")


def modules_after(code: str) -> set[str]:
    """Top-level modules that a fresh process has imported after `code`."""
    script = f"import sys\n{code}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    result = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    return set(result.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import mdnet; mdnet.__version__",
        "import mdnet; mdnet.list_weights()",
        "import mdnet.data.study, mdnet.inference.finding, mdnet.training.configuration",
        "import mdnet.cli.main",
    ],
)
def test_heavy_packages_wait_until_they_are_used(code):
    assert not modules_after(code) & set(HEAVY)


def test_names_are_those_of_their_modules():
    from mdnet.inference.predictor import Predictor
    from mdnet.models.mdnet import MDNet

    assert mdnet.Predictor is Predictor
    assert mdnet.MDNet is MDNet


@pytest.mark.parametrize("name", mdnet.__all__)
def test_every_public_name_is_there(name):
    assert getattr(mdnet, name) is not None
    assert name in dir(mdnet)


def test_models_and_weights_are_listed():
    assert {"mdnet_tiny", "mdnet_small", "mdnet_base"} <= set(mdnet.list_models())
    assert isinstance(mdnet.list_weights(), list)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'mdnet' has no attribute 'Predicter'"):
        _ = mdnet.Predicter
