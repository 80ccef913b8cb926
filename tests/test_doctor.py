"""`course doctor`: each fault is planted for real; it is named, with what to do, and stops only
where a lesson would.
"""

import os
import shutil
import subprocess
import sys

import pytest
import torch

from course_utils import profiles
from course_utils.bench import doctor
from course_utils.lessons import train
from helpers import ROOT


def course_doctor(cwd=ROOT, **environment):
    """-> (exit code, the screen, what stderr says)"""
    command = [sys.executable, "-m", "course_utils", "doctor"]
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout, done.stderr


def advice(screen, about):
    """The line on one subject, and what it says to do about it."""
    lines = screen.splitlines()
    i = next(i for i, line in enumerate(lines) if line.startswith(about))
    under = [line.strip() for line in lines[i + 1 : i + 2] if line.startswith(" ")]
    return lines[i], *under


def pretend(folder, package, version):
    """Make this version of a package the first that Python finds the papers of."""
    info = folder / f"{package}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    return {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}


@pytest.mark.slow
def test_a_sound_machine_fits_on_one_screen():
    code, screen, said = course_doctor()
    assert (code, said) == (0, "")
    assert len(screen.splitlines()) <= 24
    subjects = [line.split()[0] for line in screen.splitlines() if not line.startswith(" ")]
    wanted = ["python", "packages", "torch", "steps", "compiler", "widgets", "corpus", "disk"]
    assert [subject for subject in subjects if subject in wanted] == wanted


@pytest.mark.slow
def test_what_stops_a_lesson_is_named(tmp_path):
    """Old widgets, an old package, a text that is none, a full disk: at once."""
    pretend(tmp_path, "ipywidgets", "6.0.1")
    (tmp_path / "short.txt").write_text("too short")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", disk]
    is_full = subprocess.run(mount, capture_output=True).returncode == 0
    places = {"COURSE_CORPUS": str(tmp_path / "short.txt"), "COURSE_RESULTS": str(disk / "results")}
    try:
        code, screen, said = course_doctor(**pretend(tmp_path, "pandas", "1.5.3"), **places)
    finally:
        if is_full:
            subprocess.run(["umount", "--lazy", disk], check=True)
    assert (code, said.count("\n")) == (1, 1)
    assert said.startswith("course: a lesson would fail here: packages: pandas 1.5.3 is older than")
    line, todo = advice(screen, "packages")
    assert "pandas 1.5.3 is older than " in line
    assert "STOPS  pip install -U 'pandas>=" in todo
    line, todo = advice(screen, "widgets")
    assert "ipywidgets 6.0.1" in line
    assert todo.startswith("STOPS  too old for lesson 6: pip install -U 'ipywidgets>=")
    assert advice(screen, "corpus")[1].startswith("STOPS  The corpus short.txt must have at least")
    if not is_full:
        pytest.skip("no right to mount a small disk")
    line, todo = advice(screen, "disk")
    assert "0.0 GB free" in line
    assert todo.startswith("STOPS")
    assert "COURSE_RESULTS" in todo


@pytest.mark.slow
def test_what_stops_no_lesson_is_named(tmp_path):
    """No compiler, no Chinese font, and a wrong text in the cache of a package without a checkout,
    as on Colab; then a download is tried."""
    ignored = shutil.ignore_patterns("__pycache__", "checkpoints", "study", "bench", "logs")
    site = tmp_path / "site"
    shutil.copytree(ROOT / "course_utils", site / "course_utils", ignore=ignored)
    shutil.copytree(ROOT / "course_utils/bench", site / "course_utils/bench")
    (site / "sitecustomize.py").write_text("import sys\nsys.modules['zhplot'] = None\n")
    wrong = tmp_path / "cache/tinyshakespeare/input.txt"
    wrong.parent.mkdir(parents=True)
    wrong.write_text("<html>404: Not Found</html>" * 100)
    places = {"PYTHONPATH": str(site), "COURSE_CACHE": str(tmp_path / "cache")}
    nothing = {"PATH": str(tmp_path), "CXX": "", "COURSE_CORPUS": ""}
    code, screen, _ = course_doctor(cwd=tmp_path, **places, **nothing)
    assert code == 0, "the lessons go on with another text"
    _, todo = advice(screen, "corpus")
    assert "its sha256 is not Tiny Shakespeare's: the file in the user's cache." in todo
    assert "Delete that file" in todo
    for about, what in {"compiler": "apt install g++", "fonts": "pip install zhplot"}.items():
        line, todo = advice(screen, about)
        assert "none" in line
        assert what in todo


@pytest.mark.parametrize(
    ("found", "bound", "is_older"),
    [
        ("3.9.2", "3.10", True),
        ("2.13.0+cpu", "2.13.0", False),
        ("8", "8.0.0", False),
        ("3.6.10", "3.6.6", False),
        ("0.11.0rc1", "0.11", False),
    ],
)
def test_versions_compare_as_numbers(found, bound, is_older):
    assert doctor.older(found, bound) == is_older


def test_a_device_that_does_not_move_the_weights_is_found(monkeypatch):
    """As Apple's GPUs have been seen to do: no error, and no step."""
    cpu = torch.device("cpu")
    profiles.step_error.cache_clear()
    assert profiles.step_error(cpu) < profiles.WRONG_STEP / 100

    def frozen(model, config):
        optimizers = train_optimizers(model, config)
        if next(model.parameters()).dtype == torch.float32:
            optimizers[0].param_groups[0]["peak"] = 0.0
        return optimizers

    train_optimizers = train.make_optimizers
    monkeypatch.setattr(train, "make_optimizers", frozen)
    profiles.step_error.cache_clear()
    assert profiles.step_error(cpu) > profiles.WRONG_STEP
    (finding,) = doctor.steps()
    assert finding.stops
    profiles.step_error.cache_clear()


def test_asking_a_device_draws_no_random_number():
    profiles.step_error.cache_clear()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    profiles.step_error(torch.device("cpu"))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(("error", "offered"), [(1e-4, "mps"), (1.0, "cpu"), (torch.inf, "cpu")])
def test_an_apple_gpu_is_offered_only_if_it_trains_rightly(monkeypatch, error, offered):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(profiles, "step_error", lambda device: error)
    assert profiles.device().type == offered


def test_the_oldest_widgets_are_those_of_the_hosts_that_were_tried():
    """Without this, the doctor would send a reader on Colab to upgrade what works."""
    lists = [path.read_text(encoding="utf-8") for path in (ROOT / "tests/hosts").glob("*.txt")]
    for name, bound in doctor.LIGHT.items():
        there = [
            line.partition("==")[2]
            for text in lists
            for line in text.splitlines()
            if line.startswith(f"{name}==")
        ]
        assert len(there) == len(lists) >= 3
        assert not [version for version in there if doctor.older(version, bound)]
        assert bound in there


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, ("1000", "1")),
        ({"GOMP_SPINCOUNT": "7"}, ("7", "1")),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, (None, None)),
    ],
    ids=str,
)
def test_threads_look_around_before_they_sleep_unless_somebody_wants_it_otherwise(asked, found):
    names = ("GOMP_SPINCOUNT", "KMP_BLOCKTIME")
    code = f"import os, course_utils; print(tuple(map(os.environ.get, {names})))"
    environment = {k: v for k, v in os.environ.items() if k not in (*names, "OMP_WAIT_POLICY")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=environment | asked)
    assert done.stdout.strip() == str(found), done.stderr
