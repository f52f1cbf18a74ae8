"""An exported folder at work without mdnet and PyTorch: onnxruntime, NumPy, Pillow and the manifest only.

Written as somebody would who has the folder and nothing else, and so a recipe to copy.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image


class OnnxRunner:
    """Runs `image.onnx` and `step.onnx` of a folder."""

    def __init__(self, folder: Path) -> None:
        self.manifest: dict[str, Any] = json.loads((folder / "onnx.json").read_text(encoding="utf-8"))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.sessions = {
            name: onnxruntime.InferenceSession(folder / graph["file"], options)
            for name, graph in self.manifest["graphs"].items()
        }
        if (folder / "tokenizer.json").is_file():
            vocabulary = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
            self.words = {number: word for word, number in vocabulary.items()}

    def run(self, graph: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The graph's outputs by name; it is given those of `inputs` that it takes."""
        taken = {value["name"]: inputs[value["name"]] for value in self.manifest["graphs"][graph]["inputs"]}
        names = [value["name"] for value in self.manifest["graphs"][graph]["outputs"]]
        return dict(zip(names, self.sessions[graph].run(names, taken), strict=True))

    def pixel_values(self, pictures: list[Image.Image]) -> np.ndarray:
        """(B, channels, rows, columns) float32."""
        how = self.manifest["preprocessing"]
        size = (how["size"], how["size"])
        resized = [p.convert(how["mode"]).resize(size, Image.Resampling.BILINEAR) for p in pictures]
        values = np.stack([np.asarray(picture, np.float32) for picture in resized]) / 255.0
        normalised = (values.reshape(len(pictures), *size, -1) - np.float32(how["mean"])) / np.float32(
            how["std"]
        )
        return normalised.transpose(0, 3, 1, 2)

    def decode(self, image: dict[str, np.ndarray]) -> np.ndarray:
        """Greedily: token ids (B, S, T), padding behind the end token."""
        how = self.manifest["decoding"]
        begin = [section["begin_id"] for section in how["sections"]]
        words = np.tile(np.int64(begin), (len(image["grid"]), 1))
        state = self.first_state(image, words.shape)
        closed = image.get("closed", np.zeros(words.shape, bool))
        finished = np.zeros(words.shape, bool)
        written = []
        for _ in range(how["maximum_words"]):
            step = self.run("step", image | state | {"words": words})
            step["log_probabilities"][:, :, how["never_written"]] = -np.inf
            words = np.where(closed, how["end_id"], step["log_probabilities"].argmax(axis=-1))
            words = np.where(finished, how["pad_id"], words)
            state = {name: step[f"next_{name}"] for name in how["state"]}
            written.append(words)
            finished |= words == how["end_id"]
            if finished.all():
                break
        return np.stack(written, axis=-1)

    def first_state(self, image: dict[str, np.ndarray], shape: tuple[int, ...]) -> dict[str, np.ndarray]:
        """The state before the first word, by name."""
        how = self.manifest["decoding"]
        if isinstance(how["first_state"], dict):
            return {name: image[output] for name, output in how["first_state"].items()}
        widths = {value["name"]: value["shape"][-1] for value in self.manifest["graphs"]["step"]["inputs"]}
        return {
            name: np.full((*shape, widths[name]), how["first_state"], np.float32) for name in how["state"]
        }

    def text(self, tokens: np.ndarray) -> str:
        """Words of one section (T,), with spaces between."""
        how = self.manifest["decoding"]
        return " ".join(self.words[int(t)] for t in tokens if t not in (how["end_id"], how["pad_id"]))
