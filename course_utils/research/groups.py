"""Which runs may be compared with each other: those that differ in the arm alone.

A results folder holds whatever was run there: several texts, studies and recipes, one arm at two
lengths, a recipe before and after it was changed. Here it is sorted, each pile named and judged.
"""

import itertools
from collections import Counter, defaultdict
from dataclasses import dataclass

from course_utils.lessons.model import GPTConfig
from course_utils.messages import _
from course_utils.messages.names import translated
from course_utils.research import comparisons, tables, terminal
from course_utils.research.studies import OF_THE_RUN, STUDIES, Study, changed

SILENT = "smoke"  # a recipe so short and small that its losses say nothing about arms


@dataclass
class Group:
    """Runs that may be compared, in the order of their arms."""

    title: str
    records: list
    study: Study | None  # None: one that the course doesn't know, or `course train`

    @property
    def reference(self):
        """The arm that all are measured against; "" where each is against the one before."""
        if self.study:
            return self.study.reference
        return comparisons.REFERENCE if comparisons.REFERENCE in self.arms else ""

    @property
    def silent(self):
        return self.records[0].recipe == SILENT

    @property
    def arms(self):
        """arm -> its records"""
        arms = defaultdict(list)
        for r in self.records:
            arms[r.arm].append(r)
        return arms


def of_study(study, records):
    """What a study asked for: its runs in its order, whatever study they were made for."""
    title = titled(study.name, records[0].recipe, records[0].corpus["name"])
    return Group(title, records, study)


def titled(study, recipe, text, more=""):
    """What a group is called; more: what tells it from others of these three."""
    return _("{study}, recipe {recipe}, {text}", study=study, recipe=recipe, text=text) + more


def of_folder(records):
    """All groups that these records make, each run in every study that asks for it."""
    groups = []
    texts = names_of_texts(records)
    for name in sorted({r.study for r in records}):
        study = STUDIES.get(name)

        # First, the runs that the study asks for as it and the recipe are written today; apart from
        # them those that were made for it by another text of the course.
        piles = defaultdict(dict)
        for r in records:
            asked = bool(study) and asks_for(study, r)
            if asked or r.study == name:
                pile = piles[r.recipe, texts[r.corpus["sha256"]], asked]
                if r.study == name or r.name not in pile:  # made for two studies, it counts once
                    pile[r.name] = r

        # Then, apart go those that differ in more than their arm.
        for (recipe, text, asked), pile in sorted(piles.items()):
            earlier = _(", as an earlier version had it") if study and not asked else ""
            for words, part in parted(list(pile.values()), study):
                title = titled(name, recipe, text, words + earlier)
                groups.append(Group(title, in_order(part, study), study))
    return [g for g in groups if not any(told_by(other, g) for other in groups)]


def told_by(other, group):
    """Whether another group has all the runs of this one, and more (or as many: then by title)."""
    mine = {r.name for r in group.records}
    theirs = {r.name for r in other.records}
    return mine < theirs or (mine == theirs and other.title < group.title)


def names_of_texts(records):
    """{sha256: name}, with a part of the sha256 where two texts have one name."""
    names = {r.corpus["sha256"]: r.corpus["name"] for r in records}
    count = Counter(names.values())
    return {
        sha256: f"{name} ({sha256[:8]})" if count[name] > 1 else name
        for sha256, name in names.items()
    }


def in_order(records, study):
    """As the study has its arms; without one, the shallow first. Then by seed."""
    place = {arm: i for i, arm in enumerate(study.arms)} if study else {}

    def key(record):
        return place.get(record.arm, len(place)), record.model["n_layers"], record.arm, record.seed

    return sorted(records, key=key)


# --- what an arm may change ----------------------------------------------------------------------
def settings(record):
    """All that decides a run, but its seed and its text."""
    every = record.model | record.train | {name: getattr(record, name) for name in OF_THE_RUN}
    every["plays"] = record.draw
    del every["seed"]
    return every


def own(study, arm=None):
    """The settings that this arm of a study may change; without an arm, those that any may.

    Where the study isn't known, an arm is another model, and no other training.
    """
    if study is None:
        return set(GPTConfig.__dataclass_fields__)
    arms = study.arms.values() if arm is None else [study.arms.get(arm, {})]
    names = {name for changes in arms for name in changes}
    for name, follows in (
        ("context_length", "batch_size"),
        ("batch_size", "steps"),
        ("steps", "evaluate_every"),
    ):
        if name in names:
            names.add(follows)
    return names


def asks_for(study, record):
    """Whether a study asks for this very run, as it and the recipe are written today."""
    if record.arm not in study.arms or (study.after and record.study != study.name):
        return False
    rates = defaultdict(lambda: record.train["learning_rate"])  # whichever was the best then
    try:
        base = study.base(record.recipe, record.seed, record.model["vocab_size"], rates)
    except ValueError:  # a recipe that the course no longer has
        return False
    wanted = changed(base, study.arms[record.arm], rates)
    del wanted["seed"]
    return wanted == settings(record)


def parted(records, study):
    """The records in parts that differ in nothing but what arms may change. -> [(words, part), …]

    words: the values that tell this part from the others, ", steps 20"; empty where all is one.
    """
    values = defaultdict(set)  # of each setting, over all runs
    of_arm = defaultdict(set)  # and over those of one arm
    for r in records:
        for name, value in settings(r).items():
            values[name].add(value)
            of_arm[name, r.arm].add(value)
    torn = {name for (name, _), several in of_arm.items() if len(several) > 1}
    foreign = {name for name in values.keys() - own(study) if len(values[name]) > 1}

    parts = defaultdict(list)
    for r in records:
        words = [f", {name} {settings(r).get(name)}" for name in sorted(torn | foreign)]
        parts["".join(words)].append(r)
    return sorted(parts.items())


def extra(study, record, other):
    """The settings in which two runs differ without either's arm saying so, in words."""
    allowed = own(study, record.arm) | own(study, other.arm)
    one = settings(record)
    two = settings(other)
    return ", ".join(
        _("{name} ({one} and {other})", name=name, one=one.get(name), other=two.get(name))
        for name in sorted(one.keys() | two.keys())
        if name not in allowed and one.get(name) != two.get(name)
    )


# --- what is said of a group ---------------------------------------------------------------------
def in_words(group):
    """Its arms as a table, and what may be said of them: text for a terminal."""
    arms = tables.arm_table(tables.final_table(group.records))
    text = f"{group.title}\n{terminal.table([arm_row(row) for row in arms.itertuples()])}\n"
    if group.reference and not group.silent:
        return text + against_reference(group)
    return "\n".join([text.rstrip("\n"), *verdicts(group)])


def arm_row(row):
    """Five columns that fit any terminal."""
    return {
        _("arm"): translated(row.arm),
        _("seeds"): str(row.seeds),
        _("loss"): f"{row.validation_loss:.4f}",
        _("95 % interval"): interval(row.loss_low, row.loss_high) if row.seeds > 1 else "–",
        _("perplexity"): f"{row.perplexity:.3f}",
    }


def interval(low, high):
    return _("{low:.3f} to {high:.3f}", low=low, high=high)


def verdicts(group):
    """Each arm against the one before it: sentences."""
    if group.silent:
        yield _("No verdict: the recipe {silent} is too small to tell arms apart.", silent=SILENT)
        return
    for before, arm in itertools.pairwise(group.arms.values()):
        if differing := extra(group.study, before[0], arm[0]):
            yield _(
                "{arm} and {other} differ in {differing} too, so they are not compared.",
                arm=translated(arm[0].arm),
                other=translated(before[0].arm),
                differing=differing,
            )
        else:
            (comparison,) = comparisons.adjacent([*before, *arm])
            yield comparison.verdict


def against_reference(group):
    """Every arm against the reference: a table, and what is left out of it."""
    reference = group.arms.get(group.reference)
    if not reference:
        return _(
            "The arm {reference}, to compare with, is not among these runs: no verdict.",
            reference=group.reference,
        )
    records = []
    said = []
    for arm, runs in group.arms.items():
        if differing := extra(group.study, reference[0], runs[0]):
            said.append(
                _(
                    "{arm} differs in {differing} too, so it is not compared.",
                    arm=translated(arm),
                    differing=differing,
                )
            )
        else:
            records.extend(runs)
    effects = comparisons.against(records, group.reference)
    if len(effects):
        rows = [effect_row(row) for row in effects.itertuples()]
        said.insert(
            0,
            _(
                "\nAgainst {reference}, on the half that reports:\n{rows}",
                reference=translated(group.reference),
                rows=terminal.table(rows),
            ),
        )
    return "\n".join(said)


def effect_row(row):
    return {
        _("arm"): translated(row.arm),
        _("seeds"): str(row.seeds),
        _("difference"): f"{row.difference:+z.4f}",
        _("95 % interval"): _("{low:+z.3f} to {high:+z.3f}", low=row.low, high=row.high)
        if row.seeds > 1
        else "–",
        _("p, corrected"): f"{row.p_holm:.2g}" if row.seeds > 1 else "–",
    }
