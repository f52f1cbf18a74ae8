"""onnxruntime against torch: the image module with heads, evidence maps and section evidence.

    python benchmarks/onnx_speed.py --batch-size 1 --rounds 30

Both sides compute the outputs of `image.onnx` from the same random pixels, in turn, on so many threads of
the CPU; the medians are compared. A ratio under 1 means that onnxruntime is the faster.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import onnxruntime
import torch
from language_overhead import interleaved
from recording import record

from mdnet.export.onnx_export import export_onnx
from mdnet.export.onnx_graphs import ImageGraph
from mdnet.models.mdnet import MDNet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default="mdnet_tiny/phantom")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=30, help="of timing, after one that does not count")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    model = MDNet.from_pretrained(options.weights).eval()
    session_options = onnxruntime.SessionOptions()
    session_options.intra_op_num_threads = options.threads
    with tempfile.TemporaryDirectory() as folder:
        export_onnx(model, folder)
        session = onnxruntime.InferenceSession(Path(folder) / "image.onnx", session_options)
    size = model.config.image_size
    pixel_values = torch.randn(options.batch_size, model.config.image_channels, size, size)
    graph = ImageGraph(model)

    @torch.inference_mode()
    def in_torch() -> None:
        graph(pixel_values)

    def in_onnxruntime() -> None:
        session.run(None, {"pixel_values": pixel_values.numpy()})

    sides = {"torch": in_torch, "onnxruntime": in_onnxruntime}
    seconds = interleaved(sides, rounds=options.rounds, clock=time.perf_counter)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    rows = [
        {"side": name, "milliseconds": 1000 * median, "against torch": median / medians["torch"]}
        for name, median in medians.items()
    ]
    record(
        "onnx_speed",
        rows,
        title=f"ONNX: the image module of `{options.weights}`, {size} px, batch {options.batch_size}",
        reading=f"Logits, evidence of all classes and C(I), {options.threads} thread(s) each.",
        peers=("onnx", "onnxruntime"),
        details={"seconds": seconds},
    )


if __name__ == "__main__":
    main()
