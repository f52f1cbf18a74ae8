"""What it costs to begin: `import mdnet` against `import torch`, and the answer of `mdnet --help`.

    python benchmarks/import_time.py --rounds 7

Every measurement is a fresh process. Seconds of an import are taken inside it, so that the start of
the interpreter does not count; those of `mdnet --help` are the whole process, as a user waits for it.
`mdnet` imports heavy packages where they are used, so `mdnet.Predictor`, which needs them, is timed
too. The targets are a ratio of at most 1.3 and 0.5 s.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

from recording import record

RATIO_TARGET, HELP_TARGET = 1.3, 0.5
IMPORTS = {
    "torch": "import torch",
    "mdnet": "import mdnet",
    "mdnet.Predictor": "import mdnet; mdnet.Predictor",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in (*IMPORTS, "mdnet --help")}
    for number in range(options.rounds + 1):
        measured = {name: seconds_of_import(code) for name, code in IMPORTS.items()}
        measured["mdnet --help"] = seconds_of_help()
        if number:  # the first round fills the file cache
            for name, value in measured.items():
                seconds[name].append(value)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    rows = [
        {"what": name, "seconds": median, "against import torch": median / medians["torch"]}
        for name, median in medians.items()
    ]
    record(
        "import_time",
        rows,
        title="To begin: imports, and the answer of `mdnet --help`",
        reading=f"Asked for: `import mdnet` at most {RATIO_TARGET} of `import torch`, `mdnet --help` within "
        f"{HELP_TARGET} s, the whole process.",
        details={"seconds": seconds},
    )


def seconds_of_import(code: str) -> float:
    """Seconds that a fresh process takes for `code`."""
    timed = f"import time; begun = time.perf_counter(); {code}; print(time.perf_counter() - begun)"
    command = [sys.executable, "-c", timed]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def seconds_of_help() -> float:
    """Seconds from the call of `mdnet --help` to its end."""
    script = Path(sys.executable).with_name("mdnet")  # as the package's installation made it
    begun = time.perf_counter()
    subprocess.run([script, "--help"], check=True, capture_output=True)
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
