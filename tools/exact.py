"""Is the same seed the same run on this GPU, to the bit, and what does that cost?

python tools/exact.py [--json FILE] [--card N] [RECIPE …]

For each recipe: the sha256 of the weights after some steps of two runs, and of others that take
up the first one's state at a random step; and the time of a step beside that of an engine which
may add in any order. Exit 1 where two runs of a recipe differ.
"""

import argparse
import gc
import json
import random
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from course_utils import corpus
from course_utils.lessons.data import CharTokenizer, split
from course_utils.lessons.model import GPTConfig
from course_utils.training import checkpoints, engine, recipes, trainer

STEPS = 100  # before the weights are compared
TIMED = 200  # steps after that


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help="(default: all but smoke)")
    parser.add_argument("--card", type=int, default=0, metavar="N", help="which GPU (default 0)")
    parser.add_argument("--resumes", type=int, default=3, metavar="N", help="a recipe (default 3)")
    parser.add_argument("--plain", action="store_true", help="compile nothing")
    parser.add_argument("--untimed", action="store_true", help="only the bits: time no step")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="also write the rows to this file"
    )
    args = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("tools/exact.py needs an NVIDIA GPU; a CPU's runs are compared by the tests.")
    torch.cuda.set_device(args.card)
    device = torch.device("cuda", args.card)
    text = corpus.load()
    train_ids, _ = split(torch.tensor(CharTokenizer(text.text).encode(text.text)))
    names = args.recipes or [name for name in recipes.RECIPES if name != "smoke"]
    pieces = [piece for piece in engine.PIECES if piece != "compiled" or not args.plain]
    about = {
        "command": " ".join(["python", "tools/exact.py", *sys.argv[1:]]),
        "device": torch.cuda.get_device_name(device),
        "torch": torch.__version__,
        "corpus": text.sha256,
    }
    rows = []
    for name in names:
        rows.append(measure(name, train_ids.to(device), pieces, args))
        print(json.dumps(rows[-1]), flush=True)
        if args.json:  # after each, as the time on a borrowed card may end
            args.json.write_text(json.dumps(about | {"rows": rows}, indent=1) + "\n", "utf-8")
        gc.collect()
        torch.cuda.empty_cache()
    if different := [row["recipe"] for row in rows if row["different"] > 1]:
        sys.exit(f"not the same bits: {', '.join(different)}")


def measure(name, ids, pieces, args):
    """One row: how many different weights the runs of a recipe end with, and what a step takes."""
    model_settings, config = recipes.named_recipe(name)
    model_config = GPTConfig(**{"vocab_size": 65, **model_settings})
    config = replace(config, steps=STEPS + TIMED)
    exact = [*pieces, "exact"]
    chance = random.Random(name)

    def begin(allow):
        model = trainer.new_model(model_config, config, ids.device)
        run = engine.CudaEngine(model, ids, config, allow)
        torch.manual_seed(config.seed + 1)
        return run

    def advance(run, steps):
        for _ in range(steps):
            run.step()
        torch.cuda.synchronize()
        return run

    def step_ms(run):
        start = time.perf_counter()
        advance(run, TIMED)
        return (time.perf_counter() - start) / TIMED * 1e3

    # The first run leaves its state behind at random steps; the second is only run again.
    stops = sorted(chance.sample(range(1, STEPS), args.resumes))
    run = begin(exact)
    states = []
    for stop in stops:
        states.append(advance(run, stop - run.steps_done).state())
    ends = [checkpoints.weights_sha256(advance(run, STEPS - run.steps_done).model)]
    run = advance(begin(exact), STEPS)
    ends.append(checkpoints.weights_sha256(run.model))
    row = {
        "recipe": name,
        "context": model_config.context_length,
        "regime": run.regime,
    }
    if not args.untimed:
        exact_ms = step_ms(run)
        free_ms = step_ms(advance(begin_freely(begin, pieces), STEPS))
        row |= {
            "step_ms": round(exact_ms, 3),
            "step_ms_in_any_order": round(free_ms, 3),
            "ratio": round(exact_ms / free_ms, 3),
        }

    for stop, state in zip(stops, states, strict=True):
        run = begin(exact)
        run.restore(state)
        ends.append(checkpoints.weights_sha256(advance(run, STEPS - stop).model))
    return row | {"runs": len(ends), "different": len(set(ends)), "sha256": ends[0]}


def begin_freely(begin, pieces):
    """An engine that may add in any order, at short contexts too."""
    longest = engine.EXACT_CONTEXT
    engine.EXACT_CONTEXT = 0
    try:
        return begin(pieces)
    finally:
        engine.EXACT_CONTEXT = longest


if __name__ == "__main__":
    main()
