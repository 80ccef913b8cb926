"""Pictures from inside a model: the numbers drawn are those given, words stay apart,
a missing mask is not drawn."""

import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from course_utils import figures
from course_utils.figures import drawing, inside, words
from course_utils.messages.names import translated
from helpers import LANGUAGES, NOTE
from pictures import drawn, ink, legible, texts

RNG = np.random.default_rng(5)
ALPHABET = sorted(" \n$&'-.3:;?!," + "".join(map(chr, [*range(65, 91), *range(97, 123)])))
VECTORS = RNG.normal(size=(65, 17)) + 3 * np.repeat(np.eye(17)[:5], 13, axis=0)
POSITIONS = {
    "start": RNG.normal(size=(11, 7)),
    "waves": np.cos(np.arange(11)[:, None] / np.arange(1, 8)),
}
TEXT = "ROMEO:\nBut soft, what light through"
PROBABILITIES = RNG.random((3, len(TEXT) - 1))
GUESSES = ["".join(RNG.choice(ALPHABET, len(TEXT) - 1)) for _ in range(2)] + [TEXT[1:]]
SCORES = RNG.normal(size=(2, 3, 13, 13))
WEIGHTS = np.tril(np.exp(SCORES)) / np.tril(np.exp(SCORES)).sum(-1, keepdims=True)
LOSSES = 1.6 + 1 / np.arange(1, 65) + RNG.normal(0, 0.05, 64)
PARTS = {"layer 1 · head 1": 2.5, "layer 1 · head 2": 1.58, "layer 2 · feed-forward": 4.0}
BASELINES = {"uniform": 4.174, "bigram": 2.486, "5-gram": 1.669}

PICTURES = {
    "character_map": lambda **how: figures.character_map(VECTORS, ALPHABET, **how),
    "position_similarity": lambda **how: figures.position_similarity(POSITIONS, **how),
    "logit_lens": lambda **how: figures.logit_lens(GUESSES, PROBABILITIES, TEXT, **how),
    "attention_maps": lambda **how: figures.attention_maps(WEIGHTS, TEXT[:13], **how),
    "parts_removed": lambda **how: figures.parts_removed(PARTS, 1.6, **how),
    "loss_by_position": lambda **how: figures.loss_by_position(LOSSES, BASELINES, **how),
    "a band": lambda **how: figures.loss_by_position(LOSSES, BASELINES, LOSSES / 20, **how),
}


@pytest.mark.slow
@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("picture", PICTURES)
def test_every_word_is_whole_and_apart(picture, language):
    figure = PICTURES[picture](language=language, note=NOTE, title="T")
    assert {translated(NOTE, language), "T"} <= {text for text, _, _ in legible(figure)}


@pytest.mark.slow
@pytest.mark.parametrize("picture", PICTURES)
def test_two_languages(picture):
    figure = {language: PICTURES[picture](language=language) for language in LANGUAGES}
    words, signs = (texts(figure[language]) for language in LANGUAGES)
    assert any("\u4e00" <= c <= "\u9fff" for c in "".join(signs))
    assert not any(
        "\u4e00" <= c <= "\u9fff" for c in "".join(words) + figure["english"].get_label()
    )
    given_names = {*PARTS, *POSITIONS}  # the caller's own
    assert not [sign for sign in signs if re.search(r"[a-z]{3}", sign) and sign not in given_names]
    with pytest.raises(ValueError, match="allowed are english, chinese"):
        PICTURES[picture](language="French")


def test_nothing_is_smaller_than_a_phone_can_show():
    for make in PICTURES.values():
        assert (
            min(text.get_fontsize() for text in make().findobj(drawing.Text) if text.get_text())
            >= 9
        )


def test_the_map_names_the_closest_pairs():
    figure = figures.character_map(VECTORS, ALPHABET)
    alike = (
        VECTORS
        @ VECTORS.T
        / np.linalg.norm(VECTORS, axis=1)
        / np.linalg.norm(VECTORS, axis=1)[:, None]
    )
    i, j = max(itertools.combinations(range(65), 2), key=lambda pair: alike[pair])
    a, b = map(words.visible, (ALPHABET[i], ALPHABET[j]))
    assert any(
        f"closest, by cosine: {x} {y} {alike[i, j]:.2f}," in figure.get_label()
        for x, y in ((a, b), (b, a))
    )
    assert {"⏎", "␣"} <= set(texts(figure))


def test_the_map_keeps_far_apart_what_is_far_apart():
    two = RNG.normal(0, 0.01, (40, 3)) + np.repeat([[5, 0, 0], [0, 5, 0]], 20, axis=0)
    figure = figures.character_map(two, ALPHABET[:40])
    x = [drawn(figure, f"character {words.visible(c)}").get_position()[0] for c in ALPHABET[:40]]
    assert max(x[:20]) < min(x[20:]) or min(x[:20]) > max(x[20:])
    shown = re.search(r"(\d+)%", " ".join(texts(figure)))[1]
    assert int(shown) > 95, "nearly all variation lies along one direction"


@settings(deadline=None)  # a busy machine is no fault
@given(st.lists(st.tuples(st.floats(0, 6), st.floats(0, 4)), min_size=1, max_size=40))
def test_labels_are_pushed_apart(points):
    sizes = np.tile([0.15, 0.2], (len(points), 1))
    places = inside.push_apart(points, sizes)
    for a, b in itertools.combinations(places, 2):
        assert (np.abs(a - b) >= [0.15 - 1e-6, 0.2 - 1e-6]).any()


def test_labels_that_do_not_touch_stay():
    points = np.array([[0, 0], [1, 0], [0, 1.0]])
    assert_array_equal(inside.push_apart(points, np.full((3, 2), 0.5)), points)


def test_similarities_are_cosines():
    figure = figures.position_similarity(POSITIONS)
    for name, vectors in POSITIONS.items():
        expected = [[a @ b / np.sqrt((a @ a) * (b @ b)) for b in vectors] for a in vectors]
        assert_allclose(drawn(figure, name).get_array(), expected, atol=1e-12)
        by_distance = [np.mean([expected[t + d][t] for t in range(11 - d)]) for d in range(11)]
        assert_allclose(drawn(figure, f"{name} mean").get_ydata(), by_distance, atol=1e-12)
    assert f"waves {by_distance[1]:.2f} / {by_distance[5]:.2f}" in figure.get_label()


def test_the_lens_shows_the_guesses():
    figure = figures.logit_lens(GUESSES, PROBABILITIES, TEXT)
    assert_array_equal(drawn(figure, "probability").get_array(), PROBABILITIES)
    cells = [text.get_text() for text in figure.axes[0].texts]
    assert cells == [words.visible(c) for row in GUESSES for c in row]
    assert figure.get_label().endswith(f"layer 2 {len(TEXT) - 1}."), (
        "the last stage is always right here"
    )
    with pytest.raises(ValueError, match="more than the 36"):
        figures.logit_lens(["a" * 40], np.ones((1, 40)), "a" * 41)


def test_maps_are_the_weights_and_the_future_is_hatched():
    figure = figures.attention_maps(WEIGHTS, TEXT[:13])
    for i, (layer, head) in enumerate(np.ndindex(2, 3)):
        shown = drawn(figure, f"panel {i}").get_array()
        assert_array_equal(shown.mask, np.triu(np.ones((13, 13), bool), 1))
        assert_allclose(shown.filled(0), WEIGHTS[layer, head])
    back = np.mean([sum(WEIGHTS[1, 2, t, s] * (t - s) for s in range(13)) for t in range(13)])
    assert f"layer 2 · head 3: {back:.1f} back" in texts(figure)


@pytest.mark.parametrize("layer", [0, 1])
def test_a_missing_mask_is_refused(layer):
    leaky = WEIGHTS.copy()
    leaky[layer, 1, 4, 5] = 0.01
    with pytest.raises(
        ValueError, match=f"layer {layer + 1}, head 2 looks ahead: its mask is missing"
    ):
        figures.attention_maps(leaky, TEXT[:13])


def test_extra_losses_are_differences():
    figure = figures.parts_removed(PARTS, 1.6)
    assert_allclose(drawn(figure, "extra loss").get_xdata(), [0.9, -0.02, 2.4])
    assert {"+0.900", "-0.020", "+2.400", *PARTS} <= set(texts(figure))
    assert "layer 1 · head 2 -0.020" in figure.get_label()


def test_loss_by_position_is_the_loss_by_position():
    figure = figures.loss_by_position(LOSSES)
    assert_array_equal(drawn(figure, "positions").get_ydata(), LOSSES)
    groups = np.split(LOSSES, [1, 2, 4, 8, 16, 32])
    assert_allclose(drawn(figure, "means").get_ydata(), [group.mean() for group in groups])
    assert f"{LOSSES[32:].mean():.2f}" in figure.get_label()


def test_one_head_one_character_one_position():
    ink(figures.attention_maps(np.ones((1, 1, 1, 1)), "a"))
    ink(figures.logit_lens(["a"], [[0.5]], "ab"))
    ink(figures.loss_by_position([2.0]))
    ink(figures.parts_removed({"head": 1.6}, 1.6))
    ink(figures.position_similarity({"one": np.ones((2, 3))}))
    ink(figures.character_map(np.eye(2), "ab"))


def test_a_band_reaches_two_standard_errors_to_either_side():
    errors = np.linspace(0.3, 0.01, len(LOSSES))
    figure = figures.loss_by_position(LOSSES, errors=errors)
    (band,) = figure.axes[0].collections
    edges = band.get_paths()[0].vertices
    for at, loss, error in zip(np.arange(1, len(LOSSES) + 1), LOSSES, errors, strict=True):
        here = edges[edges[:, 0] == at, 1]
        assert_allclose([here.min(), here.max()], [loss - 2 * error, loss + 2 * error])
    plain = figures.loss_by_position(LOSSES)
    assert not plain.axes[0].collections


def test_the_axis_of_positions_ends_with_them():
    axes = figures.loss_by_position(LOSSES, BASELINES).axes[0]
    assert axes.spines["bottom"].get_bounds() == (1, len(LOSSES))


def test_a_map_of_very_many_characters_shows_some_and_says_so():
    """All of them would take a minute at a thousand, and nobody could tell them apart."""
    many = [chr(0x4E00 + i) for i in range(5000)]
    figure = figures.character_map(RNG.normal(size=(5000, 8)), many)
    drawn = [text for text in texts(figure) if text in many]
    assert len(drawn) == 150
    assert (drawn[0], drawn[-1]) == (many[0], many[-1])
    assert "150 of 5,000 characters" in figure.get_label()
    assert "150 of 5,000 characters" in " ".join(texts(figure))
