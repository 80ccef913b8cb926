"""What every picture shares: its style, its colours, a Figure that says what it shows, its axes."""

import html
import io
import re
from contextlib import contextmanager
from pathlib import Path

import matplotlib.figure
import numpy as np
from matplotlib import style
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.text import Text
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from course_utils.figures.words import chosen, fold, fonts, speaker, translated

STYLE = Path(__file__).with_name("course.mplstyle")
WIDTH = 7  # inches
SMALL = 10  # points
AMBER = "#d08000"
BLUE = "#00688a"
NIGHT = "#1d1b4d"
RUST = "#b05a00"
RED = "#a02020"
GREY = "#666666"
INK = "#222222"
SHADES = LinearSegmentedColormap.from_list(
    "depth", [AMBER, BLUE, NIGHT]
)  # ever darker, in grey too
MOST_MARKS = 30  # on a line
MARKERS = "o^sDvP*X"
UNSEEN = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
SVG = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
NAMES = re.compile(r'(id="|url\(#|href="#)')  # of an SVG's parts, and where others refer to them
FAMILIES = re.compile(r"font-family: [^;]+")  # of an SVG's text
FINE = 2  # dots of a PNG's side on one of the page's, as fine screens have them


class Figure(matplotlib.figure.Figure):
    """A figure that keeps its style until it is drawn and shows itself in a notebook.

    Its label is its alt text, and is heard in a notebook too. Nothing of it stands in pyplot's
    global state, so it is neither shown twice nor left open.
    """

    look = ()
    language = "english"

    def draw(self, renderer):
        with style.context(self.look, after_reset=True):  # ticks choose their fonts only now
            super().draw(renderer)

    def png(self):
        """The picture as bytes, the same for the same data, sharp on a fine screen and on paper.

        A palette makes up for the many dots. Two texts lie in it: Description, the alt text, and
        Drawing, the picture as SVG, which `drawing` finds for a page.
        """
        file = io.BytesIO()
        self.savefig(file, format="png", dpi=FINE * self.dpi)
        picture = Image.open(file)
        within = PngInfo()
        within.add_itxt("Description", self.get_label())
        within.add_itxt("Drawing", self.svg("drawing"), zip=True)

        how = {"method": Image.Quantize.MAXCOVERAGE, "dither": Image.Dither.NONE}
        few = picture.convert("RGB").quantize(**how)
        file = io.BytesIO()
        few.save(file, "png", dpi=picture.info["dpi"], pnginfo=within, optimize=True)
        return file.getvalue()

    def svg(self, name):
        """The picture as an element for a page: sharp at any size, its words selectable.

        Its ground is the page's; its label is what a screen reader says. name: a word of letters,
        by which the parts of two pictures on one page differ.
        """
        file = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        self.savefig(file, format="svg", facecolor="none", metadata=nothing)
        picture = file.getvalue()

        # First what is inside; subtle: a page would give an element's style sheet to all of it.
        inside = picture[picture.index(">", picture.index("<svg")) + 1 :]
        inside = re.sub(r"<style.*?</style>", "", inside, flags=re.DOTALL)
        inside = re.sub(r'<g id="[^"]*"', "<g", inside)  # names that nothing refers to
        inside = FAMILIES.sub(kind_of_font, inside)

        # Then the element around it, as wide as the page lets it be.
        box = re.search(r'viewBox="[^"]*"', picture)[0]
        label = html.escape(self.get_label())
        how = 'stroke-linejoin="round" stroke-linecap="butt"'
        return named(f'<svg {SVG} {box} {how} role="img" aria-label="{label}">{inside}', name)

    def outputs(self):
        """What a notebook shows, one after the other, each as (forms, what is said of them).

        A PNG, because JupyterLab shows no SVG before a cell has run, and GitHub not all of one. No
        alt text of it is read out there or on nbconvert's pages, so its words come first.
        """
        alt = self.get_label()
        picture = {"image/png": self.png(), "text/plain": alt}
        about = {"alt": alt, "width": round(self.get_figwidth() * self.dpi)}
        return [({"text/html": words(alt)}, {}), (picture, {"image/png": about})]

    def _ipython_display_(self):
        from IPython.display import display  # who calls this has it

        for forms, about in self.outputs():
            display(forms, metadata=about, raw=True)


def kind_of_font(families):
    """With what to take where a reader has none of the FAMILIES."""
    return families[0] + (", monospace" if "Mono" in families[0] else ", sans-serif")


def named(picture, name):
    """An SVG, the name before the names of its parts."""
    return NAMES.sub(rf"\g<1>{name}-", picture)


def drawing(png, name):
    """The SVG that lies in a Figure's PNG, its parts named anew; None in any other picture.

    png: a path, or a file of bytes. name: as in `Figure.svg`.
    """
    with Image.open(png) as picture:
        found = picture.info.get("Drawing")
    return found and named(found, name)


def words(alt):
    """An unseen picture with these words, as HTML, for whoever hears a page.

    A picture, because a page that strips roles and styles from a notebook leaves it its alt text.
    """
    return f'<img alt="{html.escape(alt)}" src="{UNSEEN}" style="position: absolute">'


@contextmanager
def open_figure(height, language=None, note=""):
    """A new figure of this height in inches, and `say` of its language; the note at its foot."""
    language = chosen(language)
    say = speaker(language)
    look = [STYLE, {"font.family": fonts(language)}]
    with style.context(look, after_reset=True):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        figure.look = look
        figure.language = language
        yield figure, say
        if note:
            lines = fold(translated(note, language), 84)
            figure.supxlabel("\n".join(lines), color=RED, fontsize=SMALL, x=0.01, ha="left")
            figure.set_figheight(figure.get_figheight() + 0.2 * len(lines))
        for text in figure.findobj(Text):
            if text.get_fontfamily()[0] == "Noto Sans SC":
                text.set_linespacing(1.5)  # Chinese signs fill their line


def head(figure, title, columns=66):
    """The title, above everything, at the left; the figure grows to hold it."""
    if title:
        lines = fold(title, columns)
        figure.suptitle("\n".join(lines), x=0.01, ha="left")
        figure.set_figheight(figure.get_figheight() + 0.25 * len(lines))


def explain(axes, *lines, **how):
    """What the marks mean, small and grey above the axes."""
    axes.set_title("\n".join(lines), fontsize=SMALL, color=GREY, **how)


def looks(labels):
    """A colour and a marker for each label, from light to dark: label -> {"color", "marker"}."""
    labels = list(dict.fromkeys(labels))
    shades = SHADES(np.linspace(0, 1, len(labels)) if len(labels) > 1 else [0.5])
    return {
        label: {"color": to_hex(shade), "marker": MARKERS[i % len(MARKERS)]}
        for i, (label, shade) in enumerate(zip(labels, shades, strict=True))
    }


def marked(look, count):
    """The look of a line: each of a few points has its mark, a curve of many has none."""
    return look if count <= MOST_MARKS else look | {"marker": ""}


def end_at(axes, x):
    """Let the x axis end where the data do; what is right of that is room for names."""
    low, high = ends_of(x)
    axes.spines["bottom"].set_bounds(low, high)
    for minor in (False, True):
        ticks = axes.get_xticks(minor=minor)
        within = [tick for tick in ticks if low <= tick <= high or np.isclose(tick, high)]
        axes.set_xticks(within, minor=minor)


def seed_dots(axes, x, y, arm, color):
    """A small hollow dot for each seed of an arm."""
    axes.plot(x, y, "o", color=color, mfc="none", ms=4, label=f"{arm} seeds")


def list_down(axes, names, top=0.5, lines=False):
    """Rows of a list, the first at the top and named at the left. lines: to follow a row by."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 1 + top, -top)
    axes.grid(visible=lines, axis="y")


def padded(values, baselines=None):
    """Axis limits a little wider than the finite values, and than any baseline close by."""
    values = np.asarray(values, float)
    finite = values[np.isfinite(values)]
    if not len(finite):
        finite = np.array([0.0, 1.0])
    low = finite.min()
    high = finite.max()
    near = 0.25 * (high - low)
    reached = [value for value in (baselines or {}).values() if low - near <= value <= high + near]
    low = min([low, *reached])
    high = max([high, *reached])
    pad = 0.07 * (high - low) or 0.05 * abs(high) or 1
    return low - pad, high + pad


def ends_of(x):
    """Axis limits from the first to the last x, one apart where there is only one."""
    low = np.min(x)
    high = np.max(x)
    return low, high if high > low else low + 1
