"""Teachers and students: guesses against one prefix at a time, targets and gradients by hand."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from course_utils.lessons.data import split
from course_utils.lessons.train import TrainConfig
from course_utils.training import distillation, engine, trainer
from helpers import SMALL, counting, loud, mutant

CONFIG = TrainConfig(steps=12, batch_size=4, learning_rate=0.01, evaluate_every=12, seed=3)


def check_predictions(predictions, context, n):
    """Each place is guessed from a prefix that begins where it should, and is long enough."""
    model, ids = loud(context_length=context).train(), counting(n)
    guesses = predictions(model, ids)
    assert model.training, "it is left as it was"
    context = min(context, n - 1)
    step = max(1, context // 2)
    torch.testing.assert_close(guesses[0], torch.full((11,), 1 / 11))
    model.eval()
    for place in range(1, n):
        begin = min(step * math.ceil(max(0, place - context) / step), n - 1 - context)
        assert place - begin >= min(place, context / 2)
        expected = model(ids[None, begin:place])[0, -1].softmax(dim=-1)
        torch.testing.assert_close(guesses[place], expected, msg=f"place {place}")


@pytest.mark.parametrize("context", [1, 8, 9])
@pytest.mark.parametrize("n", [2, 10, 43, 45])
def test_every_place_is_guessed_with_half_a_context_before_it(context, n):
    check_predictions(distillation.predictions, context, n)


def test_guesses_at_the_wrong_places_are_noticed():
    early = mutant(distillation.predictions, "[:, -step:]", "[:, -step - 1 : -1]")
    with pytest.raises(AssertionError, match="place"):
        check_predictions(early, 8, 43)


def trained(**how):
    ids = split(counting(300))
    student, result, _ = distillation.train(replace(SMALL, dropout=0.1), CONFIG, *ids, **how)
    return student.state_dict(), result


def test_targets_of_which_all_is_certain_give_the_bits_of_plain_training():
    plain, taught = trained(teachers=0)[0], trained(teachers=1, share=0.0)[0]
    assert all(torch.equal(plain[name], taught[name]) for name in plain)


def test_a_student_learns_from_the_mean_of_its_teachers():
    """The same once more, by hand: two teachers, a quarter of the targets theirs."""
    model, teaching = replace(SMALL, dropout=0.1), replace(CONFIG, steps=20)
    ids = split(counting(300))
    theirs = []
    halves = ids[0][:135], ids[0][135:]
    for seed, half in zip((4000, 4001), reversed(halves), strict=True):  # its own seed is 3
        config = replace(teaching, seed=seed)
        teacher = trainer.new_model(model, config)
        trainer.train(teacher, half, ids[1], config)
        theirs.append(distillation.predictions(teacher, ids[0]))
    targets = 0.75 * F.one_hot(ids[0], 11) + 0.25 * sum(theirs) / 2
    student = trainer.new_model(model, CONFIG)
    trainer.train(student, *ids, CONFIG, targets=targets)

    steps = []
    weights = trained(teachers=2, share=0.25, teaching=teaching, on_step=steps.append)[0]
    for name, weight in student.state_dict().items():
        torch.testing.assert_close(weights[name], weight)
    assert sum(steps) == 2 * 20 + 12


def test_the_gradient_is_that_of_cross_entropy_by_hand():
    torch.manual_seed(0)
    logits = torch.randn(3, 5, 7, requires_grad=True)
    targets = torch.randn(3, 5, 7).softmax(dim=-1)
    loss = engine.expected_loss(lambda tokens: logits, None, targets)
    loss.backward()
    q = logits.detach().double().exp()
    q /= q.sum(dim=-1, keepdim=True)
    by_hand = -(targets * q.log()).sum(dim=-1).mean()
    torch.testing.assert_close(loss.double(), by_hand)
    torch.testing.assert_close(logits.grad.double(), (q - targets) / 15)
