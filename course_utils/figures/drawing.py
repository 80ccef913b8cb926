"""What every picture shares: style, fonts, notes, colours, labels that keep apart, alt text."""

import io
import re
import unicodedata
from base64 import b64encode
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from textwrap import wrap

import matplotlib.figure
import numpy as np
from matplotlib import font_manager, style
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.text import Text

STYLE = Path(__file__).with_name("course.mplstyle")
SHADES = LinearSegmentedColormap.from_list(
    "depth", ["#d08000", "#00688a", "#1d1b4d"]
)  # ever darker: reads in grey too
MARKERS, GREY, RED, SMALL = "o^sDvP*X", "#666666", "#a02020", 10
WIDTH = 7  # inches
GAP = 0.025  # between a line's end and its label, as a share of the axes
CHINESE = {
    "uniform": "均匀分布",
    "unigram": "一元语法",
    "bigram": "二元语法",
    "human reference": "真人原文",
}
CHINESE |= {f"{i}-gram": f"{sign}元语法" for i, sign in enumerate("一二三四五六七八九", start=1)}


@cache
def fonts(language):
    """Font families in the order to try; "Noto Sans SC" comes with the package zhplot."""
    package = find_spec("zhplot")  # found, not imported: importing it changes matplotlib's defaults
    if package is None:
        if language == "chinese":
            raise ModuleNotFoundError(
                "Chinese labels need the font in the package zhplot: pip install zhplot"
            )
        return ["DejaVu Sans"]
    font_manager.fontManager.addfont(
        Path(package.origin).parent / "fonts" / "NotoSansSC-Regular.ttf"
    )
    return (
        ["Noto Sans SC", "DejaVu Sans"]
        if language == "chinese"
        else ["DejaVu Sans", "Noto Sans SC"]
    )


@cache
def has_glyph(character):
    """Whether one of the fonts can draw this character, and it is something to see."""
    if unicodedata.category(character) in ("Cc", "Cf"):
        return False
    files = (font_manager.findfont(family) for family in fonts("english"))
    return any(font_manager.get_font(file).get_char_index(ord(character)) for file in files)


def drawable(text):
    """The text, with the code point, "U+202E", in place of an unseen control or a character that no font has."""
    return "".join(
        c if c == "\n" or has_glyph(c) else f"U+{ord(c):04X}" for c in str(text).expandtabs(4)
    )


def visible(text):
    """The text as a label: a space as ␣, a line break as ⏎."""
    return drawable(str(text).replace(" ", "␣").replace("\n", "⏎"))


def width(text):
    """How many columns of a fixed-width font the text takes: a Chinese sign takes two."""
    return sum(1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def fold(text, columns, indent=""):
    """The text's lines, none wider than so many columns; indent: before each continued line."""
    columns = columns // 2 if width(text) > 1.5 * len(text) else columns
    return [
        part
        for line in drawable(text).split("\n")
        for part in wrap(line, columns, subsequent_indent=indent) or [""]
    ]


class Figure(matplotlib.figure.Figure):
    """A figure that keeps its style until it is drawn and shows itself in a notebook, its label as alt text.

    Nothing of it stands in pyplot's global state, so it is neither shown twice nor left open.
    """

    look, language = (), "english"

    def draw(self, renderer):
        with style.context(self.look, after_reset=True):  # ticks choose their fonts only now
            super().draw(renderer)

    def png(self):
        """The picture as bytes, the same for the same data, with the alt text as its Description."""
        file = io.BytesIO()
        self.savefig(
            file, format="png", metadata={"Software": None, "Description": self.get_label()}
        )
        return file.getvalue()

    def data_uri(self):
        """The picture as an address that holds it, for a page that loads nothing."""
        return "data:image/png;base64," + b64encode(self.png()).decode()

    def _repr_mimebundle_(self, include=None, exclude=None):
        alt = self.get_label()
        return {"image/png": self.png(), "text/plain": alt}, {"image/png": {"alt": alt}}


@contextmanager
def open_figure(height, language="english", note="", title=""):
    """A new figure of this height in inches, and `say(english, chinese)`, which picks the words; note at the foot."""
    if language not in ("english", "chinese"):
        raise ValueError(f"unknown language {language!r}; allowed are english, chinese")
    look = [STYLE, {"font.family": fonts(language)}]
    with style.context(look, after_reset=True):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        figure.look, figure.language = look, language
        yield figure, lambda english, chinese: chinese if language == "chinese" else english
        if note:
            lines = fold(note, 84)
            figure.supxlabel("\n".join(lines), color=RED, fontsize=SMALL, x=0.01, ha="left")
            figure.set_figheight(figure.get_figheight() + 0.2 * len(lines))
        for text in figure.findobj(Text):
            if text.get_fontfamily()[0] == "Noto Sans SC":
                text.set_linespacing(1.5)  # Chinese signs fill their line


def head(figure, title):
    """The title, above everything, at the left; the figure grows to hold it."""
    if title:
        lines = fold(title, 66)
        figure.suptitle("\n".join(lines), x=0.01, ha="left")
        figure.set_figheight(figure.get_figheight() + 0.25 * len(lines))


def name(label, language):
    """An arm's or a baseline's name in this language: "2 layers" -> "2 层"."""
    if language == "chinese":
        label = CHINESE.get(label) or re.sub(r"^(\d+) layers?\b", r"\1 层", label)
        label = re.sub(r", (\d+) steps$", r"，\1 步", re.sub(r", width (\d+)$", r"，宽 \1", label))
    return drawable(label)


def looks(labels):
    """A colour and a marker for each label, in order from light to dark: {label: {"color": …, "marker": …}}."""
    labels = list(dict.fromkeys(labels))
    shades = SHADES(np.linspace(0, 1, len(labels)) if len(labels) > 1 else [0.5])
    return {
        label: {"color": to_hex(shade), "marker": MARKERS[i % len(MARKERS)]}
        for i, (label, shade) in enumerate(zip(labels, shades, strict=True))
    }


def padded(values, baselines=None):
    """Axis limits a little wider than the finite values, and than any baseline that lies close by."""
    values = np.asarray(values, float)
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if len(finite) else (0, 1)
    near = 0.25 * (high - low)
    reached = [value for value in (baselines or {}).values() if low - near <= value <= high + near]
    low, high = min([low, *reached]), max([high, *reached])
    pad = 0.07 * (high - low) or 0.05 * abs(high) or 1
    return low - pad, high + pad


def ends_of(x):
    """Axis limits from the first to the last x, one apart where there is only one."""
    low, high = np.min(x), np.max(x)
    return low, high if high > low else low + 1


def spread(values, gap, low, high):
    """The values moved to lie `gap` apart, in their order, and within low … high where there is room."""
    order = np.argsort(values, kind="stable")
    steps = gap * np.arange(len(order))
    shifted = np.asarray(values, float)[order] - steps  # may not fall from one to the next
    up, down = np.maximum.accumulate(shifted), np.minimum.accumulate(shifted[::-1])[::-1]
    places = np.empty(len(order))
    places[order] = np.clip((up + down) / 2, low, high - steps[-1]) + steps
    return places


def make_room(axes, ends):
    """Widen the x axis, its limits already set to the data, so that labels fit right of the ends; no tick stands there.

    ends: [(x, y, text, colour)].
    """
    box = axes.get_window_extent()  # before the layout: a little smaller than it will be
    label = (
        0.62
        * SMALL
        / 72
        * max(width(text) for _, _, text, _ in ends)
        / (box.width / axes.figure.dpi)
        + GAP
    )
    (start, _), (data, _), (end, _) = axes.transData.transform(
        [
            (x, axes.get_ylim()[0])
            for x in (axes.get_xlim()[0], axes.get_xlim()[1], max(x for x, *_ in ends))
        ]
    )
    stretched = max(data, start + (end - start) / (1 - label))
    ticks = axes.get_xticks()
    axes.set_xticks(ticks[(ticks >= axes.get_xlim()[0]) & (ticks <= axes.get_xlim()[1])])
    axes.set_xlim(right=axes.transData.inverted().transform((stretched, box.y0))[0])


def label_ends(axes, ends):
    """Name lines at their right ends, in a column, in the room made for them. ends: [(x, y, text, colour)]."""
    box = axes.get_window_extent()
    last = max(x for x, *_ in ends)
    left = (axes.transData.transform((last, axes.get_ylim()[0]))[0] - box.x0) / box.width + GAP
    low, high = axes.get_ylim()
    gap = 1.4 * SMALL / 72 / (box.height / axes.figure.dpi) * (high - low)
    places = spread([y for _, y, _, _ in ends], gap, low + gap / 2, high - gap / 2)
    for (x, y, text, color), place in zip(ends, places, strict=True):
        arrow = {"arrowstyle": "-", "color": color, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3}
        arrow = (
            arrow if x < last or abs(place - y) > gap / 4 else None
        )  # a leader only where the label is not beside
        at = {
            "xy": (x, y),
            "xytext": (left, place),
            "textcoords": axes.get_yaxis_transform(),
            "va": "center",
        }
        back = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.5}
        axes.annotate(text, **at, fontsize=SMALL, color=color, arrowprops=arrow, bbox=back)


def draw_baselines(line, limits, baselines, language, form="{:.3f}"):
    """Thin lines for the baselines within the limits; line: axes.axhline or axes.axvline.

    Gives [(value, text)] of those drawn, and a list of at most one sentence that names those beyond the limits.
    """
    inside, outside = [], []
    for key, value in (baselines or {}).items():
        text = f"{name(key, language)} {form.format(value)}"
        if limits[0] <= value <= limits[1]:
            line(value, color=GREY, lw=0.8, ls=":", label=key)
            inside.append((value, text))
        else:
            outside.append(text)
    words = "图外：" if language == "chinese" else "off the range: "
    return inside, [words + ", ".join(outside)] if outside else []
