"""The zoo's names and what they promise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mdnet.data.phantom import LABEL_SPACE, SECTIONS, draw_study, write_report
from mdnet.data.text import ReportTokenizer
from mdnet.errors import ConfigurationError
from mdnet.models.configuration import MDNetConfig
from mdnet.models.registry import create_model, get_architecture, list_models, register_model


def test_the_sizes_and_the_backbones_are_listed_sorted_and_by_pattern():
    assert [name for name in list_models() if name.startswith("mdnet_")] == [
        "mdnet_base",
        "mdnet_densenet121",
        "mdnet_literal",
        "mdnet_resnet18",
        "mdnet_resnet50",
        "mdnet_small",
        "mdnet_tiny",
    ]
    assert list_models("*tiny") == ["ecnet_tiny", "mdnet_tiny"]
    assert list_models("resnet*") == []


def test_a_name_that_is_taken_raises():
    def mdnet_tiny():
        return {}

    before = get_architecture("mdnet_tiny")
    with pytest.raises(ConfigurationError, match="'mdnet_tiny' is registered already"):
        register_model(mdnet_tiny)
    assert get_architecture("mdnet_tiny") == before


def test_an_unknown_name_lists_the_names():
    with pytest.raises(
        ConfigurationError, match=r"no model 'mdnet_huge'.*; the models: .*mdnet_small, mdnet_tiny"
    ):
        create_model("mdnet_huge")


def test_an_unknown_option_raises_and_lists_the_options():
    with pytest.raises(ConfigurationError, match="unknown model option colour; the options: image_size"):
        create_model("mdnet_tiny", colour=3)


def test_a_slip_of_the_pen_is_answered_with_the_name_that_was_meant():
    with pytest.raises(ConfigurationError, match=r"no model 'mdnet_tny' \(did you mean 'mdnet_tiny'\?\)"):
        create_model("mdnet_tny")
    with pytest.raises(ConfigurationError, match=r"option hiden_size \(did you mean 'hidden_size'\?\)"):
        create_model("mdnet_tiny", hiden_size=3)


def test_an_installed_package_brings_members_of_its_own(tmp_path):
    install(
        tmp_path,
        "from mdnet.models.registry import Architecture, register_model\n"
        "@register_model\n"
        "def brought():\n"
        "    return Architecture({'image_size': 32}, 'nobody', writes=False)\n",
    )
    found = call("import mdnet; print(mdnet.list_models('b*'))", tmp_path)
    assert (found.stdout.strip(), found.stderr) == ("['brought']", "")


def test_an_installed_package_that_cannot_be_imported_is_named(tmp_path):
    install(tmp_path, "import what_nobody_has\n")
    found = call("from mdnet.cli.main import main; main(['models'])", tmp_path)
    assert found.returncode == 2
    assert found.stderr == (
        "mdnet: a-zoo: its models in their_zoo cannot be imported (No module named 'what_nobody_has'); "
        "mend or uninstall it\n"
    )


def install(folder: Path, module: str) -> None:
    """A package `a-zoo`, as pip leaves it."""
    (folder / "their_zoo.py").write_text(module, encoding="utf-8")
    about = folder / "a_zoo-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: a-zoo\nVersion: 1.0\n", encoding="utf-8")
    (about / "entry_points.txt").write_text("[mdnet.models]\nits = their_zoo\n", encoding="utf-8")


def call(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Python with the folder on its path."""
    start = f"import sys; sys.path.append({str(folder)!r}); "
    return subprocess.run([sys.executable, "-c", start + code], capture_output=True, text=True, check=False)


def test_sections_need_a_tokenizer():
    with pytest.raises(ConfigurationError, match="needs a tokenizer"):
        create_model("mdnet_tiny", sections=("report",))


def test_mdnet_tiny_has_at_most_a_million_parameters_for_six_aspects_and_sections():
    reports = [write_report(draw_study(1, index)) for index in range(100)]
    texts = [text for report in reports for texts in report.values() for text in texts]
    tokenizer = ReportTokenizer.build(texts, SECTIONS)
    assert len(tokenizer) > 200
    model = create_model("mdnet_tiny", label_space=LABEL_SPACE, sections=SECTIONS, tokenizer=tokenizer)
    assert len(LABEL_SPACE.aspects) == len(model.config.sections) == 6
    assert sum(parameter.numel() for parameter in model.parameters()) <= 1_000_000
    assert model.config.image_size == 128


@pytest.mark.parametrize(("name", "size", "grid"), [("mdnet_tiny", 128, 16), ("mdnet_base", 224, 14)])
def test_sizes_and_grids_are_those_of_the_paper_and_the_readme(name, size, grid):
    config = MDNetConfig(**get_architecture(name).options)
    assert (config.image_size, config.grid_size) == (size, grid)
