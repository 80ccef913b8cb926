"""Do the published models of the plain protocol copy? The control that a single measure lacks.

    python tools/copying.py

HALF characters are read after as many others, and all but the first CUT of them count, as in
`mechanism`. What do they gain when those others are the same characters (a copy to look up), the
characters that stood there in the play, or the same letters shuffled? Nats/character, against
strangers: lines of another place in the validation split, or other random characters. ± is a
standard error.
"""

import pandas as pd
import torch
from torch.nn import functional as F

from course_utils import corpus, files
from course_utils.lessons.data import get_batch, split
from course_utils.research.mechanism import CUT, HALF
from course_utils.training import checkpoints, runs

ROUNDS, TEXTS = 24, 48  # texts a round


@torch.no_grad()
def loss_after(model, first, second):
    """The mean loss of each second half, read after a first. (B, T), (B, T) -> (B,)"""
    tokens = torch.cat([first, second], 1)
    losses = F.cross_entropy(model(tokens[:, :-1]).transpose(1, 2), tokens[:, 1:], reduction="none")
    return losses[:, -HALF:][:, CUT:].mean(1)


def of_shakespeare(ids, chance):
    """-> second halves, and what may stand before each"""
    window, _ = get_batch(ids, TEXTS, 2 * HALF, chance)
    strangers, _ = get_batch(ids, TEXTS, HALF, chance)
    first, second = window.split(HALF, 1)
    return second, {"strangers": strangers, "copy": second, "own past": first}


def of_random(vocab_size, chance):
    """-> second halves, and what may stand before each"""
    second, strangers = torch.randint(vocab_size, (2, TEXTS, HALF), generator=chance)
    shuffled = torch.stack([row[torch.randperm(HALF, generator=chance)] for row in second])
    return second, {"strangers": strangers, "copy": second, "shuffled": shuffled}


def gains(model, texts):
    """What each first half gains over strangers. texts: as above, of each round. -> a row"""
    found = {}
    for second, firsts in texts:
        losses = {name: loss_after(model, first, second) for name, first in firsts.items()}
        strangers = losses.pop("strangers")
        for name, loss in losses.items():
            found.setdefault(name, []).append(strangers - loss)
    found = {name: torch.cat(gain) for name, gain in found.items()}
    return {
        name: f"{gain.mean():.3f} ± {gain.std() / len(gain) ** 0.5:.3f}"
        for name, gain in found.items()
    }


def main():
    text = corpus.load()
    published = [run for run in runs.load_all(files.PUBLISHED, text) if run.checkpoint.is_file()]
    plain = [run for run in published if run.recipe == "baseline"]
    rows = []
    for run in sorted(plain, key=lambda run: run.model["n_layers"]):
        model, tokenizer = checkpoints.load_model(run.checkpoint)
        ids = torch.tensor(tokenizer.encode(split(text.text)[1]))
        chance = torch.Generator().manual_seed(0)
        lines = [of_shakespeare(ids, chance) for _ in range(ROUNDS)]
        gibberish = [of_random(model.config.vocab_size, chance) for _ in range(ROUNDS)]
        for kind, texts in {"Shakespeare": lines, "random": gibberish}.items():
            rows.append(
                {"layers": run.model["n_layers"], "text": kind, **gains(model.eval(), texts)}
            )
    print(f"{ROUNDS * TEXTS} texts of each kind")
    print(pd.DataFrame(rows).fillna("").to_markdown(index=False))


if __name__ == "__main__":
    main()
