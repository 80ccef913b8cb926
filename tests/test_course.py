"""The `course` command as a reader meets it: real processes, real files,
one clear sentence when something is wrong."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess

import pytest

from course_utils import __main__ as main
from course_utils import commands, files
from course_utils.research import studies
from course_utils.training import recipes
from helpers import LANGUAGES, course, here, several, start, wait_until


def tree(folder):
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


@pytest.fixture(scope="module")
def results(tmp_path_factory, corpus_file):
    """The results folder of a whole experiment on a small text of one's own."""
    out = tmp_path_factory.mktemp("run") / "results of mine"
    done = course("run", "--corpus", corpus_file, "--out", out)
    assert done.returncode == 0, done.stderr
    return out, done


def test_run_leaves_every_file_and_says_what_it_found(results):
    out, done = results
    figures = [
        "final_training_curve",
        "layer_ablation_comparison",
        "layer_ablation_comparison_english",
    ]
    figures += [
        f"{name}_{language}"
        for name in ("parameters_vs_perplexity", "sample_comparison")
        for language in LANGUAGES
    ]
    for name in figures:
        assert (out / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG"), name
    for name in ("final_results", "layer_ablation_results", "generation_comparison"):
        rows = list(csv.DictReader((out / "tables" / f"{name}.csv").open(encoding="utf-8-sig")))
        assert rows, name
        assert all(row["corpus"] == "hamlet.txt" for row in rows), "every row names its text"
    assert (
        len(list((out / "logs").glob("*.json")))
        == len(list((out / "checkpoints").glob("*.safetensors")))
        == 6
    )
    assert "hamlet.txt" in (out / "report.html").read_text()
    for depth in ("2 layers", "4 layers", "6 layers"):
        assert re.search(rf"{depth}: \d\.\d{{3}} nats/character, perplexity", done.stdout)
    assert "paired seeds" not in done.stdout, "runs this small give no verdict"
    assert "not on Tiny Shakespeare" in done.stdout


def test_two_paired_seeds_a_depth_at_equal_steps(results):
    rows = list(
        csv.DictReader((results[0] / "tables/final_results.csv").open(encoding="utf-8-sig"))
    )
    assert sorted((row["arm"], row["seed"]) for row in rows) == [
        (f"{n} layers", s) for n in (2, 4, 6) for s in "01"
    ]
    assert len({row["steps"] for row in rows}) == 1


def test_a_record_says_where_its_number_comes_from(results):
    for path in (results[0] / "logs").glob("*.json"):
        record = json.loads(path.read_text())
        assert {"device", "torch", "python", "command", "threads"} <= record["environment"].keys()
        assert len(record["corpus"]["sha256"]) == 64
        assert record["history"][-1]["step"] == record["train"]["steps"]
        looked_at = [row for row in record["history"] if "validation_loss" in row]
        chosen_from = [row for row in looked_at if "choosing_loss" in row]
        assert len(looked_at) >= 8, "its curve is one"
        best = min(chosen_from, key=lambda row: row["choosing_loss"])
        assert record["validation_loss"] == best["validation_loss"]
        assert record["elapsed_s"] > record["evaluating_s"] > 0
        assert record["setup_s"] >= 0
        assert record["regime"].startswith(("cpu", "cuda", "mps"))
        assert record["characters_per_s"] > 0


def test_run_again_keeps_what_is_there(results, corpus_file):
    out, _ = results
    before = tree(out / "logs") | tree(out / "checkpoints")
    done = here("run", "--corpus", corpus_file, "--out", out)
    assert done.returncode == 0, done.stderr
    assert tree(out / "logs") | tree(out / "checkpoints") == before


def test_verify_accepts_it_and_notices_what_is_wrong(results, corpus_file, tmp_path):
    out = tmp_path / "copy"
    shutil.copytree(results[0], out)
    assert here("verify", "--corpus", corpus_file, "--out", out).returncode == 0
    log = next((out / "logs").glob("4-layers*"))
    record = json.loads(log.read_text())
    log.write_text(json.dumps(record | {"validation_loss": record["validation_loss"] - 0.01}))
    (out / "report.html").unlink()
    checkpoint = next((out / "checkpoints").glob("6-layers*"))
    checkpoint.write_bytes(checkpoint.read_bytes()[:-7])
    done = here("verify", "--corpus", corpus_file, "--out", out)
    assert done.returncode == 1
    assert all(
        word in done.stderr for word in ("report.html is missing", "its record says", "is damaged")
    )


def test_generate_is_reproducible_and_compare_gives_a_verdict(results, corpus_file):
    known = ("--out", results[0], "--corpus", corpus_file)
    settings = ("generate", *known, "--prompt", "To be", "--characters", 90)
    written = course(*settings, "--seed", 3)
    assert re.match(r"Written by \d layers, seed \d, .* nats/character: ", written.stderr)
    first = written.stdout
    again, other = (here(*settings, "--seed", seed).stdout for seed in (3, 4))
    assert first == again != other
    assert first.startswith("To be")
    assert len(first) == len("To be") + 90 + 1
    greedy = {here(*settings, "--temperature", 0, "--seed", seed).stdout for seed in (1, 2)}
    assert len(greedy) == 1
    compared = here("compare", *known).stdout
    assert "No verdict: the recipe smoke is too small" in compared


@pytest.mark.slow
def test_train_and_data(tmp_path, corpus_file):
    done = course("train", "--layers", 1, "--steps", 3, "--corpus", corpus_file, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("checkpoints/1-layer_*.safetensors"))
    done = here("train", "--steps", 3, "--corpus", corpus_file, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("checkpoints/4-layers*.safetensors")), "as many as the recipe has"
    assert "5-gram" in here("data", "--corpus", corpus_file).stdout


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send")
@pytest.mark.slow
def test_a_study_is_resumed_run_by_run(tmp_path, corpus_file):
    """Stopped in the middle by Ctrl-C: finished runs stay as they are,
    the same command does the rest."""
    study = ("ablate", "position", "--corpus", corpus_file, "--out", tmp_path, "--workers", "1")
    process = start(*study)
    wait_until(lambda: list(tmp_path.glob("logs/*.json")), process=process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    finished = {name: data for name, data in tree(tmp_path).items() if name.startswith("logs")}
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert 1 <= len(finished) < 8
    done = here(*study)
    assert done.returncode == 0, done.stderr
    after = tree(tmp_path)
    assert all(after[name] == data for name, data in finished.items())
    assert len([name for name in after if name.startswith("logs")]) == 8


@pytest.mark.skipif(not shutil.which("ps"), reason="needs ps to list processes")
@pytest.mark.slow
def test_a_killed_run_leaves_no_process_behind(tmp_path, corpus_file):
    process = start(
        *("ablate", "--seeds", "3", "--workers", "2", "--corpus", corpus_file, "--out", tmp_path),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_until(lambda: list(tmp_path.glob("logs/*.json")), process=process)
    assert len(group(process.pid)) >= 3, "itself and two workers"
    process.kill()
    process.wait()
    wait_until(lambda: not group(process.pid))


def group(leader):
    """The processes of a session, as the system lists them."""
    listed = subprocess.run(
        ["ps", "-eo", "pgid=,stat="], capture_output=True, text=True, check=True
    ).stdout
    return [
        line for line in listed.splitlines() if line.split()[0] == str(leader) and "Z" not in line
    ]


@pytest.mark.promise("at once")
@pytest.mark.slow
def test_two_at_once_in_one_folder_do_the_work_once(tmp_path, corpus_file):
    """Both wait for whoever has the folder, which here is this test."""
    said = [tmp_path / "one", tmp_path / "two"]
    study = ("ablate", "residual", "--seeds", "1", "--corpus", corpus_file, "--out", tmp_path)
    study += ("--workers", "1")
    with files.lock(tmp_path):
        pair = several(*((study, file) for file in said))
        wait_until(lambda: all(file.exists() and "waiting" in file.read_text() for file in said))
    for process in pair:
        process.join()
    assert [process.exitcode for process in pair] == [0, 0], [file.read_text() for file in said]
    assert len(list(tmp_path.glob("logs/*.json"))) == len(list(tmp_path.glob("checkpoints/*"))) == 2
    assert sum(len(re.findall(r"at step \d+", file.read_text())) for file in said) == 2


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "words"),
    [
        (["walk"], {}, 2, "choose from"),
        ([], {}, 2, "COMMAND"),
        (["run", "--sedes", "3"], {}, 2, "--seeds N"),
        (["run", "--seeds", "0"], {}, 2, "a whole number of at least 1"),
        (["run", "--profile", "huge"], {}, 2, "smoke"),
        (["data"], {"COURSE_PROFILE": "huge"}, 1, "allowed are smoke, laptop, gpu"),
        (["ablate", "everything"], {}, 2, "depth, rates"),
        (["train", "--recipe", "secret"], {}, 1, "baseline, nanogpt"),
        (["bench"], {}, 2, "what"),
        (["bench", "write"], {}, 2, "choose from"),
        (["bench", "train", "--preset", "secret"], {}, 1, "baseline, nanogpt"),
        (["run", "--out", "/dev/null/x"], {}, 1, "/dev/null/x"),
        (["train", "--out", "README.md"], {}, 1, "README.md"),
        (["data", "--corpus", "nowhere.txt"], {}, 1, "nowhere.txt"),
        (["data", "--corpus", "notebooks"], {}, 1, "notebooks"),
        (["generate", "--temperature", "-1"], {}, 2, "a number of at least 0"),
        (["generate", "--top-p", "1.5"], {}, 2, "from"),
        (["generate", "--top-k", "0"], {}, 2, "a whole number of at least 1"),
        (["generate", "--checkpoint", "nowhere.safetensors"], {}, 1, "there is no checkpoint"),
        (["compare", "--out", "nowhere"], {}, 1, "course run"),
        (["verify", "--out", "nowhere"], {}, 1, "holds no run"),
    ],
)
def test_bad_usage_gets_one_sentence(arguments, environment, code, words):
    assert_one_sentence(here(*arguments, **environment), code, words)


def assert_one_sentence(done, code, words):
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a" * 5000, "2 different"),
        ("", "100 characters"),
        ("ab" * 60, "too short"),
        (b"\xff\xfe\x00bad" * 100, "UTF-8"),
    ],
)
def test_a_corpus_that_teaches_nothing(tmp_path, text, words):
    file = tmp_path / "poor.txt"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    done = here("train", "--recipe", "laptop", "--corpus", file, "--out", tmp_path / "out")
    assert_one_sentence(done, 1, words)
    assert not list(tmp_path.glob("out/*/*"))


def test_a_broken_checkpoint_is_refused(tmp_path):
    file = tmp_path / "broken.safetensors"
    file.write_bytes(b"<html>404</html>")
    assert_one_sentence(here("generate", "--checkpoint", file, "--prompt", "To be"), 1, "damaged")


def test_another_vocabulary_and_an_unknown_character_are_named(results, tmp_path, corpus_file):
    checkpoint = next((results[0] / "checkpoints").glob("2-layers*"))
    other = tmp_path / "greek.txt"
    other.write_text("αβγδ\n" * 200)
    write = ("generate", "--checkpoint", checkpoint, "--prompt")
    assert_one_sentence(here(*write, "α", "--corpus", other), 1, "another alphabet")
    done = here(*write, "To be №1")
    assert_one_sentence(done, 1, "'1№'")
    assert "allowed are" in done.stderr
    assert_one_sentence(here(*write, ""), 1, "at least one character")


@pytest.mark.promise("full disk")
@pytest.mark.slow
def test_a_full_disk_keeps_what_was_there(results, corpus_file, tmp_path):
    """A tmpfs of 200 kB: the run ends with one sentence,
    and no half-written file is left behind."""
    small = tmp_path / "small"
    small.mkdir()
    if (
        not shutil.which("mount")
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=200k", "none", small], capture_output=True
        ).returncode
    ):
        pytest.skip("mounting a small file system needs root")
    try:
        done = course("run", "--corpus", corpus_file, "--out", small, "--workers", 1)
        assert done.returncode == 1
        assert "No space left" in done.stderr
        assert "Traceback" not in done.stderr
        for path in small.glob("logs/*.json"):
            json.loads(path.read_text())
        assert not [p for p in small.rglob(".*") if p.name != ".lock"]
    finally:
        subprocess.run(["umount", small], check=True)


def test_help_names_what_can_be_chosen_and_its_examples_hold():
    for columns in range(40, 101, 5):  # no name is broken at a hyphen, however wide the terminal
        said = here("ablate", "--help", COLUMNS=str(columns)).stdout
        assert {*studies.STUDIES, "recorded", *recipes.RECIPES} <= set(re.findall(r"[\w-]+", said))
    parser = main.build_parser()
    for name, example in main.EXAMPLES.items():
        parser.parse_args([name, *example.split()])
    assert f"course ablate {main.EXAMPLES['ablate']}" in said


@pytest.mark.parametrize(
    ("alphabet", "prompt"), [("\n:EMORabc", "ROMEO:\n"), ("\n一丁", "\n"), ("一丁", "一")]
)
def test_a_text_begins_with_what_its_model_knows(alphabet, prompt):
    assert commands.a_prompt(alphabet) == prompt
