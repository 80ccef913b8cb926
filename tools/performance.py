"""Record what the book's page on performance shows, one command after the other; what is there already is kept.

python tools/performance.py cpu|gpu [FOLDER]
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from course_utils import paths

FIRST_SEED = 20  # no recipe was chosen on these seeds
BENCHES = {  # device -> (what, preset), the quick ones first
    "cpu": [("generate", "baseline"), ("train", "nanogpt-cpu"), ("train", "laptop"), ("scaling", "laptop")],
    "gpu": [("generate", "baseline"), ("train", "baseline"), ("train", "nanogpt"), ("scaling", "laptop")],
}
RUNS = {  # device -> (recipe, seeds)
    "cpu": [("laptop", 3), ("laptop-long", 3)],
    "gpu": [("sprint", 5), ("modern", 3), ("record", 3)],
}


def course(*arguments):
    command = [sys.executable, "-m", "course_utils", *map(str, arguments)]
    print("course", *arguments, flush=True)
    subprocess.run(command, check=True, cwd=paths.CHECKOUT)


def main():
    if sys.argv[1:2] not in (["cpu"], ["gpu"]):
        sys.exit(__doc__)
    device, folder = sys.argv[1], Path(*sys.argv[2:3] or [paths.PUBLISHED / "bench"]).absolute()
    (folder / "runs").mkdir(parents=True, exist_ok=True)
    for what, preset in BENCHES[device]:
        target = folder / f"{what}-{preset}-{device}.json"
        if not target.exists():
            course("bench", what, "--preset", preset, "--json", target)
    for recipe, seeds in RUNS[device]:
        for seed in range(FIRST_SEED, FIRST_SEED + seeds):
            target = folder / "runs" / f"{recipe}-{device}-{seed}.json"
            if target.exists():
                continue
            with tempfile.TemporaryDirectory() as results:
                course("train", "--recipe", recipe, "--seed", seed, "--out", results)
                (record,) = Path(results, "logs").glob("*.json")
                shutil.copy(record, target)


if __name__ == "__main__":
    main()
