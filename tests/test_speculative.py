"""Guessing ahead: whatever is guessed, the text is the one that the model writes alone."""

import math

import numpy as np
import pytest
import torch

from course_utils.generation import speculative, writer
from course_utils.generation.decoder import Decoder
from course_utils.generation.speculative import CountingDraft, SpeculativeDecoder
from course_utils.lessons import sampling
from course_utils.lessons.data import KneserNey
from course_utils.lessons.model import CHOICES
from helpers import SMALL, counting, loud, mutant, prompt, seeded

V, T = SMALL.vocab_size, SMALL.context_length
N = 3 * T  # several windows
SETTINGS = [
    {},
    {"temperature": 0},
    {"temperature": 0.7},
    {"temperature": 1.5, "top_k": 5, "top_p": 0.9},
]


class Draft:
    """Guesses what the text will be, or anything else; and is told nothing by lengths."""

    def __init__(self, text, wrong_from=math.inf):
        self.text, self.wrong_from = text, wrong_from

    def guess(self, text, lengths, temperature):
        n = len(lengths)
        begin = next(
            i + len(text)
            for i in range(len(self.text))
            if self.text[i : i + len(text)] == list(text)
        )
        coming = self.text[begin : begin + n]
        return [(c + (i >= self.wrong_from)) % V for i, c in enumerate(coming)]


def written(model, length, n, draft=None, **setting):
    """-> the text, and the state of the generator after it."""
    generator = seeded(2)
    tokens = prompt(length, 1)
    text = writer.generate(model, tokens, n, **setting, generator=generator, draft=draft)
    return text, generator.get_state()


def check_is_the_same(model, length, n, draft, **setting):
    generator = seeded(2)
    alone = sampling.generate(model, prompt(length, 1), n, **setting, generator=generator)
    text, state = written(model, length, n, draft, **setting)
    assert torch.equal(text, alone), "another text"
    assert torch.equal(state, generator.get_state()), "the generator is as far as lesson 6's"


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
@pytest.mark.parametrize("position", CHOICES["position"])
def test_a_draft_changes_no_character(position, setting):
    model = loud(position=position, tie_embeddings=False)
    for order in (1, 4):
        draft = CountingDraft(counting(), V, order)
        for length in (1, T - 2, T, 2 * T + 3):
            for n in (0, 1, 2, N):
                check_is_the_same(model, length, n, draft, **setting)


@pytest.mark.parametrize("norm_placement", CHOICES["norm_placement"])
def test_a_draft_may_be_right_wrong_or_both(norm_placement):
    """And a pass is spared for each guess that is right."""
    model = loud(norm_placement=norm_placement, qk_norm=True, tie_embeddings=False)
    n = T - 1
    text = written(model, 1, n)[0][0].tolist()
    for wrong_from, passes in ((0, n - 1), (2, math.ceil((n - 1) / 3)), (math.inf, 2)):
        decoder = SpeculativeDecoder(model, Draft(text + [0] * 9, wrong_from))
        read = []
        decoder._read_on = lambda ids, do=decoder._read_on, read=read: read.append(ids) or do(ids)
        generator = seeded(2)
        first = sampling.draw(decoder.read(prompt(1, 1)), generator)
        new = decoder.write(first, n - 1, generator=generator)
        assert [*prompt(1, 1)[0].tolist(), first.item(), *new[0].tolist()] == text
        assert len(read) == passes, "a pass writes all that was right and one more"


def test_it_goes_on_from_any_call():
    """Between two writes, a character may be given by hand."""
    model = loud()
    decoders = Decoder(model), SpeculativeDecoder(model, CountingDraft(counting(), V))
    for _again in range(2):
        found = []
        for decoder in decoders:
            generator = seeded(1)
            decoder.read(prompt(2, 1))
            found.append(decoder.write(torch.tensor([[3]]), 4, generator=generator))
            found.append(decoder.step(torch.tensor([[5]])).argmax()[None])
            found.append(decoder.write(torch.tensor([[7]]), 3, 0.5, generator=generator))
        for one, other in zip(found[:3], found[3:], strict=True):
            assert torch.equal(one, other)
        with pytest.raises(ValueError, match="context of 16 tokens is full"):
            decoders[1].write(torch.tensor([[3]]), T - 9, generator=generator)
        assert decoders[1].length == 10, "as if it had not been asked"


def test_where_there_is_no_use_for_it_it_is_not_asked():
    model = loud()
    draft = Draft([])
    assert type(writer.make_decoder(model, 3, draft=draft)) is Decoder
    assert type(writer.make_decoder(model)) is Decoder
    assert type(writer.make_decoder(model, draft=draft)) is SpeculativeDecoder


@pytest.mark.parametrize("order", [1, 2, 5])
def test_the_draft_is_lesson_1s_counter(order):
    ids = counting()
    draft = CountingDraft(ids, V, order)
    text = torch.cat([counting(60), torch.randint(V, (60,), generator=seeded())])  # seen, unseen
    mine = [draft.log_probabilities(text[:i].tolist()) for i in range(1, len(text))]
    mine = torch.from_numpy(np.stack(mine))
    torch.testing.assert_close(mine.exp().sum(1), torch.ones(len(mine)))
    mine = mine[torch.arange(len(mine)), text[1:]].double()
    theirs = KneserNey(ids, order, V).probabilities(text).log()
    torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=0)


def test_with_a_large_alphabet_the_draft_sees_less_far(monkeypatch):
    whole = CountingDraft(counting(), V, 4)
    contexts = [len(rows) for rows, _ in whole.tables]
    monkeypatch.setattr(speculative, "MOST", contexts[2] * V)
    short = CountingDraft(counting(), V, 4)
    assert [len(rows) for rows, _ in short.tables] == contexts[:3]
    check_is_the_same(loud(), 1, N, short)


def test_a_draft_that_knows_the_text_guesses_most_of_it():
    """Both run the same race: with other lengths they would seldom agree."""
    draft, lengths = CountingDraft(counting(), V, 3), torch.empty(40, V)
    lengths.exponential_(generator=seeded())
    speeds = np.exp(draft.log_probabilities([1, 2]))
    winners = (speeds / lengths.numpy()).argmax(1).tolist()
    assert [draft.guess([1, 2], one[None], 1)[0] for one in lengths] == winners
    assert draft.guess([1, 2], lengths[:1], 0) == [3]


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("guesses[right] == winners[right]", "True"),
        ("self.length += right + 1", "self.length += len(winners)"),
        ("lengths = lengths[right + 1 :]", "lengths = lengths[:0]"),
        ("lengths = lengths[right + 1 :]", "lengths = lengths[right:]"),
        ("nothing.triu(diagonal=1)", "nothing.triu(diagonal=2)"),
        ("places[layer].copy_(new)", "places[layer].copy_(new.flip(1))"),
        ("seen.permute(2, 1, 0, 3)", "seen.permute(2, 1, 0, 3).flip(0)"),
    ],
)
def test_a_broken_one_is_noticed(right, wrong, monkeypatch):
    monkeypatch.setattr(
        writer, "SpeculativeDecoder", mutant(speculative.SpeculativeDecoder, right, wrong)
    )
    draft = CountingDraft(counting(), V, 2)
    with pytest.raises((AssertionError, IndexError, RuntimeError)):
        check_is_the_same(loud(), 1, N, draft)
