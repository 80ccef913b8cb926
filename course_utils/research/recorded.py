"""The recorded study: every run's record in one compressed file, a line each."""

import functools
import json
import lzma
from collections import Counter

import pandas as pd

from course_utils import files
from course_utils.messages import _
from course_utils.training import runs

FILE = files.PUBLISHED / "study" / "records.jsonl.xz"
TEXTS = files.PUBLISHED / "study" / "texts.csv.xz"
SECONDS = files.PUBLISHED / "study" / "seconds.json"  # of a step of each depth on a CPU
JUDGE = files.PUBLISHED / "judge" / "judge.safetensors"  # a model that has read other plays
JUDGED = files.PUBLISHED / "judge" / "texts.csv"  # what it says of TEXTS, and of real ones


def pack(records, path=FILE):
    """Write records to one file; numbers keep six decimals."""
    lines = []
    for record in records:
        content = six_decimals(record.content())
        lines.append(json.dumps(content, ensure_ascii=False) + "\n")
    packed = lzma.compress("".join(lines).encode(), preset=9 | lzma.PRESET_EXTREME)
    files.write(path, packed)


def six_decimals(value):
    """A record's content, each float in it rounded."""
    if isinstance(value, dict):
        return {name: six_decimals(one) for name, one in value.items()}
    if isinstance(value, list):
        return [six_decimals(one) for one in value]
    return round(value, 6) if isinstance(value, float) else value


@functools.cache
def everything(path=FILE):
    """All records of the study; none where the course came without them."""
    if not path.is_file():
        return ()
    try:
        lines = lzma.decompress(path.read_bytes()).decode().splitlines()
        return tuple(runs.RunRecord(**json.loads(line), folder=path.parent) for line in lines)
    except (OSError, ValueError, TypeError, lzma.LZMAError) as error:
        raise files.RunError(
            _(
                "{path} is damaged ({kind}): install the course again",
                path=path,
                kind=type(error).__name__,
            )
        ) from None


def load(study=None, recipe=None, corpus=None):
    """The recorded runs of a study, a recipe, a text; each may be left open."""
    return [
        r
        for r in everything()
        if study in (None, r.study)
        and recipe in (None, r.recipe)
        and (not corpus or r.corpus["sha256"] == corpus.sha256)
    ]


def rows(corpus):
    """Every published row of this text: {"study/recipe/arm": records, one a seed}, by name."""
    rows = {}
    for r in (*everything(), *runs.load_all(files.PUBLISHED)):
        if r.corpus["sha256"] == corpus.sha256:
            rows.setdefault(f"{r.study}/{r.recipe}/{r.arm}", {})[r.seed] = r
    return {name: list(seeds.values()) for name, seeds in sorted(rows.items())}


def whole(records, seeds):
    """Those of arms that have all their seeds: a study may have been recorded in part."""
    count = Counter((r.study, r.recipe, r.arm) for r in records)
    return [r for r in records if count[r.study, r.recipe, r.arm] >= seeds]


def texts():
    """What recorded runs write, measured: a row a text, with quality's columns."""
    return pd.read_csv(TEXTS) if TEXTS.is_file() else pd.DataFrame()
