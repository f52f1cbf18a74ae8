"""The leaderboard: which runs share a table, what is best beyond noise, and what is left out and why."""

from __future__ import annotations

import csv
import io
import json
import shutil

import pytest
from run_folders import make_studies, write_run

from mdnet.cli.main import main
from mdnet.errors import ConfigurationError
from mdnet.evaluation.leaderboard import Cell, Row, leaderboard, ranking, to_csv
from mdnet.evaluation.run_folder import read_evaluated_run
from mdnet.evaluation.seeds import group_by_seed, spread

STUDIES = make_studies(30)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    for seed in (1, 2, 3):
        write_run(root / f"good{seed}", STUDIES, skill=0.9, seed=seed, epochs=9)
    write_run(root / "deep" / "poor", STUDIES, skill=0.3, seed=4, epochs=2)
    write_run(root / "val", STUDIES, skill=0.3, seed=4, epochs=2, split="val")
    write_run(root / "elsewhere", STUDIES, skill=0.3, seed=4, epochs=2, data_hash="e" * 64)
    shutil.copytree(root / "good1", root / "good1_again")
    shutil.copytree(root / "good1", root / "unevaluated")
    (root / "unevaluated" / "metrics.json").unlink()
    shutil.copytree(root / "good1", root / "broken")
    (root / "broken" / "metrics.json").write_text("{")
    return root


@pytest.fixture(scope="module")
def board(folder):
    return leaderboard(folder)


def test_runs_on_other_data_or_another_split_are_never_ranked_together(board):
    tables = {
        (table.data_hash[0], table.split): [len(row.runs) for row in table.rows] for table in board.tables
    }
    assert tables == {("d", "test"): [3, 1], ("d", "val"): [1], ("e", "test"): [1]}


def test_what_is_not_ranked_is_named_with_its_reason(board, folder):
    reasons = {path.name: reason for path, reason in board.left_out}
    assert set(reasons) == {"good1_again", "unevaluated", "broken"}
    assert reasons["good1_again"] == "seed 1 of its recipe is there already"
    assert "not evaluated" in reasons["unevaluated"]
    assert "no JSON" in reasons["broken"]


def test_seeds_of_one_recipe_are_one_row_of_mean_and_spread(board, folder):
    table = next(table for table in board.tables if len(table.rows) == 2)
    good, poor = table.rows
    assert (good.seeds, poor.seeds) == ((1, 2, 3), (4,))
    assert (good.differs, poor.differs) == ("epochs 9", "epochs 2")
    values = [read_evaluated_run(folder / f"good{seed}").metrics["text"]["bleu_4"] for seed in (1, 2, 3)]
    cell = good.cells["bleu_4"]
    assert cell.value == pytest.approx(sum(values) / 3)
    assert cell.seeds == spread(values)
    assert [member.cells["bleu_4"].value for member in good.members] == values
    assert poor.cells["bleu_4"].seeds.deviation is None
    assert poor.members == ()


def test_a_baseline_that_nothing_was_measured_of_has_no_number(folder, tmp_path):
    shutil.copytree(folder / "good1", tmp_path / "run")
    file = tmp_path / "run" / "metrics.json"
    metrics = json.loads(file.read_text())
    metrics["baselines"]["majority"] = {"conclusion": {"class": "normal", "accuracy": None}}
    file.write_text(json.dumps(metrics))
    (table,) = leaderboard(tmp_path).tables
    assert "majority class" not in [row.name for row in table.baselines]


def test_spread_by_hand():
    found = spread([1.0, 2.0, 3.0])
    half = 4.302652729911275 / 3**0.5  # Student's t, 97.5%, two degrees of freedom; the deviation is 1
    assert (found.seeds, found.mean, found.deviation, found.minimum, found.maximum) == (3, 2.0, 1.0, 1.0, 3.0)
    assert (found.low, found.high) == pytest.approx((2 - half, 2 + half))
    alone = spread([0.5])
    assert (alone.deviation, alone.low, alone.high) == (None, None, None)


def test_an_option_that_differs_makes_another_recipe(tmp_path):
    runs = [
        write_run(tmp_path / name, STUDIES[:4], skill=0.5, seed=seed, model_options={"attention": name[0]})
        for seed, name in enumerate(("a1", "a2", "b1"))
    ]
    groups = group_by_seed([read_evaluated_run(run) for run in runs])
    assert [[run.folder.name for run in group.runs] for group in groups] == [["a1", "a2"], ["b1"]]
    rows = leaderboard(tmp_path).tables[0].rows
    assert {row.differs for row in rows} == {"attention a", "attention b"}


def test_baselines_stand_beside_the_runs(board, folder):
    table = board.tables[0]
    metrics = read_evaluated_run(folder / "good1").metrics
    rows = {row.name: row.cells for row in table.baselines}
    assert rows["constant report"]["cider"].value == metrics["baselines"]["constant_report"]["cider"]
    assert all(cell.noise is None for cells in rows.values() for cell in cells.values())


def row(name: str, value: float, noise: float | None = None) -> Row:
    return Row(name, {"bleu_4": Cell(value, noise)})


@pytest.mark.parametrize(
    ("rows", "baselines", "best", "words"),
    [
        ([row("a", 0.9, 0.03), row("b", 0.84, 0.04)], [], (0,), "a is best by more than noise"),
        (
            [row("a", 0.9, 0.03), row("b", 0.86, 0.04), row("c", 0.2, 0.1)],
            [],
            (0, 1),
            "2 of 3 rows are within",
        ),
        ([row("a", 0.9, 0.03), row("b", 0.2)], [], (0, 1), "2 of 2 rows are within noise"),
        ([row("a", 0.9, 0.0), row("b", 0.2, 0.0)], [row("one for all", 0.9)], None, "no run is better than"),
        ([row("a", 0.9, 0.0)], [row("one for all", 0.8)], None, ""),
    ],
    ids=["clear", "tied", "noise unknown", "baseline as good", "alone"],
)
def test_best_is_only_what_is_more_than_noise(rows, baselines, best, words):
    marked, sentences = ranking(rows, baselines)
    assert marked.get("bleu_4") == best
    assert words in " ".join(sentences)
    assert bool(words) == bool(sentences)


def test_the_table_of_numbers_holds_every_row(board):
    lines = list(csv.DictReader(io.StringIO(to_csv(board))))
    kinds = [line["kind"] for line in lines]
    assert (kinds.count("seeds"), kinds.count("run"), kinds.count("left out")) == (1, 6, 3)
    group = lines[kinds.index("seeds")]
    cell = next(row for table in board.tables for row in table.rows if row.members).cells["rouge_l"]
    assert float(group["rouge_l"]) == cell.value
    assert float(group["rouge_l_low"]) == cell.seeds.low
    assert group["seeds"] == "1 2 3"


def test_a_folder_without_runs_is_one_line(tmp_path):
    with pytest.raises(ConfigurationError, match="no run below it"):
        leaderboard(tmp_path)
    with pytest.raises(ConfigurationError, match="no such folder"):
        leaderboard(tmp_path / "none")


def test_the_command_writes_page_and_csv(folder, tmp_path, capsys):
    for words in ([], ["--json"]):
        with pytest.raises(SystemExit) as exit_:
            main(["leaderboard", str(folder), "--out", str(tmp_path), *words])
        assert not exit_.value.code
        shown = capsys.readouterr().out
        assert (tmp_path / "leaderboard.html").is_file()
        assert (tmp_path / "leaderboard.csv").is_file()
    assert len(json.loads(shown)["tables"]) == 3
