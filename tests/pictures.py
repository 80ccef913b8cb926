"""How a test looks at a picture: what is drawn and where, and whether words stay apart."""

import itertools
import warnings
from unittest.mock import patch

import numpy as np
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.colors import to_rgb

from course_utils.figures.drawing import FINE


def ink(figure):
    """Draws it with warnings as errors; gives the PNG and each line of text drawn: (text, ismath,
    box in the page's dots)."""
    lines, draw_text = [], RendererAgg.draw_text

    def record(renderer, gc, x, y, text, font, angle, ismath=False, mtext=None):
        w, h, d = renderer.get_text_width_height_descent(text, font, ismath)
        box = (x - h + d, y - w, x + d, y) if angle else (x, y - h + d, x + w, y + d)
        lines.append((text, ismath, tuple(dot / FINE for dot in box)))
        draw_text(renderer, gc, x, y, text, font, angle, ismath, mtext)

    with warnings.catch_warnings(), patch.object(RendererAgg, "draw_text", record):
        warnings.simplefilter("error")  # a missing glyph is a warning
        return figure.png(), lines


def texts(figure):
    return [text.replace("\u00a0", " ") for text, _, _ in ink(figure)[1]]


def badly_placed(lines, width, height):
    """Texts over the edge, and pairs of texts one on the other."""
    off = [t for t, _, (x, y, r, b) in lines if min(x, y) < -2 or r > width + 2 or b > height + 2]
    pairs = itertools.combinations(lines, 2)
    return off + [
        (one, two)
        for (one, _, a), (two, _, b) in pairs
        if min(a[2], b[2]) - max(a[0], b[0]) > 2 and min(a[3], b[3]) - max(a[1], b[1]) > 3
    ]


def legible(figure, png=None, lines=None):
    """Its lines of text: none over the edge, on another or a formula; its words in the file."""
    if png is None:
        png, lines = ink(figure)  # a missing glyph is an error there
    width, height = (int.from_bytes(png[i : i + 4], "big") / FINE for i in (16, 20))
    assert width == 910, "7 inches at 130 dots an inch"
    assert badly_placed(lines, width, height) == []
    assert not [text for text, ismath, _ in lines if ismath], "a dollar sign is a dollar sign"
    words = figure.get_label()
    assert len(words) > 20
    assert any(words.encode(code, "replace") in png for code in ("latin-1", "utf-8")), "alt text"
    return lines


def drawn(figure, label, of=0):
    """The artist with this label, the `of`-th where several panels have one."""
    return figure.findobj(lambda artist: artist.get_label() == label)[of]


def luminance(color):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
    return np.dot([0.2126, 0.7152, 0.0722], linear)
