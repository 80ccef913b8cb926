"""Open the untouched plays, once: what finished runs lose on texts that nothing has seen.

python tools/untouched.py RESULTS...    of the runs that report depth at each budget
"""

import sys

import torch
from tqdm import tqdm

from course_utils import corpus, profiles
from course_utils.lessons.train import token_losses
from course_utils.research import studies
from course_utils.training import checkpoints, runs

REPORTING = {f"depth-{steps}" for steps in studies.BUDGETS}


def main():
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    every = corpus.plays()
    plays = {name: every[name] for name in studies.UNTOUCHED}
    for folder in sys.argv[1:]:
        records = [r for r in runs.load_all(folder) if r.study in REPORTING and not r.untouched]
        for record in tqdm(records, desc=f"opening {len(plays)} plays", unit="run"):
            model, tokenizer = checkpoints.load_model(record.checkpoint)
            model = model.to(profiles.device()).eval()
            for name, text in plays.items():
                ids = torch.tensor(tokenizer.encode(text), device=profiles.device())
                record.untouched[name] = token_losses(model, ids).mean().item()
            record.save(record.checkpoint.parent.parent)


if __name__ == "__main__":
    main()
