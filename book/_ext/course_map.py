"""Who imports whom in the package, drawn from the code while the page is built."""

import ast
from collections import Counter
from itertools import permutations
from typing import NamedTuple

from course_pictures import drawn
from matplotlib.patches import FancyArrowPatch
from sphinx.util.docutils import SphinxDirective

from course_utils import files
from course_utils.figures.drawing import SMALL, looks, open_figure

PACKAGE = files.PUBLISHED.parent
WIDE = 4  # boxes side by side: as many as a phone can show
BOX = 0.25  # a box's width with the air around it, as a share of the picture
SWEEPS = 4


class Place(NamedTuple):
    """Where a part's box stands."""

    x: float  # 0 … 1
    floor: int


def imported(folder):
    """Which parts of the package each part imports; a folder counts as one. -> {part: set of parts}

    What a function imports when it is called counts too, unless that would close a circle.
    """
    uses = {p.stem if p.is_file() else p.name: set() for p in folder.glob("[a-z_]*") if is_part(p)}
    del uses["__init__"]
    trees = []
    for path in sorted(folder.rglob("*.py")):
        part = path.relative_to(folder).with_suffix("").parts[0]
        if part in uses:
            trees.append((part, ast.parse(path.read_text(encoding="utf-8"))))
    for statements in (lambda tree: tree.body, ast.walk):
        for part, tree in trees:
            for used in sorted({*names(statements(tree))} & uses.keys() - {part}):
                if part not in below(uses, used):
                    uses[part].add(used)
    return uses


def is_part(path):
    return path.suffix == ".py" or (path / "__init__.py").is_file()


def names(statements):
    """The parts of the package that these import."""
    for node in statements:
        if isinstance(node, ast.ImportFrom) and node.module == "course_utils":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("course_utils."):
            yield node.module.split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (
                a.name.split(".")[1] for a in node.names if a.name.startswith("course_utils.")
            )


def below(uses, part):
    """All that a part stands on."""
    return uses[part].union(*(below(uses, used) for used in uses[part]))


def storeys(uses):
    """The floor of each part, from 0 up: right below the parts that use it, at most WIDE on one.

    What no part uses, though a notebook may, stands right above what it uses itself.
    """
    users = {part: {user for user in uses if part in uses[user]} for part in uses}
    depths = {}
    while len(depths) < len(uses):
        ready = sorted(p for p in uses if p not in depths and users[p] <= depths.keys())
        for part in ready:
            depth = max((depths[user] + 1 for user in users[part]), default=0)
            while Counter(depths.values())[depth] == WIDE:
                depth += 1
            depths[part] = depth
    top = max(depths.values())
    floors = {part: top - depth for part, depth in depths.items() if users[part]}
    for part in sorted(uses.keys() - floors.keys()):
        floor = max((floors[used] + 1 for used in uses[part]), default=0)
        while Counter(floors.values())[floor] == WIDE:
            floor += 1
        floors[part] = floor
    return floors


def needed(uses):
    """The arrows that don't follow from others: a → c is left out where a → b → c."""
    return {
        part: used - set().union(*(below(uses, other) for other in used))
        for part, used in uses.items()
    }


def places_of(uses):
    """Where each part's box stands: {part: Place}.

    First each floor in order of names. Then floor by floor, upwards and again, the order in which
    fewest arrows run through boxes, and which makes them short.
    """
    floors = storeys(uses)
    arrows = [(part, used) for part, targets in needed(uses).items() for used in sorted(targets)]
    places = {}
    rows = [sorted(part for part in uses if floors[part] == floor) for floor in range(len(uses))]
    for floor, row in enumerate(rows):
        places |= stand(row, range(len(row)), floor)
    for floor, row in [*enumerate(rows)] * SWEEPS:
        orders = (stand(row, slots, floor) for slots in permutations(range(WIDE), len(row)))
        places |= min(orders, key=lambda order: disorder(places | order, arrows))
    return places


def stand(row, slots, floor):
    """A floor's parts in these slots; every other floor is shifted, so that boxes leave gaps."""
    shift = 0.5 * (floor % 2)
    return {
        part: Place((slot + 0.5 + shift) / (WIDE + 0.5), floor)
        for part, slot in zip(row, slots, strict=True)
    }


def disorder(places, arrows):
    """How many arrows run through boxes, and how far all of them reach sideways."""
    hits = sum(boxes_hit(places, part, used) for part, used in arrows)
    return hits, sum((places[part].x - places[used].x) ** 2 for part, used in arrows)


def boxes_hit(places, part, used):
    """Through how many boxes of the floors between a straight arrow runs."""
    start = places[part]
    end = places[used]
    between = [box for box in places.values() if end.floor < box.floor < start.floor]
    slope = (start.x - end.x) / (start.floor - end.floor)
    return sum(abs(end.x + slope * (box.floor - end.floor) - box.x) < BOX / 2 for box in between)


def course_map(uses):
    """Parts as boxes, imports as arrows down to what is imported; narrow, for a phone. -> Figure"""
    places = places_of(uses)
    arrows = needed(uses)
    top = max(place.floor for place in places.values())
    with open_figure(0.62 * (top + 1)) as (figure, _):
        figure.set_figwidth(4.3)
        axes = figure.subplots()
        axes.set(xlim=(0, 1), ylim=(-0.5, top + 0.5))
        axes.set_axis_off()
        styles = looks(range(top, -1, -1))
        for part, place in places.items():
            color = styles[place.floor]["color"]
            for used in sorted(arrows[part]):
                draw_arrow(axes, place, places[used], color)
            box = {"boxstyle": "round,pad=0.35", "fc": "white", "ec": color, "lw": 1.2}
            middle = {"ha": "center", "va": "center", "zorder": 2}
            axes.text(place.x, place.floor, part, fontsize=SMALL, bbox=box, **middle)
        said = "; ".join(
            f"{part} uses {', '.join(sorted(used))}" for part, used in sorted(uses.items()) if used
        )
        figure.set_label(
            f"Who imports whom among the {len(uses)} parts of the package, from the top down. "
            f"{said}."
        )
    return figure


def draw_arrow(axes, start, end, color):
    """A thin arrow from below one box to above another, behind those between."""
    look = {"arrowstyle": "-|>", "mutation_scale": 9, "lw": 0.8, "color": color, "alpha": 0.6}
    ends = (start.x, start.floor - 0.22), (end.x, end.floor + 0.24)
    axes.add_patch(FancyArrowPatch(*ends, shrinkA=0, shrinkB=0, zorder=1, **look))


class Map(SphinxDirective):
    """`{course_map}`: the package as it is at this moment."""

    def run(self):
        self.env.note_reread()
        figure = course_map(imported(PACKAGE))
        return [drawn(figure, "map", width="560px")]


def setup(app):
    app.add_directive("course_map", Map)
    return {"parallel_read_safe": True}
