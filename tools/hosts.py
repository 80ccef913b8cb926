"""Run the six lessons as a host of notebooks runs them: its versions, and the course by git.

    python tools/hosts.py colab-2026.08                 or any other name that --help lists
    python tools/hosts.py colab-2026.08 --language zh   the Chinese lessons

First comes an environment with the host's versions. In it each lesson runs alone in an empty
folder; its first cell fetches the course by git from this working tree, as a badge's reader
fetches it from the public address, and may change no package that is there. Then come those tests
that meet the host's libraries. Nothing stays behind.

Python and PyTorch are the host's too, where they can be had: `python3.13` on the PATH or by pyenv,
torch from pip's index, where a Linux build brings CUDA, 7 GB while it is installed. Else, and with
--light, the Python that runs this tool and the torch of constraints.txt stand in, and it is said.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LISTS = ROOT / "tests/hosts"
MADE = ("oldest", "newest")  # these two come from pyproject.toml
NEWEST = ["3.14", "3.13", "3.12"]  # Pythons, the first that is here
TESTS = ("train", "figures", "sampling", "runs", "widget_numbers")
LAB_TESTS = ("widget_lab",)  # where the host has JupyterLab
TOOLS = ["pytest", "hypothesis", "nbclient", "nbformat", "fonttools", "transformers"]
TOOLS += ["playwright", "axe-playwright-python", "sphinx"]  # what the tests' helpers import
# Most modules are never imported, so none is compiled in advance; a cache would keep gigabytes.
PIP = ["-m", "pip", "install", "--no-compile", "--no-cache-dir", "--disable-pip-version-check"]
RUNNER = ["nbconvert", "nbclient", "nbformat"]  # they run a lesson from outside its kernel


def names():
    return [*sorted(path.stem for path in LISTS.glob("*.txt")), *MADE]


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def bounds():
    """The oldest versions that pyproject.toml allows a reader: {name: version}."""
    wanted = project()["dependencies"] + project()["optional-dependencies"]["lab"]
    return dict(re.match(r"([\w-]+)>=([\d.]+)", line).groups() for line in wanted)


def host(name):
    """What a host has: (its Python or several to choose from, {package: version or None})."""
    if name == "oldest":
        return re.findall(r"[\d.]+", project()["requires-python"]), bounds()
    if name == "newest":
        return NEWEST, dict.fromkeys(bounds())
    text = (LISTS / f"{name}.txt").read_text(encoding="utf-8")
    packages = re.findall(r"^([\w.-]+)==(\S+)$", text, re.MULTILINE)
    return re.findall(r"^# python ([\d.]+)$", text, re.MULTILINE), dict(packages)


def pinned(package):
    """The version in constraints.txt."""
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    return re.search(rf"^{package}==(\S+)", text, re.MULTILINE)[1]


def call(*command, check=True, **options):
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, encoding="utf-8", **options
    )
    if check and done.returncode:
        sys.exit(f"{' '.join(map(str, command[:4]))} …:\n{(done.stderr or done.stdout)[-3000:]}")
    return done


def interpreter(wanted):
    """The first of these Pythons that is here, else the one that runs this tool -> its program."""
    here = getattr(sys, "_base_executable", sys.executable)  # outside any environment
    for version in wanted:
        named = os.environ | {"PYENV_VERSION": version}  # pyenv asks which is meant
        if version == f"{sys.version_info.major}.{sys.version_info.minor}":
            return here
        if program := shutil.which(f"python{version}"):
            tell = "import ensurepip, sys, venv; print(sys.executable)"
            found = call(program, "-c", tell, check=False, env=named)
            if found.returncode == 0:
                return found.stdout.strip()
    return here


def fill(folder, program, packages):
    """A virtual environment with these packages -> its Python, and what stopped pip, or ""."""
    call(program, "-m", "venv", "--clear", folder)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    lines = [f"{name}=={version}" if version else name for name, version in packages.items()]
    (folder / "host.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = call(python, *PIP, "-r", folder / "host.txt", check=False)
    wrong = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    return python, (wrong or ["pip failed"])[0][:200] if done.returncode else ""


def environment(folder, wanted, packages, light):
    """The host's environment, or one of what this project pins, in words -> its Python."""
    if not light:
        python, wrong = fill(folder, interpreter(wanted), packages)
        if not wrong:
            return python
        print(f"Others stand in: {wrong}", flush=True)
    python, wrong = fill(folder, interpreter([]), packages | {"torch": pinned("torch")})
    if wrong:
        sys.exit(f"No environment could be made: {wrong}")
    return python


def say_what_stands_in(python, wanted, torch):
    """Python and PyTorch as they are, beside what the host has."""
    code = "import platform, torch; print(platform.python_version(), torch.__version__)"
    has = dict(zip(("Python", "torch"), call(python, "-c", code).stdout.split(), strict=True))
    for (name, version), asked in zip(has.items(), (wanted[0], torch or ""), strict=True):
        stands_in = "" if version.startswith(asked) else f", in place of {asked}"
        print(f"{name} {version}{stands_in}", flush=True)


def packages_of(python):
    """{name: version} of all that is installed."""
    done = call(python, "-m", "pip", "list", "--format=json", "--disable-pip-version-check")
    return {package["name"]: package["version"] for package in json.loads(done.stdout)}


def changed(before, after):
    """The packages that were there and are gone, or have another version."""
    return {name: after.get(name) for name in before if after.get(name) != before[name]}


def repository(folder):
    """The working tree as a repository -> the settings by which git takes it for the public one."""
    setup = (ROOT / "notebooks/01_data.py").read_text(encoding="utf-8")
    address, tag = re.search(r'"git\+(https://[^"@\s]+)(?:@([^"\s]+))?"', setup).groups()
    listed = ["git", "-C", ROOT, "ls-files", "-co", "--exclude-standard", "-z"]
    for name in call(*listed).stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    identity = ["-c", "user.name=hosts", "-c", "user.email=hosts@example.org"]
    call("git", "init", "-q", folder)
    call("git", "-C", folder, "add", "-A")
    call("git", "-C", folder, *identity, "commit", "-qm", "The working tree")
    if tag:
        call("git", "-C", folder, "tag", tag)
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{folder.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": address,
    }


def fetch_text(cache):
    """Lay the real text where a download would, if it is in this checkout or beside it."""
    file = Path("tinyshakespeare/input.txt")
    for place in (ROOT / "data", ROOT.parent / "shared/data"):
        if (place / file).is_file():
            (cache / file.parent).mkdir(parents=True)
            shutil.copy(place / file, cache / file)
            return


def lesson(python, notebook, folder, settings):
    """Run one lesson from its first cell to its last -> (what went wrong or "", seconds)."""
    folder.mkdir()
    shutil.copy(notebook, folder)
    began = time.monotonic()
    execute = ["-m", "nbconvert", "--to", "notebook", "--execute", "--inplace", notebook.name]
    done = call(
        python,
        *execute,
        "--ExecutePreprocessor.timeout=1800",
        check=False,
        cwd=folder,
        env=settings,
    )
    colours = re.compile(r"\x1b\[[\d;]*m")
    wrong = "\n".join(colours.sub("", done.stderr).strip().splitlines()[-8:])
    return wrong if done.returncode else "", time.monotonic() - began


def run_lessons(python, folder, settings, language):
    """All six, the first alone because its first cell adds the course -> what went wrong."""
    settings = settings | repository(folder / "repository")  # lessons and package of one moment
    lessons = folder / "repository/notebooks" / ("" if language == "en" else language)
    first, *others = sorted(lessons.glob("[0-9][0-9]_*.ipynb"))
    before = packages_of(python)
    failed = []

    def tell(notebook, wrong, seconds):
        print(f"{notebook.stem:16}{'FAILED' if wrong else 'passed'} in {seconds:.0f} s", flush=True)
        if wrong:
            print(wrong, flush=True)
            failed.append(f"lesson {notebook.stem} stopped: {wrong.splitlines()[-1]}")

    tell(first, *lesson(python, first, folder / first.stem, settings))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        running = {
            notebook: pool.submit(lesson, python, notebook, folder / notebook.stem, settings)
            for notebook in others
        }
        for notebook, result in running.items():
            tell(notebook, *result.result())

    after = packages_of(python)
    new = ", ".join(sorted(set(after) - set(before)))
    other = ", ".join(f"{name} to {now}" for name, now in changed(before, after).items())
    print(f"added by the first cell: {new or 'nothing'}; changed: {other or 'none'}", flush=True)
    if other:
        failed.append(f"the first cell changed {other}")
    if not new:
        failed.append("the first cell added no course")
    return failed


def run_tests(python, folder, packages, settings):
    """The tests that meet the host's libraries, on this working tree -> what went wrong."""
    names = TESTS + (LAB_TESTS if "jupyterlab" in packages else ())
    wanted = [f"tests/test_{name}.py" for name in names]
    pins = folder / "pins.txt"
    pins.write_text((python.parent.parent / "host.txt").read_text(encoding="utf-8"))
    call(python, *PIP, "-c", pins, *TOOLS)
    call(python, *PIP, "--no-deps", "zhplot")  # the font of the Chinese figures; hosts lack it
    quietly = ["-q", "--disable-warnings", "-p", "no:cacheprovider", "-o", "addopts="]
    command = [python, "-m", "pytest", *quietly, *wanted]
    code = subprocess.run(list(map(str, command)), cwd=ROOT, env=settings).returncode
    return [f"pytest, whose last lines say more, ended with {code}"] if code else []


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=names(), metavar="NAME", help=", ".join(names()))
    parser.add_argument("--light", action="store_true", help="with stand-ins: little to download")
    parser.add_argument("--language", choices=["en", "zh"], default="en", help="of the lessons")
    parser.add_argument("--short", action="store_true", help="the lessons, without the tests")
    args = parser.parse_args()

    wanted, packages = host(args.name)
    packages |= {name: packages.get(name) for name in RUNNER}
    began = time.monotonic()

    def tell(what):
        times = os.times()
        processor = times.children_user + times.children_system
        took = time.monotonic() - began
        print(f"{args.name}: {what} in {took:.0f} s, {processor:.0f} of a processor", flush=True)

    with tempfile.TemporaryDirectory(prefix="host-", ignore_cleanup_errors=True) as place:
        place = Path(place)
        ours = ("COURSE_", "PYTHON", "JUPYTER_", "IPYTHON", "GIT_", "VIRTUAL_ENV")
        settings = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        settings |= {"COURSE_PROFILE": "smoke", "OMP_NUM_THREADS": "1"}
        settings |= {"COURSE_CACHE": str(place / "cache"), "IPYTHONDIR": str(place / "ipython")}
        fetch_text(place / "cache")
        python = environment(place / "environment", wanted, packages, args.light)
        say_what_stands_in(python, wanted, packages["torch"])
        tell("set up")
        failed = run_lessons(python, place, settings, args.language)
        tell("set-up and lessons")
        if not args.short:
            failed += run_tests(python, place, packages, settings)
            tell("all")
    if failed:
        sys.exit(f"{args.name} fails: {'; '.join(failed)}")
    print(f"{args.name}: all six lessons pass", flush=True)


if __name__ == "__main__":
    main()
