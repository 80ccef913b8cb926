"""The decoder and the writer against the model without a cache and against lesson 6,
for every switch of the model."""

import copy
import itertools
from dataclasses import replace
from functools import partial

import pytest
import torch

import helpers
from course_utils.generation import decoder, writer
from course_utils.generation.decoder import CudaDecoder, Decoder
from course_utils.generation.writer import make_decoder
from course_utils.lessons import sampling
from course_utils.lessons.model import CHOICES, GPTConfig
from course_utils.lessons.train import next_character_loss
from helpers import prompt, seeded

on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
V, T, N = 11, 9, 31  # N is several windows
TINY = GPTConfig(
    vocab_size=V, context_length=T, n_layers=2, n_heads=3, d_model=36, d_ff=20, dropout=0.5
)
loud = partial(helpers.loud, TINY)
GRID = {  # what may be switched besides position and activation
    "norm": CHOICES["norm"],
    "norm_placement": CHOICES["norm_placement"],
    "qk_norm": (False, True),
    "residual": (True, False),
    "tie_embeddings": (True, False),
}
GRID = [dict(zip(GRID, values, strict=True)) for values in itertools.product(*GRID.values())]


class Uncaptured(CudaDecoder):
    """The arithmetic of a GPU's decoder, on any device: what it would capture
    as a graph is done at once."""

    def _replay(self, work, *settings):
        work(*settings)


# --- one model, one text --------------------------------------------------------------------------
@torch.no_grad()
def check_agrees(make, model, batch_size, begin, near=1e-5):
    """From a text of `begin` tokens on, every next token
    of `step` gives what the whole text gives at once."""
    tokens = prompt(model.config.context_length, batch_size).to(model.head.weight.device)
    whole = copy.deepcopy(model).eval()(tokens)
    reader = make(model, batch_size, model.head.weight.dtype)
    for _ in range(2):  # a decoder may be used again
        logits = [reader.read(tokens[:, :begin])]
        logits += [reader.step(tokens[:, at : at + 1]) for at in range(begin, tokens.shape[1])]
        torch.testing.assert_close(
            torch.stack(logits, dim=1), whole[:, begin - 1 :].float(), rtol=0, atol=near
        )


@pytest.mark.slow
@pytest.mark.parametrize("activation", CHOICES["activation"])
@pytest.mark.parametrize("position", CHOICES["position"])
def test_step_agrees_with_the_whole_text(position, activation):
    for i, switches in enumerate(GRID):
        model = loud(position=position, activation=activation, **switches).double()
        check_agrees(Decoder, model, 3 if i % 3 == 1 else 1, begin=1, near=1e-6)
        if i % 3 == 0:
            check_agrees(Uncaptured, model, 3, begin=4, near=1e-6)


@pytest.mark.parametrize("kind", [Decoder, Uncaptured])
@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("begin", [1, 2, T - 1, T])
@pytest.mark.parametrize("position", CHOICES["position"])
def test_step_goes_on_from_a_text_of_any_length(position, begin, batch_size, kind):
    check_agrees(kind, loud(position=position), batch_size, begin)


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize(
    "sizes",
    [
        {"context_length": 1},
        {"n_layers": 1, "n_heads": 1, "d_model": 1, "d_ff": 1, "vocab_size": 13},
        {"n_heads": 5, "d_model": 15, "d_ff": 13, "vocab_size": 11},
        {"n_heads": 4, "d_model": 64, "d_ff": 128, "vocab_size": 65, "context_length": 70},
    ],
    ids=str,
)
def test_sizes_of_all_kinds(sizes, batch_size):
    check_agrees(make_decoder, loud(**sizes), batch_size, begin=1)


@torch.no_grad()
def test_weights_in_half_precision_are_the_rounded_ones():
    model, tokens = loud(position="rope"), prompt(T, 3)
    rounded, reader = copy.deepcopy(model).eval().bfloat16(), make_decoder(model, 3, torch.bfloat16)
    assert reader.cache.dtype == torch.bfloat16
    assert model.head.weight.dtype == torch.float32
    logits = torch.stack(
        [reader.read(tokens[:, :1]), *map(reader.step, tokens[:, 1:].split(1, dim=1))], dim=1
    )
    assert logits.dtype == torch.float32
    assert (logits - rounded(tokens)).abs().max() < 0.1 < logits.std()


@pytest.mark.parametrize("kind", [Decoder, Uncaptured])
def test_what_was_in_the_memory_before_does_not_matter(kind):
    """A GPU masks what lies beyond the text, and a mask does not hide what is not a number."""
    torch.use_deterministic_algorithms(True)  # memory that is not written yet is filled with NaN
    try:
        assert torch.empty(3).isnan().all()
        check_agrees(kind, loud(), 3, begin=4)
    finally:
        torch.use_deterministic_algorithms(False)


# --- broken decoders ------------------------------------------------------------------------------
class APositionLate(Decoder):
    def _logits(self, token, here, attend):
        return super()._logits(token, slice(here.start - 1, here.stop - 1), attend)


class Attending(Decoder):
    """What a layer reads and writes passes `meddle`."""

    def _logits(self, token, here, attend):
        def meddled(layer, q, new):
            return self.meddle(attend, layer, q, new, self.cache[layer, ..., : here.stop, :])

        return super()._logits(token, here, meddled)


class EarlierKeysOverwritten(Attending):
    def meddle(self, attend, layer, q, new, seen):
        out = attend(layer, q, new)
        seen[0, ..., -2:-1, :] = new[0]
        return out


class NewTokenForgotten(Attending):
    def meddle(self, attend, layer, q, new, seen):
        out = attend(layer, q, new)
        seen[..., -1:, :] = 0
        return out


class KeysAreValues(Attending):
    def meddle(self, attend, layer, q, new, seen):
        return attend(layer, q, new.flip(0))


class LayersShareACache(Attending):
    def meddle(self, attend, layer, q, new, seen):
        return attend(0, q, new)


class HeadsMixedUp(Attending):
    def meddle(self, attend, layer, q, new, seen):
        return attend(layer, q, new).roll(1, dims=1)


class LayersReversed(Decoder):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.layers.reverse()


class NormOfAnotherLayer(Decoder):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.norm = self._norm(self.model.blocks[-1].norm_2)


class UpIsTheHead(Decoder):
    """The untied head, taken for the embedding."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.head = self._linear(self.model.embedding)


class NoPositions(Decoder):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.positions = None


class EmbeddingNotScaled(Decoder):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.embedding = self.model.embedding.weight.detach()


class TheNextTokenSeen(Uncaptured):
    """The mask one place off: each token reads a key that is not there yet."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.hidden = self.hidden.roll(1, dims=1)


class WrittenAPlaceEarly(Uncaptured):
    def read(self, tokens):
        logits = super().read(tokens)
        self.now -= 1
        return logits


def with_config(**changes):
    class OtherConfig(Decoder):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.config = replace(self.config, **changes)

    return OtherConfig


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize(
    ("mutant", "switches"),
    [
        (APositionLate, {"position": "learned"}),
        (APositionLate, {"position": "sinusoidal"}),
        (APositionLate, {"position": "rope"}),
        (EarlierKeysOverwritten, {}),
        (NewTokenForgotten, {}),
        (KeysAreValues, {}),
        (LayersShareACache, {}),
        (HeadsMixedUp, {}),
        (LayersReversed, {}),
        (TheNextTokenSeen, {"position": "none"}),
        (WrittenAPlaceEarly, {"position": "none"}),
        (NormOfAnotherLayer, {}),
        (UpIsTheHead, {"tie_embeddings": False}),
        (NoPositions, {"position": "learned"}),
        (EmbeddingNotScaled, {"position": "sinusoidal"}),
        (with_config(qk_norm=False), {"qk_norm": True}),
        (with_config(residual=True), {"residual": False}),
        (with_config(norm_placement="pre"), {"norm_placement": "post"}),
        (with_config(activation="relu"), {"activation": "relu2"}),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_a_broken_decoder_is_noticed(mutant, switches, batch_size):
    with pytest.raises(AssertionError, match="not close"):
        check_agrees(mutant, loud(**switches), batch_size, begin=3)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_rotation_left_out_is_noticed(monkeypatch, batch_size):
    monkeypatch.setattr(decoder, "rotate", lambda x, angles: x)
    with pytest.raises(AssertionError, match="not close"):
        check_agrees(make_decoder, loud(position="rope"), batch_size, begin=3)


# --- whole texts ----------------------------------------------------------------------------------
SETTINGS = [
    {},
    {"temperature": 0},
    {"temperature": 0.7},
    {"top_k": 3},
    {"top_p": 0.8},
    {"temperature": 1.5, "top_k": 5, "top_p": 0.9},
]


def check_writes_what_lesson_6_writes(model, batch_size, length, setting, n=N):
    tokens, device = prompt(length, batch_size), model.head.weight.device
    before = tokens.clone()
    ours, theirs = seeded(2, device), seeded(2, device)
    new = writer.generate(model, tokens.to(device), n, **setting, generator=ours)
    expected = sampling.generate(model, before.to(device), n, **setting, generator=theirs)
    assert torch.equal(new, expected)
    if device.type == "cpu":
        assert torch.equal(ours.get_state(), theirs.get_state()), (
            "the generator is as far as lesson 6's"
        )
    assert torch.equal(tokens, before)
    return new


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("setting", SETTINGS, ids=str)
@pytest.mark.parametrize("position", CHOICES["position"])
def test_generate_writes_what_lesson_6_writes(position, setting, batch_size):
    model = loud(
        position=position, tie_embeddings=False
    )  # tied, so small a model likes to repeat itself
    characters = set()
    for length in (1, T, 2 * T + 3):
        new = check_writes_what_lesson_6_writes(model, batch_size, length, setting)
        characters |= set(new[:, length:].flatten().tolist())
    assert len(characters) > 1, "texts of one character would show little"


@pytest.mark.slow
@pytest.mark.parametrize("activation", CHOICES["activation"])
def test_generate_writes_what_lesson_6_writes_with_other_switches(activation):
    for i, switches in enumerate(GRID):
        model = loud(activation=activation, position=CHOICES["position"][i % 4], **switches)
        check_writes_what_lesson_6_writes(
            model, 1 + 2 * (i % 3 == 0), 3, SETTINGS[i % len(SETTINGS)], n=T + 3
        )


@pytest.mark.parametrize("context_length", [1, 2, 3, 8])
def test_generate_in_the_smallest_contexts(context_length):
    check_writes_what_lesson_6_writes(
        loud(context_length=context_length), 3, 3, {"temperature": 0.8}
    )


def test_generate_draws_from_the_common_generator_if_it_is_given_none():
    texts = []
    for generate in (writer.generate, sampling.generate):
        torch.manual_seed(3)
        texts.append(generate(loud(), prompt(3, 3), N))
    assert torch.equal(*texts)


@pytest.mark.parametrize("length", [1, T, 2 * T + 3])
def test_stream_yields_what_generate_returns(length):
    setting = {"temperature": 0.8, "top_k": 5}
    pieces = list(writer.stream(loud(), prompt(length, 3), N, **setting, generator=seeded()))
    assert [piece.shape for piece in pieces] == [(3, 1)] * N, "one token at a time"
    whole = writer.generate(loud(), prompt(length, 3), N, **setting, generator=seeded())
    assert torch.equal(torch.cat(pieces, dim=1), whole[:, length:])


def test_nothing_asked_for_is_nothing_written():
    assert torch.equal(writer.generate(loud(), prompt(3, 2), 0), prompt(3, 2))


# --- the model is left alone ----------------------------------------------------------------------
@pytest.mark.parametrize("training", [True, False])
def test_dropout_is_off_and_the_model_left_as_it_was(training):
    model = loud(tie_embeddings=False).train(training)
    model.positions.requires_grad_(False)
    before = [(name, p.detach().clone(), p.requires_grad) for name, p in model.named_parameters()]
    out = writer.generate(model, prompt(3, 3), N, temperature=0)
    assert torch.equal(
        out,
        writer.generate(loud(tie_embeddings=False, dropout=0.0), prompt(3, 3), N, temperature=0),
    )
    assert all(module.training == training for module in model.modules())
    for (name, old, needed), (same, p) in zip(before, model.named_parameters(), strict=True):
        assert name == same
        assert torch.equal(p, old)
        assert p.requires_grad == needed
        assert p.grad is None


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_kept_between_the_tokens_of_a_stream(training):
    model = loud().train(training)
    for _ in writer.stream(model, prompt(3, 1), 2 * T):
        assert all(module.training == training for module in model.modules())


def test_a_model_can_go_on_learning_after_it_has_written():
    model = loud().train()
    text = writer.generate(model, prompt(3, 3), T - 2)
    next_character_loss(model, text[:, :-1], text[:, 1:]).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


# --- what is refused ------------------------------------------------------------------------------
@pytest.mark.parametrize("write", [writer.generate, writer.stream, sampling.generate])
@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"temperature": -1}, "temperature must be .* 0"),
        ({"temperature": float("nan")}, "temperature must be .* 0"),
        ({"top_k": 0}, "top_k must be a whole number of at least 1"),
        ({"top_k": 2.5}, "top_k must be a whole number of at least 1"),
        ({"top_p": 0}, r"top_p must lie in \(0, 1\]"),
        ({"top_p": 1.01}, r"top_p must lie in \(0, 1\]"),
        ({"max_new_tokens": -1}, "max_new_tokens must be at least 0"),
    ],
    ids=str,
)
def test_bad_settings_are_refused_as_lesson_6_refuses_them(write, setting, words):
    model = loud().train()
    with pytest.raises(ValueError, match=words) as refusal:
        list(write(model, prompt(1, 1), **{"max_new_tokens": 3, **setting}))
    assert "\n" not in str(refusal.value)
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("shape", [(1, 0), (0,), (3,)])
@pytest.mark.parametrize("write", [writer.generate, writer.stream, sampling.generate])
def test_writing_needs_a_prompt(write, shape):
    with pytest.raises(ValueError, match="prompt of at least one character"):
        list(write(loud(), torch.zeros(shape, dtype=torch.int64), 3))


@pytest.mark.parametrize("write", [writer.generate, sampling.generate])
def test_a_token_that_is_none_leaves_the_mode_as_it_was(write):
    model = loud().train()
    with pytest.raises(IndexError):
        write(model, torch.tensor([[V]]), 3)
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("position", CHOICES["position"])
def test_a_text_longer_than_the_context_is_refused(position):
    """As the model refuses it: nothing is left out in silence."""
    model = loud(position=position).train()
    with pytest.raises(ValueError, match="context length"):
        make_decoder(model).read(prompt(T + 1, 1))
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("position", CHOICES["position"])
def test_a_step_beyond_the_context_is_refused(position, batch_size):
    reader = make_decoder(loud(position=position), batch_size)
    reader.read(prompt(T, batch_size))
    with pytest.raises((ValueError, RuntimeError)):
        reader.step(prompt(1, batch_size))


# --- on a GPU -------------------------------------------------------------------------------------
@on_a_gpu
@pytest.mark.parametrize("activation", CHOICES["activation"])
@pytest.mark.parametrize("position", CHOICES["position"])
def test_step_agrees_with_the_whole_text_on_a_gpu(position, activation):
    for switches in GRID[:: 5 if activation == "gelu" else 11]:
        model = loud(position=position, activation=activation, **switches).cuda()
        for batch_size, begin in ((1, 1), (3, 4)):
            check_agrees(make_decoder, model, batch_size, begin, near=1e-4)


@on_a_gpu
@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("setting", SETTINGS, ids=str)
@pytest.mark.parametrize("position", CHOICES["position"])
def test_a_gpu_writes_what_lesson_6_writes_there(position, setting, batch_size):
    for length in (1, T, 2 * T + 3):
        check_writes_what_lesson_6_writes(
            loud(position=position).cuda(), batch_size, length, setting
        )


@on_a_gpu
def test_a_gpu_writes_past_the_part_of_the_cache_that_it_reads_first():
    model = loud(position="rope", context_length=3 * decoder.REACH + 5).cuda()
    check_writes_what_lesson_6_writes(model, 2, 3, {"temperature": 0.8}, n=4 * decoder.REACH)


@on_a_gpu
def test_a_gpu_writes_greedily_what_a_cpu_writes():
    model, tokens = loud(position="rope"), prompt(3, 3)
    on_cpu = writer.generate(model, tokens, N, temperature=0)
    assert torch.equal(writer.generate(model.cuda(), tokens.cuda(), N, temperature=0).cpu(), on_cpu)
