"""Runs that differ in the seed only, one after the other, and how far their numbers are apart.

Published numbers of one run are as often luck as not: the spread over seeds belongs beside every number.
`OUT/seed-K/` is the run folder of seed K, to the bit what a run of that seed alone writes; `OUT/seeds.json`
has the row of every run's best epoch, and mean and spread of every number in it. It is written whenever a
seed is done, and `mdnet leaderboard OUT` sets the runs side by side once they are evaluated.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mdnet.errors import ConfigurationError
from mdnet.evaluation.run import read_history
from mdnet.evaluation.seeds import Spread, spread
from mdnet.files import write_text
from mdnet.training.configuration import TrainingConfig
from mdnet.training.distributed import make_accelerator
from mdnet.training.history import Row
from mdnet.training.run import check_same, train_run
from mdnet.training.validation import best_epoch

__all__ = ["SEEDS", "Seeds", "train_seeds"]

_log = logging.getLogger(__name__)

SEEDS = "seeds.json"


@dataclass(frozen=True)
class Seeds:
    """What several seeds of one recipe came to.

    Attributes:
        rows: Seed to the row of its best epoch.
    """

    rows: Mapping[int, Row]

    @property
    def metrics(self) -> dict[str, Spread]:
        """Mean and spread of every column of the validation that all seeds have."""
        rows = list(self.rows.values())
        columns = [name for name in rows[0] if name.startswith("val_") and all(name in row for row in rows)]
        return {name: spread([row[name] for row in rows]) for name in columns}

    def save(self, path: Path) -> None:
        """Writes the JSON that `load` reads."""
        record = {
            "seeds": {str(seed): row for seed, row in self.rows.items()},
            "metrics": {name: asdict(each) for name, each in self.metrics.items()},
        }
        write_text(path, json.dumps(record, indent=2) + "\n")

    @classmethod
    def load(cls, path: Path) -> Seeds:
        """The rows of an earlier call; none where there is no such file."""
        if not path.exists():
            return cls({})
        seeds = json.loads(path.read_text(encoding="utf-8"))["seeds"]
        return cls({int(seed): row for seed, row in seeds.items()})


def train_seeds(config: TrainingConfig, count: int, *, resume: bool = False) -> Seeds:
    """Trains the seeds `config.seed`, `config.seed + 1`, ... into folders below `config.out`.

    Args:
        config: The run of the first seed, but for its folder.
        count: How many seeds.
        resume: Pass over the seeds that are done, and go on with one that is not.

    Raises:
        ConfigurationError: A folder holds another run, or an option is wrong.
        DataError: The data set cannot be used.
    """
    if count < 1:
        raise ConfigurationError(f"seeds is {count}; it must be at least 1")
    out = Path(config.out)
    if (out / "config.yaml").exists():
        raise ConfigurationError(f"{out}: holds a run of one seed; name another --out")
    wanted = range(config.seed, config.seed + count)
    earlier = Seeds.load(out / SEEDS).rows
    done = {seed: row for seed, row in earlier.items() if _folder(out, seed).exists()}
    for seed in {*wanted, *done}:
        folder = _folder(out, seed)
        if not (saved := folder / "config.yaml").exists():
            continue
        if seed in wanted and not resume:
            raise ConfigurationError(
                f"{folder}: holds a run; add --resume auto to go on, or name another --out"
            )
        check_same(replace(config, seed=seed), TrainingConfig.load(saved), saved)
    main = make_accelerator(config).is_main_process
    for number, seed in enumerate(wanted, start=1):
        if main:
            _log.info("seed %d (%d of %d)%s", seed, number, count, " is done" if seed in done else "")
        if seed not in done:
            run = train_run(replace(config, seed=seed, out=str(_folder(out, seed))), resume=resume)
            history = read_history(run / "history.csv")
            done[seed] = history[best_epoch(history, config.metric)]
            if main:
                Seeds(dict(sorted(done.items()))).save(out / SEEDS)
    return Seeds({seed: done[seed] for seed in wanted})


def _folder(out: Path, seed: int) -> Path:
    return out / f"seed-{seed}"
