"""Open the untouched plays: what finished runs lose on texts that nothing has seen.

python tools/untouched.py RESULTS...    of the runs that report depth at each budget and text
"""

import functools
import sys

import torch
from tqdm import tqdm

from course_utils import corpus, profiles
from course_utils.lessons.data import CharTokenizer
from course_utils.lessons.train import evaluate
from course_utils.research import studies
from course_utils.training import checkpoints, runs

REPORTING = {"plays", *(f"depth-{steps}" for steps in studies.BUDGETS)}


@functools.cache
def plays(alphabet):
    """play -> its tokens (N,) int64, on the device; once for all models of an alphabet."""
    every = corpus.plays()
    tokenizer = CharTokenizer(alphabet)
    return {
        name: torch.tensor(tokenizer.encode(every[name]), device=profiles.device())
        for name in studies.UNTOUCHED
    }


def main():
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    for folder in sys.argv[1:]:
        records = [r for r in runs.load_all(folder) if r.study in REPORTING and not r.untouched]
        for record in tqdm(records, desc="opening the plays", unit="run"):
            model, tokenizer = checkpoints.load_model(record.checkpoint)
            model = model.to(profiles.device())
            texts = plays(tokenizer.alphabet)
            record.untouched = {name: evaluate(model, ids) for name, ids in texts.items()}
            record.save(record.folder)


if __name__ == "__main__":
    main()
