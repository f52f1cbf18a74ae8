"""What a feature store holds: against the model itself, over additions, removals, kills and other weights."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mdnet.errors import ConfigurationError, DataError, WeightsError
from mdnet.inference.predictor import Predictor
from mdnet.inference.retrieval import store as store_module
from mdnet.inference.retrieval import store_files
from mdnet.inference.retrieval.store import FeatureStore
from mdnet.inference.retrieval.store_files import StoreFiles


@pytest.fixture
def predictor(build_model) -> Predictor:
    return Predictor(build_model(dtype=torch.float32), name="small", device="cpu", batch_size=2)


@pytest.fixture
def images(tmp_path) -> list[Path]:
    return [draw_image(tmp_path / f"image{number}.png", number) for number in range(5)]


def draw_image(path: Path, seed: int) -> Path:
    random = np.random.default_rng(seed)
    Image.fromarray(random.integers(0, 256, (32, 32, 3), np.uint8)).save(path)
    return path


def build(folder: Path, predictor: Predictor, sources, **options) -> FeatureStore:
    return FeatureStore.build(folder, predictor, sources, broken=options.pop("broken", []))


def assert_holds(store: FeatureStore, predictor: Predictor, images: list[Path]) -> None:
    """The store has the features of these images, in any order."""
    assert sorted(store.sources) == sorted(map(str, images))
    rows = np.array([store.sources.index(str(path)) for path in images])
    with torch.inference_mode():
        expected = predictor.model.encode(predictor.strips([predictor.decoded(path) for path in images])[0])
        logits, _ = predictor.model.heads(expected)
    found = store.features(rows)
    torch.testing.assert_close(found.grid, expected.grid, rtol=2**-11, atol=1e-6)  # of half precision
    assert (found.rows, found.columns) == (expected.rows, expected.columns)
    np.testing.assert_allclose(store.pooled[rows], expected.pooled(), rtol=1e-5, atol=1e-6)
    assert list(store.logits(rows)) == list(logits)
    for name, scores in store.logits(rows).items():
        torch.testing.assert_close(scores, logits[name], rtol=1e-4, atol=1e-5)


def test_a_store_holds_what_the_model_computes_and_opens_again(tmp_path, predictor, images):
    assert_holds(build(tmp_path / "store", predictor, images), predictor, images)
    again = FeatureStore.open(tmp_path / "store", model=predictor.model)
    assert_holds(again, predictor, images)
    assert again.features(slice(1, 3)).grid.shape[0] == len(again.logits(slice(1, 3))["mitosis"]) == 2


def test_only_new_and_changed_images_are_encoded_and_those_gone_leave(
    tmp_path, predictor, images, monkeypatch
):
    old = build(tmp_path / "store", predictor, images[:3])
    before = old.pooled.copy()
    draw_image(images[1], 99)
    images[0].unlink()
    encoded = []
    monkeypatch.setattr(
        predictor.model, "encode", lambda pixels, *rest, of=predictor.model.encode: (
            encoded.append(len(pixels)) or of(pixels, *rest)
        )
    )  # fmt: skip
    store = build(tmp_path / "store", predictor, images[1:])
    assert sum(encoded) == 3  # the changed one and two new ones
    assert_holds(store, predictor, images[1:])
    np.testing.assert_array_equal(old.pooled, before)  # those who read are not disturbed
    assert len(list((tmp_path / "store").glob("rows-*"))) == 1


def test_a_killed_build_goes_on_where_it_stopped(tmp_path, predictor, images, monkeypatch):
    add, calls = store_module._add, []

    def killed(*arguments):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(1)
        return add(*arguments)

    monkeypatch.setattr(store_module, "_add", killed)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "store", predictor, images)
    monkeypatch.undo()
    # A kill in the middle of a batch leaves rows without a line, or a line that is broken off.
    rows = tmp_path / "store" / "rows-0"
    (tmp_path / "store" / "rows-1").mkdir()
    with (rows / "grids.float16").open("ab") as file:
        file.write(b"half a row")
    with (rows / "sources.jsonl").open("a") as file:
        file.write('{"source": "ima')
    assert len(FeatureStore.open(tmp_path / "store", model=predictor.model)) == 4
    assert_holds(build(tmp_path / "store", predictor, images), predictor, images)
    assert len(StoreFiles(tmp_path / "store").kept) == 5
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == ["card.json", "rows-0"]


def test_lines_without_their_rows_do_not_count(tmp_path, predictor, images):
    build(tmp_path / "store", predictor, images)
    file = tmp_path / "store" / "rows-0" / "logits.float32"
    os.truncate(file, file.stat().st_size - 1)
    assert len(FeatureStore.open(tmp_path / "store", model=predictor.model)) == 4
    assert_holds(build(tmp_path / "store", predictor, images), predictor, images)


def test_broken_images_are_listed_and_passed_over(tmp_path, predictor, images):
    images[1].write_bytes(b"no image")
    broken: list[str] = []
    missing = tmp_path / "missing.png"
    store = build(tmp_path / "store", predictor, [*images, images[0], missing], broken=broken)
    assert len(broken) == 2
    assert str(missing) in broken[0]
    assert str(images[1]) in broken[1]
    assert_holds(store, predictor, [images[0], *images[2:]])
    with pytest.raises(ConfigurationError, match="at least one that can be read"):
        build(tmp_path / "none", predictor, [images[1]])


def test_studies_of_fewer_views_keep_what_is_missing(tmp_path, build_model, images):
    predictor = Predictor(build_model(views=2, dtype=torch.float32), device="cpu")
    store = build(tmp_path / "store", predictor, [images[:2], [images[2]]])
    pictures = [[*predictor.decoded(images[:2])], [*predictor.decoded([images[2]])]]
    with torch.inference_mode():
        expected = predictor.model.encode(*predictor.strips(pictures))
    found = store.features(slice(None))
    assert found.present.tolist() == [[True, True], [True, False]]
    torch.testing.assert_close(found.there, expected.there)
    torch.testing.assert_close(found.grid, expected.grid, rtol=2**-11, atol=1e-6)
    torch.testing.assert_close(found.pooled(), expected.pooled(), rtol=1e-3, atol=1e-5)
    assert store.features(slice(0, 1)).present is None


def test_features_of_other_weights_or_preprocessing_are_refused(tmp_path, predictor, images, build_model):
    build(tmp_path / "store", predictor, images[:1])
    other = Predictor(build_model(dtype=torch.float32, seed=1), device="cpu")
    for attempt in (
        lambda: FeatureStore.open(tmp_path / "store", model=other.model),
        lambda: build(tmp_path / "store", other, images),
    ):
        with pytest.raises(WeightsError, match="other weights \\(small\\)"):
            attempt()
    same = build_model(dtype=torch.float32)
    same.preprocessing = type(same.preprocessing)(32, "RGB", (0.5,) * 3, (0.2,) * 3)
    with pytest.raises(WeightsError, match="preprocessed in another way"):
        FeatureStore.open(tmp_path / "store", model=same)
    with torch.no_grad():
        next(predictor.model.report.parameters()).add_(1.0)  # which has no part in the features
    assert len(FeatureStore.open(tmp_path / "store", model=predictor.model)) == 1


def test_no_store_and_another_format_say_what_to_do(tmp_path, predictor, images):
    with pytest.raises(ConfigurationError, match="no feature store"):
        FeatureStore.open(tmp_path / "store", model=predictor.model)
    build(tmp_path / "store", predictor, images[:1])
    card = tmp_path / "store" / "card.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"format": 9}))
    with pytest.raises(ValueError, match="format 9, not 1"):
        FeatureStore.open(tmp_path / "store", model=predictor.model)


def test_two_builds_of_one_store_do_not_mix(tmp_path, predictor, images):
    with (
        StoreFiles.writing(tmp_path / "store"),
        pytest.raises(ConfigurationError, match="another process"),
    ):
        build(tmp_path / "store", predictor, images)


def test_a_store_that_has_all_images_is_neither_locked_nor_written(tmp_path, predictor, images, monkeypatch):
    build(tmp_path / "store", predictor, images)
    with StoreFiles.writing(tmp_path / "store"):  # as another process does
        assert_holds(build(tmp_path / "store", predictor, images), predictor, images)
        with pytest.raises(ConfigurationError, match="another process"):
            build(tmp_path / "store", predictor, images[1:])
    monkeypatch.setattr(StoreFiles, "keep", lambda *_: pytest.fail("written"))
    build(tmp_path / "store", predictor, images)


def test_where_features_are_and_how_large_is_said_when_they_grow(tmp_path, predictor, caplog):
    many = [draw_image(tmp_path / f"further{number}.png", number) for number in range(20)]
    with caplog.at_level("INFO", "mdnet"):
        store = build(tmp_path / "store", predictor, many)
        size = sum(file.stat().st_size for file in store.rows_folder.iterdir())
        build(tmp_path / "store", predictor, many)  # nothing is new
        build(tmp_path / "store", predictor, many[1:])
    assert caplog.messages == [f"{tmp_path / 'store'}: keeps the features of 20 studies, {size / 1e6:.2f} MB"]
    assert size > 1e4  # that is no 0.00


def test_a_folder_of_other_things_is_left_alone(tmp_path, predictor, images):
    folder = tmp_path / "project"
    for name in ("rows-0/mine.txt", "rows-1/mine.txt", "card.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text('{"license": "mine"}')
    before = sorted(folder.rglob("*"))
    with pytest.raises(ConfigurationError, match="project: holds other files than features"):
        build(folder, predictor, images)
    assert sorted(folder.rglob("*")) == before
    with pytest.raises(ConfigurationError, match="no feature store"):
        FeatureStore.open(folder, model=predictor.model)


def test_what_a_process_left_that_was_killed_before_the_card_is_taken_over(
    tmp_path, predictor, images, monkeypatch
):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(store_files, "_name_rows", killed)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "store", predictor, images)
    monkeypatch.undo()
    assert_holds(build(tmp_path / "store", predictor, images), predictor, images)


@pytest.mark.parametrize(
    "damage",
    [
        lambda rows: shutil.rmtree(rows),
        lambda rows: (rows / "grids.float16").unlink(),
        lambda rows: (rows / "sources.jsonl").write_text("{}\n"),
        lambda rows: (rows / "sources.jsonl").write_bytes(b"\0\n"),
    ],
)
def test_a_damaged_store_is_said_to_be_one(tmp_path, predictor, images, damage):
    build(tmp_path / "store", predictor, images[:1])
    damage(tmp_path / "store" / "rows-0")
    for attempt in (
        lambda: FeatureStore.open(tmp_path / "store", model=predictor.model),
        lambda: build(tmp_path / "store", predictor, images),
    ):
        with pytest.raises(DataError, match=r"cannot be read .*remove this one to have it made anew"):
            attempt()


def test_a_full_disk_is_named_and_costs_no_row(tmp_path, predictor, images, monkeypatch):
    build(tmp_path / "store", predictor, images[:2])
    fsync = os.fsync

    def full(descriptor):
        fsync(descriptor)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store_files.os, "fsync", full)
    with pytest.raises(OSError, match="free some space or name another folder") as error:
        build(tmp_path / "store", predictor, images)
    assert error.value.filename == str(tmp_path / "store")
    monkeypatch.undo()
    assert len(FeatureStore.open(tmp_path / "store", model=predictor.model)) == 2
    assert_holds(build(tmp_path / "store", predictor, images), predictor, images)


def test_rows_are_on_the_disk_before_they_count(tmp_path, predictor, images, monkeypatch):
    """All of a store is flushed, for what a power cut loses must not be what the card or a line names."""
    flushed: set[int] = set()
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda each: (flushed.add(os.fstat(each).st_ino), fsync(each)))
    for wanted in (images, images[1:]):  # appended, and copied
        rows = build(tmp_path / "store", predictor, wanted).rows_folder
        assert {file.stat().st_ino for file in rows.iterdir()} <= flushed


def test_a_store_whose_images_all_broke_has_none_to_search(tmp_path, predictor, images):
    build(tmp_path / "store", predictor, images[:1])
    images[0].write_bytes(b"no image")
    with pytest.raises(ConfigurationError, match=r"at least one that can be read \(.*image0.png"):
        build(tmp_path / "store", predictor, images[:1])
    draw_image(images[0], 7)
    assert_holds(build(tmp_path / "store", predictor, images[:1]), predictor, images[:1])


def test_activations_beyond_half_precision_stay_numbers(tmp_path, predictor, images):
    with torch.no_grad():
        predictor.model.image.activations[0][0].weight.mul_(1e6)
    grid = build(tmp_path / "store", predictor, images[:2]).features(slice(None)).grid
    assert grid.isfinite().all()
    assert grid.max() == torch.finfo(torch.float16).max
