"""`mdnet generate` over many images: files that are there, resuming, killed and shared among processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from mdnet.cli.main import main
from mdnet.data.phantom import LABEL_SPACE, make_phantom


def call(*words: object) -> int:
    """Exit code of `mdnet WORDS`."""
    with pytest.raises(SystemExit) as exit_:
        main([str(word) for word in words])
    return int(exit_.value.code or 0)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return make_phantom(
        tmp_path_factory.mktemp("phantom") / "data", 24, seed=3, size=32, workers=1, progress=False
    )


@pytest.fixture(scope="module")
def weights(build_model, draw_batch, let_sections_end, tmp_path_factory) -> Path:
    sections = ("mitosis", "conclusion")
    model = build_model(dtype=torch.float32, label_space=LABEL_SPACE, sections=sections, maximum_words=4)
    let_sections_end(model, draw_batch(4).pixel_values.float())
    folder = tmp_path_factory.mktemp("weights") / "small"
    model.save_pretrained(folder)
    return folder


def test_a_file_that_is_there_stays_and_can_be_gone_on_with(weights, data, tmp_path, capsys):
    out = tmp_path / "r.jsonl"
    words = ["-q", "generate", data, "--weights", weights, "--format", "jsonl", "--out", out]
    assert call(*words, "--resume", "auto") == 0  # nothing is there
    before = out.read_bytes()
    records = [json.loads(line) for line in before.splitlines()]
    assert [record["id"] for record in records] == [f"p{number:05d}" for number in range(24)]
    capsys.readouterr()
    assert call(*words) == 2
    error = capsys.readouterr().err
    assert "add --resume auto to go on, or name another --out" in error
    assert error.count("\n") == 1
    assert call(*words, "--resume", "auto", "--batch-size", 5) == 2
    assert "batch_size: 32 there, 5 here" in capsys.readouterr().err
    assert call(*words, "--resume", "auto") == 0
    assert out.read_bytes() == before


def test_broken_images_are_listed_and_the_exit_code_is_1(weights, data, tmp_path, capsys):
    (tmp_path / "broken.png").write_bytes(b"no image")
    shutil.copy(data / "images" / "p00000.png", tmp_path / "whole.png")
    out = tmp_path / "r.txt"
    words = ["generate", tmp_path, "--weights", weights, "--out", out, "--resume", "auto"]
    for _ in range(2):  # a finished run says it again
        assert call(*words) == 1
        assert "no report for 1 of the studies: " in capsys.readouterr().err
    assert len([line for line in out.read_text().splitlines() if not line.startswith(" ")]) == 1
    (record,) = map(json.loads, (tmp_path / "r.txt.broken.jsonl").read_text().splitlines())
    assert record["source"] == str(tmp_path / "broken.png")


def test_pages_of_studies_with_ids_are_named_by_them(weights, data, tmp_path):
    listed = tmp_path / "list.jsonl"
    listed.write_text(json.dumps({"id": "a/1", "image": str(data / "images" / "p00003.png")}) + "\n")
    out = tmp_path / "pages"
    words = ["-q", "generate", "--weights", weights, "--format", "html", "--out", out]
    assert call(*words, listed, data / "images" / "p00004.png") == 0
    assert sorted(path.name for path in out.iterdir()) == ["a-2f-1.html", "p00004.html"]
    assert "data:image/png" in (out / "a-2f-1.html").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--format", "parquet"], "--format parquet writes no text: name a file with --out"),
        (["--resume", "auto"], "--resume auto goes on with a file: name one with --out"),
        (["--resume", "auto", "--format", "html", "--out", "x"], "--resume auto goes on with a file"),
        (["--resume", "maybe"], "--resume maybe is none of auto, never"),
        (["--workers", "-1"], "--workers -1: give 0 or more"),
        (["--column", "x"], "--column x: write role=name"),
    ],
)
def test_a_wrong_call_is_one_line(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert call("generate", ".", *words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def launched(words: list[str], *, processes: int = 1) -> list[str]:
    command = [sys.executable, "-m"]
    if processes > 1:
        command += ["accelerate.commands.launch", "--multi_gpu", "--num_processes", str(processes)]
        command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
        command += ["--main_process_port", "0", "-m"]
    return [*command, "mdnet.cli.main", "generate", *words, "--device", "cpu"]


@pytest.mark.slow
@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_a_run_killed_again_and_again_ends_as_one_that_was_not(weights, data, tmp_path, format):
    """SIGKILL while it starts, while it writes, and, of two processes, to all of them at once."""
    images = tmp_path / "images"
    images.mkdir()
    for number in range(600):
        os.link(data / "images" / f"p{number % 24:05d}.png", images / f"{number:04d}.png")
    (images / "0100.png").unlink()
    (images / "0100.png").write_bytes(b"no image")
    words = [str(images), "--weights", str(weights), "--format", format, "--batch-size", "4"]
    whole, out = tmp_path / "whole", tmp_path / "killed"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        launched([*words, "--out", str(whole)]), env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1, done.stderr  # of the broken image

    def written() -> int:
        """Batches that are written."""
        return sum(file.read_bytes().count(b"\n") for file in tmp_path.glob("killed.parts/*.progress"))

    kills = []
    for processes, batches in ((1, 0), (1, 20), (2, 50), (1, 90)):
        command = launched([*words, "--out", str(out), "--resume", "auto"], processes=processes)
        running = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        while written() < batches or (batches == 0 and not (tmp_path / "killed.parts").exists()):
            assert running.poll() is None
            time.sleep(0.002)
        os.killpg(running.pid, 9)
        running.wait()
        kills.append(written())
    assert 20 <= kills[1] < kills[2] < kills[3] < 150
    done = subprocess.run(
        launched([*words, "--out", str(out), "--resume", "auto"]), env=environment, capture_output=True
    )
    assert done.returncode == 1
    assert out.read_bytes() == whole.read_bytes()
    ours, theirs = (tmp_path / f"{name}.broken.jsonl" for name in ("killed", "whole"))
    assert ours.read_text() == theirs.read_text()
    assert sorted(path.name for path in tmp_path.glob("killed*")) == [
        "killed",
        "killed.broken.jsonl",
        "killed.card.json",
    ]


@pytest.mark.slow
def test_two_processes_write_what_one_writes(weights, data, tmp_path):
    words = [str(data), "--weights", str(weights), "--format", "jsonl", "--batch-size", "5"]
    for processes in (1, 2):
        done = subprocess.run(
            launched([*words, "--out", str(tmp_path / str(processes))], processes=processes),
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
    assert json.loads((tmp_path / "2.card.json").read_text())["starts"][0]["processes"] == 2


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_what_was_written_is_gone_on_with(weights, data, tmp_path):
    """A limit on the size of a file stands in for a full disk: both fail in the write itself."""
    words = ["generate", str(data), "--weights", str(weights), "--format", "jsonl", "--batch-size", "2"]
    words += ["--device", "cpu", "--resume", "auto", "--out"]
    script = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (16384, 16384))\n"
    script += "from mdnet.cli.main import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", script, *words, str(tmp_path / "r.jsonl")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert "what was written is kept: free some space and add --resume auto" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
    before = (tmp_path / "r.jsonl").read_bytes()
    assert 0 < len(before) <= 16384
    assert before.endswith(b"}\n")
    assert call(*words, tmp_path / "r.jsonl") == 0
    assert call(*words, tmp_path / "whole.jsonl") == 0
    assert (tmp_path / "r.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert (tmp_path / "r.jsonl").read_bytes().startswith(before)
