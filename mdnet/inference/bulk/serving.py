"""Reports of any number of studies into one file: by one process or several, and on from where it stopped."""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list, parse_flag_from_env
from tqdm import tqdm

from mdnet.data.readers.options import ReaderOptions
from mdnet.data.study import Fault
from mdnet.errors import ConfigurationError
from mdnet.inference.bulk.answering import answer
from mdnet.inference.bulk.card import Card
from mdnet.inference.bulk.inputs import Inputs, list_inputs, load_inputs
from mdnet.inference.bulk.output import Output
from mdnet.inference.bulk.parquet import require_pyarrow, write_parquet
from mdnet.inference.bulk.parts import PartWriter
from mdnet.inference.bulk.rows import WRITERS
from mdnet.inference.decoding_config import DecodingConfig
from mdnet.inference.predictor import Predictor
from mdnet.models.weights import resolve_weights, sha256
from mdnet.provenance import start_record

__all__ = ["Request", "join_processes", "serve"]

# The others wait where the main process lists the inputs, and it waits for the slowest of them.
_PATIENCE = timedelta(hours=12)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What decides the reports of a run.

    Attributes:
        inputs: Files, folders and globs, as `list_inputs` takes them.
        options: What the columns of a manifest hold.
        weights: Name or folder.
        format: text, jsonl or parquet.
        decoding: How words are chosen; draws without a seed get one that is kept.
        phrases: File of phrases that constrained decoding reads sections by.
        abstain_below: As `Finding` has it.
        batch_size: Studies computed at once. Their numbers may differ in the last bits with another.
    """

    inputs: tuple[str, ...]
    options: ReaderOptions = field(default_factory=ReaderOptions)
    weights: str
    format: str
    decoding: DecodingConfig
    phrases: Path | None = None
    abstain_below: float | None = None
    batch_size: int

    def batches(self, studies: int) -> range:
        """The numbers of the batches of so many studies."""
        return range(-(-studies // self.batch_size))

    def settings(self) -> dict[str, Any]:
        """All of it as the card of the run keeps it; files by their hash."""
        return {
            "inputs": list(self.inputs),
            "folder": str(Path.cwd()),  # that relative paths are of
            "columns": dict(self.options.columns),
            "weights": self.weights,
            "weights_sha256": weights_hash(self.weights),
            "format": self.format,
            **{f"decoding.{name}": value for name, value in asdict(self.decoding).items()},
            "phrases_sha256": None if self.phrases is None else sha256(self.phrases),
            "abstain_below": self.abstain_below,
            "batch_size": self.batch_size,
        }


def join_processes(device: str | None = None) -> PartialState:
    """Where this process stands among those that `accelerate launch` started; alone where none were.

    Raises:
        ConfigurationError: Several were started, and have no device over which they know of each other.
    """
    on_cpu = device == "cpu" or parse_flag_from_env("ACCELERATE_USE_CPU")
    state = PartialState(cpu=on_cpu, timeout=_PATIENCE)
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != state.num_processes:  # each would take itself for the only one
        raise ConfigurationError(
            f"{launched} processes were launched, and there is no GPU for them: add --device cpu"
        )
    return state


def serve(
    request: Request,
    out: Path,
    predict: Callable[[DecodingConfig], Predictor],
    *,
    state: PartialState,
    tell: Callable[[Fault], None],
    resume: bool = False,
    workers: int = 0,
) -> Card | None:
    """Writes the reports of a run.

    Args:
        request: What to write.
        out: The file.
        predict: Makes the predictor, of the weights and batch size that `request` names.
        state: This process among others.
        tell: Called with every study that cannot be read, when that is found.
        resume: Go on with what is there.
        workers: Processes that read images ahead, for each that computes.

    Returns:
        The card of the finished run; None in all processes but the main one.

    Raises:
        ConfigurationError: A file is in the way, or it was begun otherwise.
        OSError: The disk is full; what was written is kept.
    """
    output = Output(out, request.format)
    card, inputs, remaining = None, None, None
    if state.is_main_process:
        if request.format == "parquet":
            require_pyarrow()
        card, inputs = _begun(request, output, state, tell, resume=resume)
        if inputs is not None:
            remaining = output.missing(request.batches(len(inputs.studies)))
    shared: list[Any] = [remaining, None if card is None else card.seed]
    broadcast_object_list(shared)
    remaining, seed = shared
    if remaining is None:  # it was finished
        return card
    inputs = inputs or load_inputs(output.inputs)
    predictor = predict(replace(request.decoding, seed=seed))
    assert predictor.batch_size == request.batch_size
    own = remaining[state.process_index :: state.num_processes]
    part = output.part(state.process_index, processes=state.num_processes)
    studies = len(inputs.studies)
    with (
        PartWriter(part) as writer,
        tqdm(
            total=studies,
            initial=studies - min(len(remaining) * request.batch_size, studies),
            disable=None if state.is_main_process and studies > request.batch_size else True,
            unit="study",
        ) as bar,
    ):
        answers = answer(predictor, inputs.studies, own, workers=workers, abstain_below=request.abstain_below)
        for batch in answers:
            for fault in batch.unreadable:
                tell(fault)
            lines = [WRITERS[request.format](identifier, finding) for identifier, finding in batch.findings]
            writer.write(
                batch.number,
                "".join(f"{line}\n" for line in lines),
                findings=len(lines),
                unreadable=batch.unreadable,
            )
            bar.update(len(batch) * state.num_processes)
    state.wait_for_everyone()
    if card is None:
        return None
    join: Callable[[Iterable[bytes], Path], None] = _join_texts
    if request.format == "parquet":
        config = predictor.model.config
        join = partial(write_parquet, space=config.space, sections=config.sections)
    return output.finish(card, inputs, batches=request.batches(studies), join=join)


def weights_hash(name: str) -> str:
    """SHA-256 of all that a model is made of: its weights, configuration, vocabulary and calibration."""
    folder = resolve_weights(name)
    files = sorted(file for file in folder.iterdir() if file.suffix in (".safetensors", ".json"))
    told = [f"{file.name} {sha256(file)}" for file in files if file.name != "weights.json"]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()


def _begun(
    request: Request, output: Output, state: PartialState, tell: Callable[[Fault], None], *, resume: bool
) -> tuple[Card, Inputs | None]:
    """The card of a run that begins or goes on, and its inputs; None of a finished one."""
    start = start_record(state.device, processes=state.num_processes)
    if (earlier := output.earlier(resume=resume)) is not None:
        card = earlier.goes_on(output.card, request.settings(), start)
        if card.finished is not None:
            _log.info("%s: finished already", output.path)
            output.clean()
            return card, None
        card.save(output.card)
        return card, load_inputs(output.inputs)
    settings = request.settings()
    inputs = list_inputs(request.inputs, request.options)
    for fault in inputs.unreadable:
        tell(fault)
    seed = request.decoding.seed
    if seed is None and request.decoding.method == "sample":
        seed = secrets.randbits(31)
    card = Card(settings, len(inputs.studies), seed, (start,))
    output.begin(card, inputs)
    return card, inputs


def _join_texts(texts: Iterable[bytes], file: Path) -> None:
    with file.open("wb") as joined:
        for text in texts:
            joined.write(text)
