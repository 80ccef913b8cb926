"""Where readers take the course from: one address, one version, written everywhere by two tools.

`tools/address.py` moves all of it to a fork and back, byte for byte; `tools/release.py` makes last
term's badge work next term.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib

import nbformat
import pytest

from helpers import ROOT

FORK = "https://github.com/zoe/my-course"


def git(root, *arguments):
    done = subprocess.run(["git", "-C", root, *arguments], check=True, capture_output=True)
    return done.stdout.decode()


def contents(root):
    """{name: bytes} of the files that git would track."""
    names = git(root, "ls-files", "-co", "--exclude-standard", "-z").split("\0")
    return {name: (root / name).read_bytes() for name in names if (root / name).is_file() and name}


@pytest.fixture
def copy(tmp_path):
    """The project as a clone has it, without what is heavy."""
    for name in contents(ROOT):
        if "published/" not in name:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    return tmp_path


def tool(root, name, *arguments):
    """-> (exit code, all that was said)"""
    command = [sys.executable, root / f"tools/{name}.py", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    return done.returncode, done.stdout + done.stderr


def address(root, *arguments):
    return tool(root, "address", *arguments)


code, said = address(ROOT)
OURS = said.split(": ")[0]
OWNER_AND_NAME = OURS.split("/", 3)[3].encode()  # in every form of the address


def test_the_address_is_the_same_in_every_place():
    assert (code, said) == (0, f"{OURS}: in every place\n")
    assert OURS.startswith("https://github.com/")


@pytest.mark.slow
@pytest.mark.parametrize(
    "fork",
    [FORK, "https://github.com/a/b", "https://gitlab.com/group/sub.group/a-longer-name"],
)
def test_to_a_fork_and_back(copy, fork):
    before = contents(copy)
    code, said = address(copy, fork)
    assert (code, said.splitlines()[0][: len(fork)]) == (0, fork)
    assert ("open what is on GitHub" in said) == (not fork.startswith("https://github.com/"))

    there = contents(copy)
    for name in there:
        assert name.startswith("tests/") or OWNER_AND_NAME not in there[name], name
    badge = f"/github/{fork.split('/', 3)[3]}/blob/main/notebooks/01_data.ipynb"
    assert badge in there["README.md"].decode()
    for name in (name for name in there if name.endswith(".ipynb")):
        ours, theirs = json.loads(before[name]), json.loads(there[name])
        (source,) = [
            c["source"] for c in theirs["cells"] if "setup" in c["metadata"].get("tags", [])
        ]
        assert f'    address = "git+{fork}"\n' in source
        assert [c.get("outputs") for c in ours["cells"]] == [
            c.get("outputs") for c in theirs["cells"]
        ]
    assert address(copy) == (0, f"{fork}: in every place\n")
    assert address(copy, fork) == (0, said.replace(said.splitlines()[0], f"{fork}: in every place"))
    assert address(copy, OURS)[0] == 0
    assert contents(copy) == before, "the way back leaves every byte as it was"


def test_line_ends_of_windows_stay(copy):
    for name in ("README.md", "_config.yml", "pyproject.toml"):
        (copy / name).write_bytes((copy / name).read_bytes().replace(b"\n", b"\r\n"))
    lines = {name: text.count(b"\r\n") for name, text in contents(copy).items()}
    assert address(copy, FORK)[0] == 0
    assert {name: text.count(b"\r\n") for name, text in contents(copy).items()} == lines
    assert b"zoe/my-course" in (copy / "README.md").read_bytes()


@pytest.mark.slow
def test_a_place_that_names_another_is_found(copy):
    for name, spoilt in (
        ("README.md", b"git clone %s"),
        ("README.md", b"colab.research.google.com/github/%s"),
        ("book/how_to_use.md", b"git clone %s"),
        ("notebooks/01_data.py", b'"git+%s'),
        ("notebooks/06_sampling.ipynb", b'"git+%s'),
    ):
        text = before = (copy / name).read_bytes()
        for ours, theirs in ((OURS.encode(), FORK.encode()), (OWNER_AND_NAME, b"zoe/my-course")):
            text = text.replace(spoilt % ours, spoilt % theirs)
        (copy / name).write_bytes(text)
        code, said = address(copy)
        assert (code, f"{name}: " in said) == (1, True)
        (copy / name).write_bytes(before)


def test_a_name_that_only_begins_like_ours_stays(copy):
    text = f"{OURS}-solutions {OURS}.old {OURS}.git {OURS}/issues {OURS}. {OURS}@v1"
    (copy / "README.md").write_text(text, encoding="utf-8")
    assert address(copy, FORK)[0] == 0
    moved = f"{OURS}-solutions {OURS}.old {FORK}.git {FORK}/issues {FORK}. {FORK}@v1"
    assert (copy / "README.md").read_text(encoding="utf-8") == moved


@pytest.mark.slow
def test_addresses_of_another_form_are_refused(copy):
    before, project = contents(copy), copy / "pyproject.toml"
    must = "it must look like https://github.com/owner/repository"
    forms = "", "github.com/zoe/x", "https://github.com/zoe", FORK + ".git", FORK + "/", "git@x:a/b"
    for wrong in forms:
        refused = f"{wrong!r} is not an address that others can use: {must}\n"
        assert address(copy, wrong) == (1, refused)
        project.write_bytes(before["pyproject.toml"].replace(OURS.encode(), wrong.encode()))
        assert address(copy, FORK) == (1, f"Repository in pyproject.toml is {wrong!r}: {must}\n")
        project.write_bytes(before["pyproject.toml"])
    assert contents(copy) == before


def test_an_unknown_word_changes_nothing(copy):
    before = contents(copy)
    code, said = address(copy, "--chek")
    assert (code, "usage: address.py" in said) == (2, True)
    assert contents(copy) == before


def test_every_button_opens_a_lesson_that_is_there():
    for name in ("README.md", "README.zh.md", "book/how_to_use.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        opened = re.findall(r"/blob/[^/]+/(notebooks/[\w/]+\.ipynb)", text)
        assert len(set(opened)) == 6
        assert all((ROOT / path).is_file() for path in opened)


def test_what_a_container_and_the_public_place_run_is_there():
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())
    assert container["postCreateCommand"] == "./run.sh data", "the first command sets up .venv"
    for path in (ROOT / ".github/workflows").glob("*.yml"):
        first, *others = re.findall(r"^ +- run: (\S+) ?(\S*)", path.read_text(), re.MULTILINE)
        assert os.access(ROOT / first[0], os.X_OK), first
        for python, script in others:
            assert python == ".venv/bin/python"
            assert (ROOT / script).is_file(), script


def setup_cells(root):
    for path in sorted(root.glob("notebooks/[0-9][0-9]_*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            if "setup" in cell.metadata.get("tags", []):
                yield cell.source


def test_every_place_names_one_version():
    code, said = tool(ROOT, "release")
    assert code == 0, said
    assert re.fullmatch(r"(main|v\d+\.\d+\.\d+)\n", said)


@pytest.mark.slow
def test_a_release_is_in_every_place_and_written_once(copy):
    before = contents(copy)
    code, said = tool(copy, "release", "1.2.0")
    assert code == 0, said
    assert "git tag v1.2.0" in said

    there = contents(copy)
    assert tomllib.loads(there["pyproject.toml"].decode())["project"]["version"] == "1.2.0"
    dated = r"(?m)^version: 1\.2\.0\ndate-released: 20\d\d-\d\d-\d\d$"
    assert re.search(dated, there["CITATION.cff"].decode())
    assert re.search(r"(?m)^## 1\.2\.0 · \d{4}-\d\d-\d\d$", there["CHANGELOG.md"].decode())
    assert "\n  branch: v1.2.0 " in there["_config.yml"].decode()
    for name in ("README.md", "README.zh.md", "book/how_to_use.md"):
        text = there[name].decode()
        assert not re.search(r"/(blob|tree|archive)/main\b", text), name
        assert len(re.findall("/blob/v1.2.0/notebooks/(?:zh/)?0", text)) >= 6

    (setup,) = set(setup_cells(copy))  # byte for byte the same in all lessons
    assert len(list(setup_cells(copy))) == 6
    assert re.search(r'"git\+https://github\.com/[\w.-]+/[\w.-]+@v1\.2\.0"', setup)
    assert tool(copy, "notebooks", "--check")[0] == 0, "each pair stays in step, its outputs stored"
    assert tool(copy, "export", "--check")[0] == 0
    assert tool(copy, "address")[0] == 0
    assert tool(copy, "release")[0] == 0

    code, said = tool(copy, "release", "1.2.0")
    assert (code, said.splitlines()[0]) == (0, "v1.2.0: in every place")
    assert contents(copy) == there, "the second time changes nothing"

    assert tool(copy, "release", "main")[0] == 0
    numbered = {"pyproject.toml", "CITATION.cff", "CHANGELOG.md"}  # main keeps the last number
    after = contents(copy)
    assert {name for name in before if after[name] != before[name]} == numbered


def test_the_next_release_needs_its_own_words(copy):
    assert tool(copy, "release", "1.2.0")[0] == 0
    before = contents(copy)
    code, said = tool(copy, "release", "1.3.0")
    assert (code, said.startswith("CHANGELOG.md says nothing of 1.3.0: ")) == (1, True)
    assert contents(copy) == before

    log = copy / "CHANGELOG.md"
    words = "## Unreleased\n\nNew.\n\n## 1.2.0"
    log.write_text(log.read_text(encoding="utf-8").replace("## 1.2.0", words), encoding="utf-8")
    assert tool(copy, "release", "1.3.0")[0] == 0
    headings = re.findall(r"(?m)^## (\S+)", log.read_text(encoding="utf-8"))
    assert headings == ["1.3.0", "1.2.0"]
    assert re.findall("@v[0-9.]+", next(setup_cells(copy))) == ["@v1.3.0"]


@pytest.mark.slow
def test_a_place_left_behind_is_found(copy):
    assert tool(copy, "release", "1.2.0")[0] == 0
    for name, old, new in (
        ("README.md", "/blob/v1.2.0/notebooks/05", "/blob/v1.1.0/notebooks/05"),
        ("notebooks/04_train.py", "@v1.2.0", "@v1.1.0"),
        ("notebooks/04_train.ipynb", "@v1.2.0", ""),
        ("_config.yml", "branch: v1.2.0", "branch: main"),
        ("pyproject.toml", 'version = "1.2.0"', 'version = "1.2.1"'),
        ("CITATION.cff", "version: 1.2.0", "version: 1.1.0"),
    ):
        text = (copy / name).read_text(encoding="utf-8")
        assert old in text
        (copy / name).write_text(text.replace(old, new), encoding="utf-8")
        code, said = tool(copy, "release")
        assert (code, name.split("/")[-1] in said) == (1, True)
        (copy / name).write_text(text, encoding="utf-8")


def test_what_is_no_version_changes_nothing(copy):
    before = contents(copy)
    for version in ("1.2", "v1.2.0", "1.2.0rc1", "latest", "1.2.0/../x", ""):
        must = "give three numbers, such as 1.2.0, or main"
        refused = f"{version!r} is no version: {must}\n"
        assert tool(copy, "release", version) == (1, refused)
    assert contents(copy) == before
