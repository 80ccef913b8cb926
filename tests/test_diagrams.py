"""Diagrams: drawn from the shapes that they are given, every word whole and apart, twice."""

import itertools

import pytest
import torch
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.text import Text

from course_utils import figures
from course_utils.lessons.attention import causal_attention, split_heads
from course_utils.lessons.model import GPT, GPTConfig

LINE = "To be, or n"
DIAGRAMS = {
    "shifted": lambda **how: figures.shifted(LINE[:-1], LINE[1:], **how),
    "attention_flow": lambda **how: figures.attention_flow(real_shapes(), **how),
    "heads_cut": lambda **how: figures.heads_cut(5, 12, 4, **how),
    "block_sides": figures.block_sides,
    "decoder_stack": lambda **how: figures.decoder_stack(decoder_shapes(), 4, **how),
    "a rotary decoder": lambda **how: figures.decoder_stack(
        decoder_shapes(), 4, position="rope", **how
    ),
    "rotary_turn": lambda **how: figures.rotary_turn(((5, 3), (20, 18)), 20, **how),
    "training_step": lambda **how: figures.training_step(
        {"tokens": (32, 256), "logits": (32, 256, 65)}, **how
    ),
    "kv_cache": lambda **how: figures.kv_cache(7, **how),
}


def real_shapes():
    """The shapes of a real attention, sizes of different primes."""
    x = torch.randn(2, 5, 21)
    q, k, v = (split_heads(x @ torch.randn(21, 21), 3) for _ in range(3))
    out = causal_attention(q, k, v)
    tensors = {"x": x, "q": q, "scores": q @ k.mT, "out": out}
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def decoder_shapes():
    sizes = {"vocab_size": 65, "context_length": 8, "n_layers": 1, "n_heads": 2, "d_model": 12}
    model = GPT(GPTConfig(**sizes, d_ff=24))
    tokens = torch.zeros(2, 5, dtype=torch.int64)
    return {
        "tokens": tuple(tokens.shape),
        "x": tuple(model.embedding(tokens).shape),
        "logits": tuple(model(tokens).shape),
    }


def drawn(figure):
    """The words of a figure and the boxes around them, in pixels, after it was drawn."""
    figure.png()
    renderer = RendererAgg(*figure.canvas.get_width_height(), figure.dpi)
    shown = [
        text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()
    ]
    return [(text.get_text(), text.get_window_extent(renderer)) for text in shown]


@pytest.mark.slow
@pytest.mark.parametrize("language", ["english", "chinese"])
@pytest.mark.parametrize("name", DIAGRAMS)
def test_every_word_is_inside_and_apart(name, language):
    figure = DIAGRAMS[name](language=language, note="A note.", title="What is seen here")
    width, height = figure.canvas.get_width_height()
    words = drawn(figure)
    assert len(words) > 4
    for text, box in words:
        assert min(box.x0, box.y0) >= -1, text
        assert box.x1 <= width + 1, text
        assert box.y1 <= height + 1, text
    for (one, a), (other, b) in itertools.combinations(words, 2):
        apart = a.x1 <= b.x0 + 1 or b.x1 <= a.x0 + 1 or a.y1 <= b.y0 + 1 or b.y1 <= a.y0 + 1
        assert apart, f"{one!r} lies on {other!r}"


@pytest.mark.parametrize("name", DIAGRAMS)
def test_it_says_what_it_shows_in_both_languages(name):
    english, chinese = (DIAGRAMS[name](language=language) for language in ("english", "chinese"))
    assert len(english.get_label()) > 60
    assert any(ord(c) > 0x4E00 for c in chinese.get_label())
    assert english.get_label() != chinese.get_label()


def test_a_diagram_follows_the_shapes():
    """Other sizes, other words: nothing is typed in."""
    shapes = real_shapes()
    words = [text for text, _ in drawn(figures.attention_flow(shapes))]
    assert {"(2, 5, 21)", "(2, 3, 5, 7)", "(2, 3, 5, 5)"} <= set(words)
    other = figures.attention_flow(shapes | {"q": (2, 3, 5, 11)})
    assert "(2, 3, 5, 11)" in [text for text, _ in drawn(other)]
    assert "(2, 5, 65)" in figures.decoder_stack(decoder_shapes(), 4).get_label()


def test_targets_are_the_tokens_one_place_on():
    label = figures.shifted(LINE[:-1], LINE[1:]).get_label()
    assert "T → o, o → ␣, ␣ → b" in label


def test_the_decoder_names_the_positions_that_the_model_has():
    seen = {}
    for position in ("learned", "sinusoidal", "rope", "none"):
        figure = figures.decoder_stack(decoder_shapes(), 4, position=position)
        seen[position] = {text for text, _ in drawn(figure)}, figure.get_label()
    added = {position for position, (words, _) in seen.items() if "embedding + positions" in words}
    assert added == {position for position, (_, label) in seen.items() if "get their" in label}
    assert added == {"learned", "sinusoidal"}
    turned = {position for position, (_, label) in seen.items() if "turns queries" in label}
    assert turned == {"rope"}
    assert "x + attention(norm(x)), rotary" in seen["rope"][0]
