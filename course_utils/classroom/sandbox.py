"""A fresh, read-only world for each notebook, by bubblewrap, and a watch on its memory and time.

What is covered: no network, no home, none of the teacher's files; nothing that is written and no
process outlives the notebook; memory is bounded over all its processes, time over all its cells.
What is not: a flaw in the system's own kernel. Who must be sure grades in a virtual machine.
"""

import compileall
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import arbitrary_address
from pathlib import Path

from course_utils import corpus, files, messages, profiles
from course_utils.messages import _

PACKAGE = Path(files.__file__).resolve().parent
REPLACED = {  # of two wings a notebook gets these files alone: no case, no answer
    "checks/__init__.py": "classroom/stand_in.py",
    "checks/stubs.py": "checks/stubs.py",
    "checks/witness.py": "checks/witness.py",
    "classroom/__init__.py": "classroom/__init__.py",
    "classroom/limits.py": "classroom/limits.py",
    "classroom/runner.py": "classroom/runner.py",
    "classroom/wire.py": "classroom/wire.py",
}
SYSTEM = (
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/nix/store",
    "/gnu/store",
    "/etc/alternatives",
    "/etc/fonts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/sys/devices/system/cpu",
)
WRITABLE = str(500_000_000)  # bytes that may be written to /tmp, and to /dev/shm
MOST_TOLD = 1_000_000  # bytes that a runner may print
MOST_PROCESSES = 100
LOOK_EVERY = 0.25  # s


@dataclass(frozen=True)
class Limits:
    seconds: float = 60  # of a cell
    minutes: float = 10  # of a notebook
    megabytes: int = 4000  # of all processes of a notebook together


@dataclass(frozen=True)
class Places:
    """Where the box's own Python finds things."""

    world: str  # the course without answers
    order: str  # what to run
    judge: str  # where it listens
    home: str


def make_world(folder, text=None):
    """Copy the course there, without what knows answers, and the corpus if it is at hand."""
    wings = {name.partition("/")[0] for name in REPLACED}
    package = folder / PACKAGE.name

    def left_out(path, names):
        return [n for n in names if n == "__pycache__" or (Path(path) == PACKAGE and n in wings)]

    shutil.copytree(PACKAGE, package, ignore=left_out)
    for name, source in REPLACED.items():
        (package / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(PACKAGE / source, package / name)
    if text and text.sha256 == corpus.SHA256:
        files.write(folder / "cache" / corpus.FILE, text.text.encode())
    compileall.compile_dir(package, quiet=2)  # it is read-only in the box
    return folder


def environment(places):
    """The variables of a notebook's processes: of the teacher's, what no program does without."""
    kept = ("PATH", "SYSTEMROOT", "COMSPEC", "NUMBER_OF_PROCESSORS")
    return {name: os.environ[name] for name in kept if name in os.environ} | {
        "COURSE_CACHE": f"{places.world}/cache",
        "COURSE_JUDGE": places.judge,
        messages.VARIABLE: messages.language(),
        profiles.VARIABLE: "smoke",
        "COURSE_RESULTS": f"{places.home}/results",
        "HOME": places.home,
        "USERPROFILE": places.home,
        "JUPYTER_PLATFORM_DIRS": "1",
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": places.world,
        "PYTHONUTF8": "1",
        "USER": "student",
    }


def bubblewrap(world, place):
    """-> (the command that makes the box, up to what is run in it; the places in the box)"""
    inside = Places("/course/world", "/course/order.json", "/course/judge", "/tmp/home")
    shown = {path: path for path in [*SYSTEM, sys.base_prefix, sys.prefix, *packages()]}
    shown[inside.world] = str(world)
    if place:
        shown[inside.order] = str(place / "order.json")
        shown[inside.judge] = str(place / "judge")
    hidden = [str(path) for path in (files.CHECKOUT, Path.home()) if path and path.parts[1:]]
    hidden += [f"{path}/{PACKAGE.name}" for path in packages() if PACKAGE.parent == Path(path)]

    command = ["bwrap", "--unshare-all", "--unshare-user", "--uid", "1000", "--gid", "1000"]
    command += ["--die-with-parent", "--new-session", "--clearenv"]
    path = f"{sys.prefix}/bin:/usr/local/bin:/usr/bin:/bin"
    for name, value in (environment(inside) | {"PATH": path}).items():
        command += ["--setenv", name, value]
    command += ["--proc", "/proc", "--dev", "/dev", "--size", WRITABLE, "--tmpfs", "/dev/shm"]
    command += ["--size", WRITABLE, "--tmpfs", "/tmp"]

    # From the root down: a folder within a hidden one can be shown, and the other way round.
    for path in sorted({*shown, *hidden}, key=lambda path: len(Path(path).parts)):
        command += ["--tmpfs", path] if path in hidden else ["--ro-bind-try", shown[path], path]
    for path in [*hidden, "/dev", "/"]:
        command += ["--remount-ro", path]
    return [*command, "--dir", inside.home, "--chdir", inside.home], inside


def packages():
    """The folders of installed packages."""
    named = "site-packages", "dist-packages"
    return [path for path in sys.path if Path(path).name in named]  # noqa: TID251 (it is read)


def refusal(world):
    """Why no box can be made here, in words; "" if one can."""
    if not shutil.which("bwrap"):
        return _("bubblewrap is not installed (on Debian or Ubuntu: apt install bubblewrap)")
    command, _places = bubblewrap(world, None)
    tried = [*command, sys.executable, "-c", "import course_utils.classroom.runner"]
    done = subprocess.run(tried, capture_output=True, text=True, errors="backslashreplace")
    if done.returncode == 0:
        return ""
    last = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
    return _("bubblewrap can't make a box here ({reason})", reason=last)


class Box:
    """One notebook's processes, in a world of their own; unsafe: with the teacher's rights."""

    def __init__(self, world, place, address, cells, limits, unsafe):
        self.limits = limits
        self.printed = b""
        order = {"cells": cells, "seconds": limits.seconds, "megabytes": limits.megabytes}
        (place / "order.json").write_text(json.dumps(order), encoding="utf-8")
        if unsafe:
            command = []
            (place / "home").mkdir()
            places = Places(str(world), str(place / "order.json"), address, str(place / "home"))
            options = {"env": environment(places), "cwd": places.home}
        else:
            command, places = bubblewrap(world, place)
            options = {}
        self.process = subprocess.Popen(
            [*command, sys.executable, "-m", "course_utils.classroom.runner", places.order],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            **options,
        )
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        """Take what the runner prints, and throw away what is too much."""
        while part := os.read(self.process.stdout.fileno(), 65536):
            self.printed += part[: MOST_TOLD - len(self.printed)]

    def wait(self, stop):
        """Until it ends, is stopped or has had its time. -> what went wrong, in words, or "" """
        end = time.monotonic() + 60 * self.limits.minutes
        while self.process.poll() is None:
            if stop.wait(LOOK_EVERY):
                return _("grading was stopped")
            if time.monotonic() > end:
                return _("stopped after {minutes:g} minutes", minutes=self.limits.minutes)
            held = {pid: memory_of(pid) for pid in family(self.process.pid)}
            if len(held) > MOST_PROCESSES:
                return _("stopped at more than {n} processes", n=MOST_PROCESSES)
            if sum(held.values()) > self.limits.megabytes * 1_000_000:
                with contextlib.suppress(OSError):  # as a system short of memory would
                    os.kill(max(held, key=held.get), signal.SIGKILL)
        if self.process.returncode == 0:
            return ""
        return _("the notebook ended the process that ran it")

    def told(self):
        """What the runner said of cells: (place, error in words, whether that cut it short)."""
        for line in self.printed.splitlines():
            with contextlib.suppress(ValueError, TypeError, RecursionError):
                place, words, cut = json.loads(line)
                if type(place) is int and type(words) is str:
                    yield place, words, cut

    def __enter__(self):
        return self

    def __exit__(self, *_):
        """End all its processes."""
        if os.name == "posix":
            with contextlib.suppress(OSError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        self.reader.join(timeout=5)


def address_of(place):
    """Where a judge can listen."""
    return str(place / "judge") if os.name == "posix" else arbitrary_address("AF_PIPE")


def family(pid):
    """A process and all that descend from it, where the system shows them as files."""
    children = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            parent = int(entry.read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.parent.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def memory_of(pid):
    """Bytes that a process holds, shared ones by its share."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        return 1024 * int(text.partition("\nPss:")[2].split()[0])
    return 0
