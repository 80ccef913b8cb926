"""Where readers are: lists of versions by date, and a tool that runs the lessons on them.

The runs themselves take minutes each: `python tools/hosts.py NAME`.
"""

import re
import subprocess
import sys
import tomllib

import pytest

from course_utils.bench import doctor
from helpers import ROOT, by_path

hosts = by_path("tools/hosts.py")
LISTS = sorted((ROOT / "tests/hosts").glob("*.txt"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_five_hosts_have_names():
    assert hosts.names() == ["colab-2026.07", "colab-2026.08", "kaggle", "oldest", "newest"]
    done = subprocess.run(
        [sys.executable, ROOT / "tools/hosts.py", "colab"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert all(name in done.stderr for name in hosts.names())


@pytest.mark.parametrize("path", LISTS, ids=lambda path: path.stem)
def test_a_list_has_a_python_a_source_and_exact_versions(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    head = [line for line in lines if line.startswith("#")]
    assert re.search(r"https://github\.com/googlecolab/backend-info, at [0-9a-f]{7}", str(head))
    (python,), packages = hosts.host(path.stem)
    assert re.fullmatch(r"3\.\d+", python)
    assert len(packages) == len(lines) - len(head) > 100, "no line goes unread"
    assert all(packages.values())


@pytest.mark.parametrize("path", LISTS, ids=lambda path: path.stem)
def test_what_a_host_has_is_new_enough(path):
    """The first cell installs the course alone: what it needs must be there already."""
    _, packages = hosts.host(path.stem)
    there = {name.lower(): version for name, version in packages.items()}
    needed = dict(
        re.match(r"([\w-]+)>=([\d.]+)$", line).groups() for line in PROJECT["dependencies"]
    )
    del needed["zhplot"]  # for the Chinese figures of `course run` alone
    assert set(needed) <= set(there)
    assert not {n: there[n] for n, bound in needed.items() if doctor.older(there[n], bound)}


def test_the_oldest_are_the_bounds_of_pyproject():
    (python,), packages = hosts.host("oldest")
    assert f">={python}" == PROJECT["requires-python"]
    for name, version in packages.items():
        lines = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["lab"]
        assert f"{name}>={version}" in lines
    assert {"torch", "matplotlib", "ipywidgets"} <= set(packages)


def test_a_changed_package_is_noticed_and_a_new_one_is_not():
    before = {"numpy": "2.1.3", "torch": "2.11.0", "pip": "24"}
    assert hosts.changed(before, before | {"shakespeare-layer-by-layer": "1"}) == {}
    assert hosts.changed(before, before | {"numpy": "2.4.6"}) == {"numpy": "2.4.6"}
    assert hosts.changed(before, {"numpy": "2.1.3", "pip": "24"}) == {"torch": None}
