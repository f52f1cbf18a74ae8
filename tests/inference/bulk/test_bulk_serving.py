"""Runs into a file: stopped at any moment and gone on with, refused where they would mix, joined."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from accelerate import PartialState

from mdnet.errors import ConfigurationError, DataError, MDNetError, MissingExtraError
from mdnet.inference.bulk import output, parts, serving
from mdnet.inference.bulk.card import Card
from mdnet.inference.bulk.output import Output
from mdnet.inference.bulk.parts import PartWriter
from mdnet.inference.bulk.serving import Request, join_processes, serve
from mdnet.inference.decoding_config import DecodingConfig


def ignore(fault) -> None:
    pass


class Killed(BaseException):
    """Stands for a process that is killed."""


@pytest.fixture
def run(predict) -> Callable[..., Card]:
    def start(request: Request, out: Path, **options) -> Card:
        card = serve(request, out, predict, state=join_processes("cpu"), tell=ignore, **options)
        assert card is not None
        return card

    return start


@pytest.fixture
def kill_at(monkeypatch) -> Callable[[int], None]:
    """Ends the process at the nth step that changes a file, before it, in its middle, or after it."""

    def arm(moment: int) -> None:
        done = 0

        def counted(step: Callable, half: Callable | None = None) -> Callable:
            def counting(*arguments, **options):
                nonlocal done
                done += 1
                if done == moment and half is not None:
                    half(*arguments)
                if done == moment:
                    raise Killed
                return step(*arguments, **options)

            return counting

        def half_written(file, content, end, path) -> None:
            file.seek(end)
            file.write(content[: len(content) // 2])

        monkeypatch.setattr(parts, "_write", counted(WRITE, half_written))
        monkeypatch.setattr(Path, "replace", counted(REPLACE))
        monkeypatch.setattr(Path, "unlink", counted(UNLINK))
        monkeypatch.setattr(Path, "mkdir", counted(MKDIR))
        monkeypatch.setattr(shutil, "rmtree", counted(RMTREE))

    return arm


WRITE, REPLACE, UNLINK, MKDIR = parts._write, Path.replace, Path.unlink, Path.mkdir
RMTREE = shutil.rmtree


def beside(out: Path) -> set[str]:
    return {path.name for path in out.parent.iterdir()}


@pytest.mark.parametrize("format", ["text", "jsonl", "parquet"])
def test_a_run_holds_every_study_in_order_and_lists_the_broken(
    make_request, predict, folder, tmp_path, format
):
    out, told = tmp_path / "r", []
    card = serve(make_request(format=format), out, predict, state=join_processes("cpu"), tell=told.append)
    assert card is not None
    assert card.finished == {"reports": 10, "broken": 1}
    assert [fault.where for fault in told] == [str(folder / "04.png")]
    assert Card.load(tmp_path / "r.card.json") == card
    (broken,) = (tmp_path / "r.broken.jsonl").read_text().splitlines()
    assert json.loads(broken)["source"] == str(folder / "04.png")
    assert "not an image" in json.loads(broken)["error"]
    names = [str(folder / f"{number:02d}.png") for number in range(11) if number != 4]
    if format == "parquet":
        from pyarrow.parquet import read_table

        assert read_table(out)["source"].to_pylist() == names
    elif format == "jsonl":
        records = [json.loads(line) for line in out.read_text().splitlines()]
        assert [record["image"] for record in records] == names
        assert [record["id"] for record in records] == names
    else:
        heads = [line for line in out.read_text().splitlines() if not line.startswith(" ")]
        assert [head.partition(": ")[0] for head in heads] == names
    assert beside(out) == {"r", "r.card.json", "r.broken.jsonl"}


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_stopped_at_any_moment_it_goes_on_to_the_same_bytes(make_request, run, kill_at, tmp_path, format):
    request = make_request(format=format)
    whole = tmp_path / "whole"
    run(request, whole)
    for moment in range(1, 100):
        out = tmp_path / str(moment) / "r"
        kill_at(moment)
        try:
            run(request, out)
            ended = True
        except Killed:
            ended = False
            kill_at(moment % 7)  # and a second time, soon
            with suppress(Killed):
                run(request, out, resume=True)
        kill_at(0)
        card = run(request, out, resume=True)
        assert out.read_bytes() == whole.read_bytes(), moment
        assert card.finished == {"reports": 10, "broken": 1}
        assert beside(out) == {"r", "r.card.json", "r.broken.jsonl"}
        if ended:
            break
    assert moment > 15  # there were that many steps, and the last one was passed


def test_draws_do_not_depend_on_where_a_run_was_stopped(make_request, run, kill_at, tmp_path):
    for seed in (5, None):
        request = make_request(decoding=DecodingConfig(method="sample", temperature=3.0, seed=seed))
        run(request, tmp_path / f"{seed}-a")
        kill_at(11)
        with pytest.raises(Killed):
            run(request, tmp_path / f"{seed}-b")
        kill_at(0)
        begun = Card.load(tmp_path / f"{seed}-b.card.json")
        if seed is None:  # one was drawn; the run goes on with that
            assert begun.seed is not None
            request = make_request(decoding=DecodingConfig(method="sample", temperature=3.0))
        card = run(request, tmp_path / f"{seed}-b", resume=True)
        assert card.seed == begun.seed
        texts = [(tmp_path / f"{seed}-{run}").read_text() for run in "ab"]
        assert (texts[0] == texts[1]) is (seed is not None)
        lines = [json.loads(line)["report"] for line in texts[1].splitlines()]
        assert len(set(lines)) > 5


def test_a_finished_file_is_left_alone(make_request, run, tmp_path):
    out = tmp_path / "r.jsonl"
    run(make_request(), out)
    before = out.read_bytes()
    with pytest.raises(ConfigurationError, match=r"add --resume auto to go on, or name another --out"):
        run(make_request(), out)
    out.write_bytes(before + b"mine\n")
    assert run(make_request(), out, resume=True).finished == {"reports": 10, "broken": 1}
    assert out.read_bytes() == before + b"mine\n"


def test_a_file_of_somebody_else_is_left_alone(make_request, run, tmp_path):
    out = tmp_path / "r.jsonl"
    out.write_text("mine")
    for resume in (False, True):
        with pytest.raises(ConfigurationError, match=r"without a r.jsonl.card.json nothing to go on with"):
            run(make_request(), out, resume=resume)
    assert out.read_text() == "mine"


def test_a_run_goes_on_with_its_own_settings_alone(
    make_request, run, kill_at, weights, folder, tmp_path, monkeypatch
):
    out = tmp_path / "r.jsonl"
    kill_at(12)
    with pytest.raises(Killed):
        run(make_request(), out)
    kill_at(0)
    assert Output(out, "jsonl").written()
    other = shutil.copytree(weights, tmp_path / "other")
    changes: list[tuple[dict, str]] = [
        ({"batch_size": 4}, "batch_size: 3 there, 4 here"),
        ({"decoding": DecodingConfig(method="beam", beams=2)}, "decoding.beams: 1 there, 2 here"),
        ({"weights": str(other)}, "weights: .*small there, .*other here"),
        ({"inputs": (str(folder / "00.png"),)}, "inputs: "),
        ({"abstain_below": 0.5}, "abstain_below: None there, 0.5 here"),
        ({"format": "text"}, "format: jsonl there, text here"),
    ]
    for changed, message in changes:
        with pytest.raises(ConfigurationError, match=message) as caught:
            run(make_request(**changed), out, resume=True)
        assert "\n" not in str(caught.value)
    with monkeypatch.context() as patch:  # relative paths would be others
        patch.chdir(folder)
        with pytest.raises(ConfigurationError, match=f"folder: .* there, {folder} here"):
            run(make_request(), out, resume=True)
    assert run(make_request(), out, resume=True).finished is not None


def test_weights_that_were_changed_in_their_place_are_other_weights(
    make_request, run, kill_at, weights, tmp_path
):
    copy = shutil.copytree(weights, tmp_path / "copy")
    out = tmp_path / "r.jsonl"
    kill_at(12)
    with pytest.raises(Killed):
        run(make_request(weights=str(copy)), out)
    kill_at(0)
    (copy / "preprocessor_config.json").write_text("{}")
    with pytest.raises(ConfigurationError, match="weights_sha256: "):
        run(make_request(weights=str(copy)), out, resume=True)


def test_a_run_of_which_nothing_is_written_begins_anew(make_request, run, tmp_path):
    out = tmp_path / "r.jsonl"
    refused = ConfigurationError("constrained decoding has no reader")

    def predict(decoding):
        raise refused

    with pytest.raises(ConfigurationError, match="no reader"):
        serve(make_request(), out, predict, state=join_processes("cpu"), tell=ignore)
    assert run(make_request(abstain_below=0.5), out).finished == {"reports": 10, "broken": 1}


def test_the_list_of_studies_is_that_of_the_beginning(
    make_request, run, kill_at, folder, draw_image, tmp_path
):
    tiles = shutil.copytree(folder, tmp_path / "tiles")
    out = tmp_path / "r.jsonl"
    kill_at(12)
    with pytest.raises(Killed):
        run(make_request(inputs=(str(tiles),)), out)
    kill_at(0)
    draw_image(tiles / "00a.png", 50)
    (tiles / "10.png").unlink()
    card = run(make_request(inputs=(str(tiles),)), out, resume=True)
    assert card.finished == {"reports": 9, "broken": 2}
    assert "00a.png" not in out.read_text()
    assert "no such file" in (tmp_path / "r.jsonl.broken.jsonl").read_text()


class Two:
    """Stands for one of two processes, which are run one after the other."""

    def __init__(self, index: int) -> None:
        self.process_index, self.num_processes, self.is_main_process = index, 2, index == 0
        self.device = PartialState().device


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_parts_of_several_processes_are_joined_in_the_order_of_the_studies(
    make_request, run, predict, tmp_path, monkeypatch, format
):
    request = make_request(format=format)
    run(request, tmp_path / "whole")
    out = tmp_path / "r"
    main, told = Two(0), []

    def broadcast(shared: list) -> None:
        if not told:
            told.extend(shared)
        shared[:] = told

    def other_process() -> None:  # the main process waits until it is done
        other = Two(1)
        other.wait_for_everyone = lambda: None
        assert serve(request, out, predict, state=other, tell=ignore) is None

    main.wait_for_everyone = other_process
    monkeypatch.setattr(serving, "broadcast_object_list", broadcast)
    card = serve(request, out, predict, state=main, tell=ignore)
    assert card is not None
    assert card.finished == {"reports": 10, "broken": 1}
    assert out.read_bytes() == (tmp_path / "whole").read_bytes()
    assert beside(out) == {
        "whole",
        "r",
        *(f"{n}.{e}" for n in ("r", "whole") for e in ("card.json", "broken.jsonl")),
    }


def test_a_run_of_several_processes_goes_on_in_one_and_the_other_way_round(
    make_request, predict, run, tmp_path
):
    run(make_request(), tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    for alone_first in (True, False):
        out = tmp_path / f"r{alone_first}"
        files = Output(out, "jsonl")
        run(make_request(), out)
        lines = out.read_bytes().splitlines(keepends=True)
        card = Card.load(files.card)
        out.unlink()
        files.begin(Card(card.settings, 11, None, card.starts), serving.list_inputs(card.settings["inputs"]))
        # what was left of an earlier run: its batches 0 and 2 of 4
        part = files.part(0, processes=1 if alone_first else 2)
        with PartWriter(part) as writer:
            for number, (start, end) in {0: (0, 3), 2: (5, 8)}.items():
                text = b"".join(lines[start:end]).decode()
                writer.write(number, text, findings=end - start, unreadable=())
        if alone_first:  # two processes go on: the file itself is one part of three
            with PartWriter(files.part(0, processes=2)):
                pass
        card = run(make_request(), out, resume=True)
        assert card.finished == {"reports": 10, "broken": 1}
        assert out.read_bytes() == whole


def test_a_batch_that_is_missing_at_the_end_is_told(make_request, predict, tmp_path, monkeypatch):
    out = tmp_path / "r.jsonl"
    main = Two(0)
    main.wait_for_everyone = lambda: None  # the other process has died
    monkeypatch.setattr(serving, "broadcast_object_list", lambda shared: None)
    with pytest.raises(DataError, match="2 of 4 batches are not whole; add --resume auto"):
        serve(make_request(), out, predict, state=main, tell=ignore)
    assert (
        serve(make_request(), out, predict, state=join_processes("cpu"), tell=ignore, resume=True) is not None
    )


def test_processes_that_do_not_know_of_each_other_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "false")
    with pytest.raises(ConfigurationError, match=r"2 processes were launched, .* add --device cpu"):
        join_processes()


def test_a_full_disk_at_the_end_loses_nothing(make_request, run, tmp_path, monkeypatch):
    def full(texts, file, **options):
        raise OSError(28, "No space left on device")

    out = tmp_path / "r"
    request = make_request(format="parquet")
    with monkeypatch.context() as patch:
        patch.setattr(serving, "write_parquet", full)
        with pytest.raises(OSError, match="No space left on device; what was written is kept: free"):
            run(request, out)
    assert not out.exists()
    assert len(Output(out, "parquet").written()) == 4
    monkeypatch.setattr(serving, "answer", lambda *_, **__: [])  # nothing is computed again
    run(request, out, resume=True)
    assert out.exists()


def test_parquet_without_its_package_says_how_to_get_it(make_request, run, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'mdnet\[parquet\]'"):
        run(make_request(format="parquet"), tmp_path / "r.parquet")
    assert issubclass(MissingExtraError, MDNetError)
    assert output.Output(tmp_path / "r.parquet", "parquet").earlier(resume=False) is None
