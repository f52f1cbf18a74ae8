"""The image cache: the same arrays as without it, whoever fills it, whatever happens to its files."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle  # how a cache reaches loader processes; no file of ours is a pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from study_folders import write_image

from mdnet.data import cache as module
from mdnet.data.cache import ImageCache, cache_folder, load_array
from mdnet.data.preprocessing import Preprocessing
from mdnet.errors import ImageError

SIZE = Preprocessing(8)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MDNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "_SETTLED", 0)  # files of a test were written just now


@pytest.fixture
def paths(tmp_path) -> list[Path]:
    return [write_image(tmp_path / f"data/{number}.png", seed=number) for number in range(6)]


def make(tmp_path: Path, preprocessing: Preprocessing = SIZE, **options) -> ImageCache:
    return ImageCache(tmp_path / "data", preprocessing, images=6, **options)


def forbid_decoding(monkeypatch) -> None:
    def refuse(path, preprocessing):
        raise AssertionError(f"{path} is decoded")

    monkeypatch.setattr(module, "load_array", refuse)


def test_arrays_are_those_without_a_cache_and_are_decoded_once(tmp_path, paths, monkeypatch):
    expected = [load_array(path, SIZE) for path in paths]
    cache = make(tmp_path)
    for path, array in zip(paths, expected, strict=True):
        np.testing.assert_array_equal(cache.load(path), array)
    forbid_decoding(monkeypatch)
    for again in (cache, make(tmp_path), pickle.loads(pickle.dumps(cache))):  # noqa: S301
        for path, array in zip(reversed(paths), reversed(expected), strict=True):
            np.testing.assert_array_equal(again.load(path), array)


def test_a_moved_file_is_known_by_its_content_and_a_changed_one_is_not(tmp_path, paths, monkeypatch):
    first = make(tmp_path).load(paths[0])
    moved = paths[0].rename(tmp_path / "data/moved.png")
    with monkeypatch.context() as patch:
        forbid_decoding(patch)
        np.testing.assert_array_equal(make(tmp_path).load(moved), first)
    times = moved.stat()
    content = paths[1].read_bytes()
    moved.write_bytes(content)
    os.utime(moved, ns=(times.st_atime_ns, times.st_mtime_ns))
    np.testing.assert_array_equal(make(tmp_path).load(moved), load_array(paths[1], SIZE))


def test_what_comes_before_normalisation_makes_a_set_of_its_own(tmp_path):
    folder = make(tmp_path).folder
    assert make(tmp_path, Preprocessing(8, mean=(0.1, 0.2, 0.3))).folder == folder
    others = [Preprocessing(16), Preprocessing((8, 9)), Preprocessing(8, "L", (0.5,), (0.5,))]
    assert len({make(tmp_path, other).folder for other in others} | {folder}) == 4
    assert ImageCache(tmp_path / "other", SIZE, images=1).folder != folder


def test_a_file_changed_just_now_is_known_by_its_content_alone(tmp_path, paths, monkeypatch):
    monkeypatch.setattr(module, "_SETTLED", 3600 * 10**9)
    cache = make(tmp_path)
    first = cache.load(paths[0])
    assert (cache.folder / "index").stat().st_size == 32
    np.testing.assert_array_equal(cache.load(paths[0]), first)


@pytest.mark.parametrize("settled", [0, 3600 * 10**9])
def test_a_file_changed_while_it_is_decoded_is_not_kept(tmp_path, paths, monkeypatch, settled):
    monkeypatch.setattr(module, "_SETTLED", settled)
    before, after = paths[0].read_bytes(), paths[1].read_bytes()

    def late(path, preprocessing):
        path.write_bytes(after)
        return load_array(path, preprocessing)

    with monkeypatch.context() as patch:
        patch.setattr(module, "load_array", late)
        make(tmp_path).load(paths[0])
    paths[0].write_bytes(before)
    np.testing.assert_array_equal(make(tmp_path).load(paths[0]), load_array(paths[0], SIZE))


def test_a_file_that_cannot_be_decoded_is_an_error_every_time(tmp_path, paths):
    cache = make(tmp_path)
    paths[0].write_bytes(b"no picture")
    for path in (paths[0], paths[0], tmp_path / "absent.png", tmp_path):
        with pytest.raises(ImageError):
            cache.load(path)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_damaged_cache_never_gives_another_array(tmp_path_factory, data):
    tmp_path = tmp_path_factory.mktemp("damage")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MDNET_CACHE", str(tmp_path / "cache"))
        patch.setattr(module, "_SETTLED", 0)
        paths = [write_image(tmp_path / f"data/{number}.png", seed=number) for number in range(3)]
        expected = [load_array(path, SIZE) for path in paths]
        cache = make(tmp_path)
        for path in paths:
            cache.load(path)
        for name in ("images", "index"):
            file = cache.folder / name
            content = bytearray(file.read_bytes())
            if data.draw(st.booleans()):
                content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
            file.write_bytes(content[: data.draw(st.integers(0, len(content)))])
        for again in (cache, make(tmp_path), make(tmp_path)):
            for path, array in zip(paths, expected, strict=True):
                np.testing.assert_array_equal(again.load(path), array)


def fill(data: Path, paths: list[Path], order: list[int], gate, results) -> None:
    cache = ImageCache(data, SIZE, images=len(paths))
    gate.wait()
    results.put([bool(np.array_equal(cache.load(paths[i]), load_array(paths[i], SIZE))) for i in order * 2])


def test_processes_that_fill_one_cache_at_once_get_right_arrays(tmp_path):
    paths = [write_image(tmp_path / f"data/{number}.png", seed=number) for number in range(40)]
    context = multiprocessing.get_context("fork")
    gate, results = context.Barrier(3), context.SimpleQueue()
    random = np.random.default_rng(0)
    orders = [random.permutation(len(paths)).tolist() for _ in range(3)]
    arguments = [(tmp_path / "data", paths, order, gate, results) for order in orders]
    processes = [context.Process(target=fill, args=each) for each in arguments]
    for process in processes:
        process.start()
    assert all(all(results.get()) for _ in processes)
    for process in processes:
        process.join()
        assert process.exitcode == 0
    cache = ImageCache(tmp_path / "data", SIZE, images=len(paths))
    for path in paths:
        np.testing.assert_array_equal(cache.load(path), load_array(path, SIZE))


def test_what_one_process_adds_another_finds_after_a_while(tmp_path, paths, monkeypatch):
    one, other = make(tmp_path), make(tmp_path)
    other.load(paths[1])
    expected = one.load(paths[0])
    forbid_decoding(monkeypatch)
    monkeypatch.setattr(module, "_PATIENCE", 0.0)
    np.testing.assert_array_equal(other.load(paths[0]), expected)


@pytest.mark.parametrize("cause", ["limit", "reserve", "full disk", "no folder"])
def test_without_room_images_are_decoded_and_one_line_says_so(tmp_path, paths, monkeypatch, caplog, cause):
    if cause == "limit":
        monkeypatch.setattr(module, "LIMIT", 2 * 3 * 8 * 8)
    elif cause == "reserve":
        monkeypatch.setattr(module, "RESERVE", 1 << 62)
    elif cause == "no folder":
        (tmp_path / "cache").write_text("a file")
    cache = make(tmp_path)
    if cause == "full disk":
        write = os.write
        monkeypatch.setattr(module.os, "write", lambda file, content: write(file, bytes(content)[:7]))
    with caplog.at_level(logging.WARNING):
        for path in paths * 2:
            np.testing.assert_array_equal(cache.load(path), load_array(path, SIZE))
    assert len(caplog.records) == 1
    assert "MDNET_CACHE" in caplog.text
    if cause == "limit":
        assert (cache.folder / "images").stat().st_size == 2 * 3 * 8 * 8
    if cause == "full disk":  # afterwards there is room again
        monkeypatch.undo()
        monkeypatch.setenv("MDNET_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(module, "_SETTLED", 0)
        for again in (make(tmp_path), make(tmp_path)):
            for path in paths:
                np.testing.assert_array_equal(again.load(path), load_array(path, SIZE))
        forbid_decoding(monkeypatch)
        make(tmp_path).load(paths[0])


def test_the_sets_not_used_for_longest_make_room(tmp_path, paths, monkeypatch):
    bystander = cache_folder() / "notes-2026"
    bystander.mkdir(parents=True)
    (cache_folder() / f"{0:016x}-{0:08x}").mkdir()  # a set that a killed process had only begun
    sets = []
    for number, name in enumerate(("oldest", "older", "data")):
        cache = ImageCache(tmp_path / name, SIZE, images=6)
        cache.load(paths[0])
        os.utime(cache.folder, (number, number))
        sets.append(cache.folder)
    monkeypatch.setattr(module, "LIMIT", 1000)  # two sets of one image of 192 bytes, and three images to come
    ImageCache(tmp_path / "new", SIZE, images=3)
    assert [folder.exists() for folder in sets] == [False, False, True]
    assert bystander.exists()


def test_files_emptied_while_they_are_mapped_are_noticed(tmp_path, paths):
    make(tmp_path).load(paths[0])
    cache = make(tmp_path)
    expected = cache.load(paths[0]).copy()
    for name in ("images", "index"):
        os.truncate(cache.folder / name, 0)
    np.testing.assert_array_equal(cache.load(paths[0]), expected)


def test_names_of_files_are_not_in_the_cache(tmp_path):
    path = write_image(tmp_path / "data/Jane Doe.png")
    cache = make(tmp_path)
    cache.load(path)
    assert (cache.folder.stat().st_mode & 0o777) == 0o700
    for file in cache_folder().rglob("*"):
        assert "Doe" not in file.name
        assert not file.is_file() or b"Doe" not in file.read_bytes()
