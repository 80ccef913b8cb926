"""Folders that confuse: what `course compare` may say of them, and what never.

The losses are made up so that whoever mixes what can't be compared says something false: with more
layers a run is better in truth, and everything that should be kept apart turns that round.
"""

import json
import re
import shutil
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest

from course_utils import commands, files
from course_utils.research import comparisons, groups, recorded, studies, tables
from course_utils.training import recipes, runs

TEXT = SimpleNamespace(text="abcdefghijk", name="input.txt", sha256="1" * 64)
OTHER = SimpleNamespace(text="abcdefghijk", name="input.txt", sha256="2" * 64)
SAMPLE = json.loads(next((files.PUBLISHED / "logs").glob("2-layers*")).read_text("utf-8"))
DEPTH = studies.STUDIES["depth"]


def keep(folder, spec, loss, text=TEXT):
    """Write the record of a run that reached this loss. -> its path"""
    content = SAMPLE | {
        "name": spec.name,
        "study": spec.study,
        "recipe": spec.recipe,
        "arm": spec.arm,
        "seed": spec.train.seed,
        "fingerprint": spec.fingerprint,
        "model": asdict(spec.model),
        "train": asdict(spec.train),
        "corpus": SAMPLE["corpus"] | {"name": text.name, "sha256": text.sha256},
        "data_share": spec.data_share,
    }
    luck = 0.01 * (spec.train.seed % 7)
    for name in ("validation_loss", "choosing_loss", "reporting_loss"):
        content[name] = loss + luck + 1e-4 * len(spec.fingerprint.strip("0123456789"))
    path = folder / "logs" / f"{spec.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def train(n_layers, seed, text=TEXT, recipe="laptop", **changes):
    """What `course train` runs."""
    arm = recipes.layers(n_layers)
    (spec,) = studies.Study("train", "", {arm: {"n_layers": n_layers}}).specs(recipe, [seed], text)
    return replace(spec, train=replace(spec.train, **changes))


def depth(seeds=(0, 1), arms=("2 layers", "4 layers", "6 layers"), recipe="laptop", text=TEXT):
    return [spec for spec in DEPTH.specs(recipe, seeds, text) if spec.arm in arms]


def loss(spec):
    """The truth: each layer helps a little."""
    return 2.0 - 0.02 * spec.model.n_layers


def said(folder):
    """{title: what is said} of everything in a folder."""
    found = groups.of_folder(runs.load_all(folder))
    words = {group.title: groups.in_words(group) for group in found}
    assert len(words) == len(found), "each group has a title of its own"
    return words


def seeds_of(words, arm):
    (row,) = re.findall(rf"^{re.escape(arm)} +(\d+) ", words, re.MULTILINE)
    return int(row)


def false(words):
    return re.findall(r".* predict worse .*", "\n".join(words.values()))


def test_a_plain_study_gets_its_verdicts(tmp_path):
    for spec in depth():
        keep(tmp_path, spec, loss(spec))
    (words,) = said(tmp_path).values()
    assert len(re.findall(r"predict better than \d layers: -0\.04\d", words)) == 2
    assert words.index("2 layers") < words.index("4 layers") < words.index("6 layers")


# --- each of these folders is one confusion ------------------------------------------------------
def two_lengths_of_one_arm(folder):
    for seed in (0, 1):
        keep(folder, train(2, seed, steps=20), 3.0)
        keep(folder, train(2, seed, steps=200), 1.9)
        keep(folder, train(4, seed, steps=20), 2.9)
    return {
        "train, recipe laptop, input.txt, steps 20": {"2 layers": 2, "4 layers": 2},
        "train, recipe laptop, input.txt, steps 200": {"2 layers": 2},
    }


def two_arms_of_two_lengths(folder):
    for seed in (0, 1):
        keep(folder, train(2, seed, steps=200), 1.9)
        keep(folder, train(4, seed, steps=20), 2.9)
    return {
        "train, recipe laptop, input.txt, steps 200": {"2 layers": 2},
        "train, recipe laptop, input.txt, steps 20": {"4 layers": 2},
    }


def two_texts_of_one_name(folder):
    for seed in (0, 1):
        keep(folder, train(2, seed), 1.9)
        keep(folder, train(4, seed, OTHER), 2.9, OTHER)
    return {
        "train, recipe laptop, input.txt (11111111)": {"2 layers": 2},
        "train, recipe laptop, input.txt (22222222)": {"4 layers": 2},
    }


def a_text_that_was_edited_between_two_seeds(folder):
    for seed, text, hard in ((0, TEXT, 0.0), (1, OTHER, 1.0)):
        for spec in depth([seed], text=text):
            keep(folder, spec, loss(spec) + hard * (spec.arm == "4 layers"), text)
    arms = {"2 layers": 1, "4 layers": 1, "6 layers": 1}
    return {
        "depth, recipe laptop, input.txt (11111111)": arms,
        "depth, recipe laptop, input.txt (22222222)": arms,
    }


def copies_of_a_record(folder):
    for spec in depth():
        path = keep(folder, spec, loss(spec))
        for end in (" (conflicted copy)", " (1)"):
            shutil.copy(path, path.with_name(f"{path.stem}{end}.json"))
        copy = json.dumps(json.loads(path.read_text()) | {"validation_loss": 9.0})
        path.with_name(f"copy of {path.name}").write_text(copy)
    return {"depth, recipe laptop, input.txt": {"2 layers": 2, "4 layers": 2, "6 layers": 2}}


def what_systems_leave_behind(folder):
    for spec in depth():
        path = keep(folder, spec, loss(spec))
        path.with_name(f"._{path.name}").write_bytes(b"\x00\x05\x16\x07\x00\x02")
        path.with_name(f".{path.name}.4711").write_text("{")
    return {"depth, recipe laptop, input.txt": {"2 layers": 2, "4 layers": 2, "6 layers": 2}}


def a_record_under_the_name_of_another(folder):
    paths = [keep(folder, spec, loss(spec)) for spec in depth()]
    paths[0].write_bytes(paths[-1].read_bytes())
    return {"depth, recipe laptop, input.txt": {"2 layers": 1, "4 layers": 2, "6 layers": 2}}


def seeds_a_thousand_apart(folder):
    for spec in depth([0, 1000]):
        keep(folder, spec, loss(spec))
    return {"depth, recipe laptop, input.txt": {"2 layers": 2, "4 layers": 2, "6 layers": 2}}


def a_single_run_before_the_study(folder):
    keep(folder, train(4, 0), loss(train(4, 0)))
    for spec in depth():
        if (spec.arm, spec.train.seed) != ("4 layers", 0):  # it is found, and not run again
            keep(folder, spec, loss(spec))
    return {"depth, recipe laptop, input.txt": {"2 layers": 2, "4 layers": 2, "6 layers": 2}}


def all_runs_of_an_arm_from_elsewhere(folder):
    for seed in (0, 1):
        keep(folder, train(4, seed), loss(train(4, seed)))
    for spec in depth(arms=("2 layers", "6 layers")):
        keep(folder, spec, loss(spec))
    return {"depth, recipe laptop, input.txt": {"2 layers": 2, "4 layers": 2, "6 layers": 2}}


def a_recipe_that_changed_between_two_arms(folder):
    for spec in depth():
        if spec.arm == "2 layers":
            keep(folder, replace(spec, train=replace(spec.train, steps=9999)), 1.0)
        else:
            keep(folder, spec, loss(spec))
    return {
        "depth, recipe laptop, input.txt": {"4 layers": 2, "6 layers": 2},
        "depth, recipe laptop, input.txt, as an earlier version had it": {"2 layers": 2},
    }


def a_recipe_that_changed_twice(folder):
    for spec in depth():
        steps = {"2 layers": 9999, "4 layers": 50, "6 layers": 1255}[spec.arm]
        made = replace(spec, train=replace(spec.train, steps=steps, evaluate_every=steps))
        keep(folder, made, {9999: 1.0, 50: 3.0, 1255: 2.0}[steps])
    earlier = "depth, recipe laptop, input.txt, evaluate_every {0}, steps {0}"
    return {
        "depth, recipe laptop, input.txt": {"6 layers": 2},
        f"{earlier.format(9999)}, as an earlier version had it": {"2 layers": 2},
        f"{earlier.format(50)}, as an earlier version had it": {"4 layers": 2},
    }


def rates_that_were_chosen_again(folder):
    study = studies.STUDIES["depth-fair"]
    for best in (1e-3, 2.4e-3):
        chosen = [
            SimpleNamespace(model={"n_layers": n}, train={"learning_rate": best}, choosing_loss=1.0)
            for n in studies.ALL_DEPTHS
        ]
        for spec in study.specs("fair", [0, 1], TEXT, chosen):
            if spec.arm == "2 layers" or (spec.arm, best) == ("4 layers", 1e-3):
                keep(folder, spec, loss(spec) + 100 * (best - 1e-3))
    return {
        "depth-fair, recipe fair, input.txt, learning_rate 0.001": {"2 layers": 2, "4 layers": 2},
        "depth-fair, recipe fair, input.txt, learning_rate 0.0024": {"2 layers": 2},
    }


def arms_of_one_name_in_two_studies(folder):
    """`depth` at the recipe's rate, `depth-fair` at another: both have "2 layers"."""
    for spec in depth(recipe="fair"):
        keep(folder, spec, loss(spec))
    for spec in depth(recipe="fair", arms=("2 layers", "4 layers")):
        rate = replace(spec.train, learning_rate=9e-4)
        keep(folder, replace(spec, study="depth-fair", train=rate), 1.0 + loss(spec))
    return {
        "depth, recipe fair, input.txt": {"2 layers": 2, "4 layers": 2, "6 layers": 2},
        "depth-fair, recipe fair, input.txt": {"2 layers": 2, "4 layers": 2},
    }


def two_recipes(folder):
    for recipe, easy in (("laptop", 0.0), ("fair", 0.5)):
        for spec in depth(recipe=recipe, arms=("2 layers", "4 layers")):
            keep(folder, spec, loss(spec) - easy)
    arms = {"2 layers": 2, "4 layers": 2}
    return {
        "depth, recipe laptop, input.txt": arms,
        "depth, recipe fair, input.txt": arms,
    }


def a_study_of_ones_own_at_two_lengths(folder):
    """Lesson 5's short study in two profiles, each of which tried two of the four positions."""
    for steps, kinds in ((100, ("none", "learned")), (300, ("sinusoidal", "rope"))):
        arms = {kind: {"position": kind, "n_layers": 2, "steps": steps} for kind in kinds}
        for spec in studies.Study("position-short", "", arms).specs("laptop", [0, 1], TEXT):
            first = spec.arm in (
                "learned",
                "rope",
            )  # by name: the truth is that the other is better
            keep(folder, spec, 2.0 + 0.1 * first + (steps == 300))
    title = "position-short, recipe laptop, input.txt, evaluate_every {0}, steps {0}"
    return {
        title.format(100): {"none": 2, "learned": 2},
        title.format(300): {"rope": 2, "sinusoidal": 2},
    }


def shares_of_the_text(folder):
    for seed in (0, 1):
        keep(folder, train(2, seed), 1.9)
        keep(folder, replace(train(4, seed), data_share=0.1), 2.9)
    return {
        "train, recipe laptop, input.txt, data_share 1.0": {"2 layers": 2},
        "train, recipe laptop, input.txt, data_share 0.1": {"4 layers": 2},
    }


def batches_of_two_budgets(folder):
    """Both arms change batch and steps: which steps are the recipe's shows in the recipe alone."""
    for spec in studies.STUDIES["batch"].specs("laptop", [0, 1], TEXT):
        if spec.arm == "batch x 1":
            keep(folder, spec, 2.0)
        if spec.arm == "batch x 2":
            longer = replace(spec.train, steps=2 * spec.train.steps, evaluate_every=1)
            keep(folder, replace(spec, train=longer), 3.0)
    return {
        "batch, recipe laptop, input.txt": {"batch x 1": 2},
        "batch, recipe laptop, input.txt, as an earlier version had it": {"batch x 2": 2},
    }


FOLDERS = [
    two_lengths_of_one_arm,
    two_arms_of_two_lengths,
    two_texts_of_one_name,
    a_text_that_was_edited_between_two_seeds,
    copies_of_a_record,
    what_systems_leave_behind,
    a_record_under_the_name_of_another,
    seeds_a_thousand_apart,
    a_single_run_before_the_study,
    all_runs_of_an_arm_from_elsewhere,
    a_recipe_that_changed_between_two_arms,
    a_recipe_that_changed_twice,
    rates_that_were_chosen_again,
    arms_of_one_name_in_two_studies,
    two_recipes,
    a_study_of_ones_own_at_two_lengths,
    shares_of_the_text,
    batches_of_two_budgets,
]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.__name__)
def test_no_folder_leads_to_a_false_verdict(folder, tmp_path):
    expected = folder(tmp_path)
    words = said(tmp_path)
    assert words.keys() == expected.keys()
    for title, arms in expected.items():
        assert {arm: seeds_of(words[title], arm) for arm in arms} == arms
        table, verdicts = 2 + len(arms), len(arms) - 1
        assert words[title].count("\n") + 1 == table + verdicts, words[title]
    assert not false(words)


def test_without_the_sorting_these_folders_do_lead_astray(tmp_path):
    """The mutant: what the records say of themselves, study and recipe, decides what is paired."""
    astray = []
    for folder in FOLDERS:
        folder(tmp_path / folder.__name__)
        paths = sorted((tmp_path / folder.__name__ / "logs").glob("[!.]*.json"))
        losses = {}
        for record in map(runs.RunRecord.load, paths):
            losses.setdefault(record.arm, {})[record.seed] = record.validation_loss
        pairs = zip(losses.items(), list(losses.items())[1:], strict=False)
        verdicts = [comparisons.compare(*two, *one).verdict for one, two in pairs]
        astray.append(any("predict worse" in verdict for verdict in verdicts))
    assert sum(astray) >= 8


def test_the_control_is_paired_and_no_other_arm_is(tmp_path):
    study = studies.STUDIES["choices-modern"]
    for spec in study.specs("modern-short", [0, 1, 2], TEXT):
        if spec.arm in (comparisons.REFERENCE, comparisons.CONTROL, "ReLU"):
            keep(tmp_path, spec, 2.0 + 0.1 * (spec.arm == "ReLU"))
    (words,) = said(tmp_path).values()
    table = words.partition("Against unchanged")[2]
    assert re.search(r"unchanged, other seeds +3 ", table)
    assert re.search(r"ReLU +3 +\+0\.0998", table)


def test_an_arm_that_differs_from_the_reference_in_more_is_named_and_left_out(tmp_path):
    """The reference by today's rates, some arms by yesterday's: neither is wrong by itself."""
    study = studies.STUDIES["choices-fair"]
    for best, arms in ((1.2e-3, (comparisons.REFERENCE, "GELU")), (2.4e-3, ("ReLU", "SwiGLU"))):
        chosen = [
            SimpleNamespace(model={"n_layers": n}, train={"learning_rate": best}, choosing_loss=1.0)
            for n in studies.ALL_DEPTHS
        ]
        for spec in study.specs("fair", [0, 1, 2], TEXT, chosen):
            if spec.arm in (*arms, "1 head") and (spec.arm, best) != ("1 head", 2.4e-3):
                keep(tmp_path, spec, 2.0)
    (words,) = said(tmp_path).values()
    for arm in ("ReLU", "SwiGLU"):
        assert f"{arm} differs in learning_rate (0.0012 and 0.0024) too" in words
        assert not re.search(rf"^{arm}", words.partition("Against")[2].partition("\n\n")[0])
    assert re.search(r"^1 head +3 ", words.partition("Against")[2], re.MULTILINE)


def test_arms_that_share_no_seed_stop_no_other_group(tmp_path):
    keep(tmp_path, train(2, 0), 1.9)
    keep(tmp_path, train(4, 1), 1.8)
    for spec in depth(recipe="fair"):
        keep(tmp_path, spec, loss(spec))
    words = said(tmp_path)
    assert "share no seed" in words["depth, recipe laptop, input.txt"]
    assert words["depth, recipe fair, input.txt"].count("predict better") == 2


def test_twice_the_same_arm_and_seed_is_refused_wherever_it_comes_from(tmp_path):
    for spec in (train(2, 0), train(2, 0, steps=20)):
        keep(tmp_path, spec, 2.0)
    records = runs.load_all(tmp_path)
    for use in (comparisons.losses_of, comparisons.adjacent, tables.final_table):
        with pytest.raises(ValueError, match="2 layers has two runs of seed 0"):
            use(records)


def test_a_smoke_run_gets_no_verdict(tmp_path):
    for spec in depth(recipe="smoke"):
        keep(tmp_path, spec, loss(spec))
    (words,) = said(tmp_path).values()
    assert "No verdict" in words
    assert "predict" not in words


def test_settings_that_were_edited_are_named(tmp_path):
    (path, *_) = [keep(tmp_path, spec, loss(spec)) for spec in depth()]
    content = json.loads(path.read_text())
    content["train"]["steps"] = 20
    path.write_text(json.dumps(content | {"validation_loss": 9.0}))
    with pytest.raises(files.RunError, match=f"{path.name}.*settings are not those"):
        runs.load_all(tmp_path)


def test_compare_names_the_copies(tmp_path, capsys):
    copies_of_a_record(tmp_path)
    commands.compare(SimpleNamespace(out=tmp_path, text=None))
    out = " ".join(capsys.readouterr().out.split())  # as before it was folded at 80 columns
    assert out.count("Left out: logs/copy of ") == 6
    assert out.count("(conflicted copy).json, as what it holds is called ") == 6


def test_ablate_compares_what_it_asked_for_in_the_studys_order(tmp_path):
    """Whoever made the runs: here half of them `course train`, and the deepest first."""
    specs = depth()
    for spec in reversed(specs):
        keep(tmp_path, replace(spec, study="train") if spec.train.seed else spec, loss(spec))
    group = groups.of_study(DEPTH, [runs.find(spec, [tmp_path], weights=False) for spec in specs])
    assert list(group.arms) == ["2 layers", "4 layers", "6 layers"]
    assert groups.in_words(group).count("predict better") == 2


def test_the_recorded_study_is_sorted_as_it_was_recorded():
    words = groups.of_folder(recorded.everything())
    told = {(r.recipe, r.arm, r.name) for group in words for r in group.records}
    assert told == {(r.recipe, r.arm, r.name) for r in recorded.everything()}
    assert not [group.title for group in words if "earlier" in group.title]


def test_tables_fit_eighty_columns():
    for group in groups.of_folder(recorded.everything()):
        text = groups.in_words(group)
        table = [line for line in text.split("\n") if "  " in line]
        assert len(table) > 1
        assert max(map(len, table)) <= 80
