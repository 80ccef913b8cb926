"""Several teachers and one student: what an ensemble knows, in one model of their size.

Models of different seeds and texts err in different places, and their mean guess is better than any
one's. A student that learns from it, and not from what happened to stand there alone, comes close
to it (Hinton et al., 2015). So the price is several trainings, and that of writing is one model's.
"""

import time
from dataclasses import replace

import torch

from course_utils.training import trainer

TEACHERS = 1000  # seeds are a teacher's from here on: so many a student


def train(
    model_config,
    config,
    train_ids,
    validation_ids,
    teachers,
    share=0.5,
    teaching=None,
    allow=None,
    on_step=None,
):
    """A student of so many teachers; with none, a model that learns from the text alone.

    Each of several teachers has read all but another piece of the text: of each place, one of them
    guesses and does not remember.

    share: of the targets, that which is the teachers'. teaching: their TrainConfig, where it is not
    the student's; their seeds follow from the student's. train_ids, validation_ids: (N,) int64 on
    one device. on_step(n): called when n more steps are done, a teacher's or the student's.
    -> (student, Training, seconds that the teachers took, set-up counted)
    """
    begin = time.perf_counter()
    targets = None
    for i in range(teachers):
        its = replace(teaching or config, seed=TEACHERS * (config.seed + 1) + i)
        teacher = trainer.new_model(model_config, its, train_ids.device)
        trainer.train(teacher, all_but(train_ids, i, teachers), validation_ids, its, on_step, allow)
        theirs = predictions(teacher, train_ids).mul_(share / teachers)
        targets = theirs if targets is None else targets.add_(theirs)
    if teachers:  # the rest belongs to what stands there
        rest = targets.new_full((len(train_ids), 1), 1 - share)
        targets.scatter_add_(1, train_ids[:, None], rest)
    seconds = time.perf_counter() - begin
    student = trainer.new_model(model_config, config, train_ids.device)
    ids = train_ids, validation_ids
    result = trainer.train(student, *ids, config, on_step, allow, targets=targets)
    return student, result, seconds


def all_but(ids, piece, pieces):
    """A text without one of so many equal pieces of it; all of it, where there is only one."""
    if pieces == 1:
        return ids
    begin, end = (n * len(ids) // pieces for n in (piece, piece + 1))
    return torch.cat([ids[:begin], ids[end:]])


@torch.no_grad()
def predictions(model, ids):
    """What a model thinks of each place in a text: (N,) int64 -> (N, V) probabilities.

    Each place is guessed with half a context before it, at least, where the text has that much;
    nothing is known of the first.
    """
    context = min(model.config.context_length, len(ids) - 1)
    step = max(1, context // 2)
    was_training = model.training
    model.eval()

    def guess(windows):
        return model(windows).float().softmax(dim=-1)

    # First windows that overlap by half; of all but the first, what is new in them counts.
    nothing = torch.full((1, model.config.vocab_size), 1 / model.config.vocab_size)
    guesses = [nothing.to(ids.device), guess(ids[None, :context])[0]]
    windows = ids[:-1].unfold(0, context, step)[1:]
    at_once = 2**16 if ids.is_cuda else 2**10  # characters, as lesson 4's token_losses
    for some in windows.split(max(1, at_once // context)):
        guesses.append(guess(some)[:, -step:].flatten(0, 1))
    # Then the end of the text, where no whole step is left.
    left = len(ids) - sum(map(len, guesses))
    guesses.append(guess(ids[None, -context - 1 : -1])[0, context - left :])
    model.train(was_training)
    return torch.cat(guesses)
