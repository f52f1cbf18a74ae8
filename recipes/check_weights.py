"""Whether fresh data bear out the cards of the weights that ship: `make weights-check`.

Synthetic studies are drawn anew, by a seed of today's date that no card names; of CIFAR-10 there are no
others than the test split, on which the card must be met exactly. A table tells what the card says, what is
measured, and by how much they may differ (`mdnet.evaluation.published`); exit code 1 where they differ by
more, or a folder has outgrown the package.

python recipes/check_weights.py --studies 500 --cifar10 runs/weights/cifar10
"""

from __future__ import annotations

import argparse
import datetime
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from typer import echo

from mdnet.data.phantom import make_phantom
from mdnet.data.readers import read_studies
from mdnet.data.study import Study, StudySet
from mdnet.evaluation.evaluate import evaluate_studies
from mdnet.evaluation.published import compare_with_card
from mdnet.inference.predictor import Predictor
from mdnet.models.weights import get_weights, list_weights, resolve_weights
from mdnet.models.weights_card import WeightsCard

FOLDER_LIMIT, ALL_LIMIT = 5_000_000, 20_000_000  # bytes
DRAWN = {"phantom"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="weights to check; all that ship unless given")
    parser.add_argument("--seed", type=int, help="of the studies drawn; by the date unless given")
    parser.add_argument("--studies", type=int, default=500, help="how many are drawn; CIDEr depends on it")
    parser.add_argument(
        "--cifar10", type=Path, default=Path("runs/weights/cifar10"), help="its data set folder"
    )
    arguments = parser.parse_args()
    cards = [get_weights(name) for name in arguments.names or list_weights()]
    seed = arguments.seed or int(f"{datetime.date.today():%Y%m%d}") * 10 + 1  # a year's date alone was used
    missed = [card.name for card in cards if f"seed {seed}," in f"{card.data}, {card.measured_on},"]
    if missed:
        parser.error(f"--seed {seed}: {', '.join(missed)} has seen it; name another")

    failures = size_faults(cards)
    echo(f"{'weights':<24} {'number':<42} {'card':>7} {'fresh':>7} {'may differ by':>13}")
    with tempfile.TemporaryDirectory() as temporary:
        for card in cards:
            if card.dataset in DRAWN:
                folder = Path(temporary) / f"{card.dataset}-{card.input.size[0]}"
                if not folder.exists():
                    make_phantom(folder, arguments.studies, seed=seed, size=card.input.size[0])
                data = read_studies(folder)
                failures += check(card, data.studies, data)
            elif arguments.cifar10.is_dir():
                data = read_studies(arguments.cifar10)
                failures += check(card, data.split("test"), data)
            else:
                mend = f"no {arguments.cifar10}; recipes/cifar10_studies.py makes it"
                echo(f"{card.name:<24} not checked: {mend}")
    for failure in failures:
        echo(failure)
    sys.exit(1 if failures else 0)


def check(card: WeightsCard, studies: Sequence[Study], data: StudySet) -> list[str]:
    """Prints a line a number; what does not hold."""
    predictor = Predictor.from_pretrained(card.name)
    metrics = evaluate_studies(predictor, studies, data, baselines=False).metrics
    failures = []
    for row in compare_with_card(card, metrics):
        line = f"{card.name:<24} {row.name:<42} {row.card:7.4f} {row.fresh:7.4f} {row.tolerance:13.4f}"
        echo(line if row.holds else f"{line}  MISSED")
        if not row.holds:
            failures.append(f"{card.name}: {row.name} is {row.fresh:.4f}, its card says {row.card:.4f}")
    return failures


def size_faults(cards: Sequence[WeightsCard]) -> list[str]:
    """What is too large to ship."""
    sizes = {
        card.name: sum(file.stat().st_size for file in resolve_weights(card.name).iterdir()) for card in cards
    }
    faults = [
        f"{name}: {size:,} bytes, more than {FOLDER_LIMIT:,}"
        for name, size in sizes.items()
        if size > FOLDER_LIMIT
    ]
    if sum(sizes.values()) > ALL_LIMIT:
        faults.append(f"all weights: {sum(sizes.values()):,} bytes, more than {ALL_LIMIT:,}")
    return faults


if __name__ == "__main__":
    main()
