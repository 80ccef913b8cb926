"""A study on a real Dask cluster: the same bits as here, every run once, failures in a sentence."""

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from course_utils import files
from course_utils.research import cluster, pool, studies
from course_utils.training import checkpoints, runs, trainer
from helpers import OWN, here, start, wait_until

PACKAGE = Path(cluster.__file__).parent.parent
NOBODY = "import sys\nsys.modules['course_utils'] = None  # as where it isn't installed\n"
NO_LOCK = """
import contextlib

def dask_setup(worker):
    from course_utils.research import cluster
    cluster.ONE_AT_A_TIME = contextlib.nullcontext()
"""


pytestmark = pytest.mark.slow


def specs(seeds, **changes):
    """Runs of a model with dropout, so that random numbers are drawn at every step."""
    study = studies.Study("residual", "", {"residuals": {"residual": True, "dropout": 0.2}})
    asked = study.specs("smoke", range(seeds), OWN)
    return [replace(spec, train=replace(spec.train, **changes)) for spec in asked]


FOUR = specs(4, steps=40, evaluate_every=40)


class Cluster:
    """A scheduler and its workers, processes of their own; what they say lies in a file."""

    def __init__(self, folder):
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.said = folder / "dask.txt"
        self.processes = []
        self.scheduler = self.start("scheduler", "--port", "0", "--host", "127.0.0.1")
        file = folder / "scheduler.json"
        wait_until(lambda: file.exists() and file.read_text(), self.said)
        self.address = json.loads(file.read_text())["address"]

    def start(self, *words, path=None):
        words = [*words, "--no-dashboard", "--scheduler-file", self.folder / "scheduler.json"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        if path:
            environment["PYTHONPATH"] = str(path)
        with self.said.open("a") as said:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *map(str, words)],
                stdout=said,
                stderr=said,
                env=environment,
                cwd=self.folder,  # and not the checkout: its package would come before any other
            )
        self.processes.append(process)
        return process

    def worker(self, threads=1, preload="", path=None):
        words = ["worker", "--no-nanny", "--local-directory", self.folder / "local"]
        if preload:
            file = self.folder / f"preload_{len(self.processes)}.py"
            file.write_text(preload)
            words += ["--preload", file]
        return self.start(*words, "--nthreads", threads, path=path)

    def end(self):
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """A worker loads PyTorch before it answers; on a busy machine that takes long."""
    monkeypatch.setattr(cluster, "PATIENCE_S", 300)


@pytest.fixture
def dask(tmp_path):
    started = Cluster(tmp_path)
    yield started
    started.end()


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    """Two that nothing happens to, of two threads and of four."""
    started = Cluster(tmp_path_factory.mktemp("workers"))
    started.worker(threads=2)
    started.worker(threads=4)
    with cluster.connected(started.address) as client:
        client.wait_for_workers(2)
        client.run(cluster.about)  # it loads PyTorch there, and a client waits only so long
    yield started
    started.end()


def weights(records):
    return [record.checkpoint.read_bytes() for record in records]


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """The weights of four runs as they come out here, one after the other."""
    return weights(pool.run_specs(FOUR, OWN, tmp_path_factory.mktemp("here")))


def test_threads_of_one_worker_change_nothing(workers, local, tmp_path):
    """The same bits as here; of four runs one worker has two at least."""
    away = pool.run_specs(FOUR, OWN, tmp_path / "away", scheduler=workers.address)
    assert weights(away) == local
    said = {record.environment["worker"].partition(", ")[2] for record in away}
    assert said <= {"2 threads", "4 threads"}
    assert {record.environment["threads"] for record in away} == {1}
    assert {record.environment["code"] for record in away} == {runs.code()}


def test_without_its_lock_they_would(dask, local, tmp_path):
    """The mutant: runs that share a process share its random numbers."""
    dask.worker(threads=4, preload=NO_LOCK)
    away = pool.run_specs(FOUR, OWN, tmp_path / "away", scheduler=dask.address)
    assert weights(away) != local


def test_a_worker_that_is_lost_loses_no_run(dask, local, tmp_path):
    """One of two is killed while it trains: every run once, and the records of a local run."""
    killed = dask.worker()
    dask.worker()
    finished = []

    def kill_one(record):
        finished.append(record.seed)
        if len(finished) == 1:  # the others are on their way
            killed.send_signal(signal.SIGKILL)

    away = tmp_path / "away"
    records = pool.run_specs(FOUR, OWN, away, on_record=kill_one, scheduler=dask.address)
    assert sorted(finished) == [0, 1, 2, 3]
    assert len(runs.load_all(away)) == 4
    assert weights(records) == local


def test_a_diverging_run_is_named_and_stops_no_other(workers, tmp_path):
    asked = [specs(1)[0], *specs(2, learning_rate=1e20, optimizer="adamw")[1:]]
    with pytest.raises(trainer.TrainingError, match=r"seed 1: .*no longer a number.*1 other runs"):
        pool.run_specs(asked, OWN, tmp_path / "away", scheduler=workers.address)
    assert [record.seed for record in runs.load_all(tmp_path / "away")] == [0]


# --- one sentence --------------------------------------------------------------------------------
def refused(words, tmp_path, address, **options):
    with pytest.raises(ValueError, match=words) as refusal:
        pool.run_specs(specs(30), OWN, tmp_path / "away", scheduler=address, **options)
    assert "\n" not in str(refusal.value)
    assert refusal.value.__cause__ is None or refusal.value.__suppress_context__


def test_a_scheduler_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "CONNECT_S", 1)
    refused(r"no Dask scheduler answers at tcp://127\.0\.0\.1:9 ", tmp_path, "tcp://127.0.0.1:9")


def test_no_worker_then_one_without_the_course(dask, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "PATIENCE_S", 1)
        refused("no worker is connected.*start some with `dask worker", tmp_path, dask.address)
    dask.worker(preload=NOBODY)
    words = "can't run the course .*: install the same version there"
    refused(words, tmp_path, dask.address)


def test_a_worker_with_another_version_of_the_course(dask, tmp_path):
    """A copy of the package whose learning rate is half of ours: equal settings, other results."""
    for path in PACKAGE.rglob("*.py"):
        copy = tmp_path / "other" / "course_utils" / path.relative_to(PACKAGE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        content = path.read_text(encoding="utf-8")
        copy.write_text(content.replace("return min(1.0, up, down)", "return 0.5 * min(1.0, up)"))
    dask.worker(path=tmp_path / "other")
    refused("has another version of the course", tmp_path, dask.address)


def test_all_workers_lost_and_then_the_scheduler(dask, tmp_path, monkeypatch):
    """What is finished is kept each time, and the same command goes on from there."""
    monkeypatch.setattr(cluster, "LOST_S", 2)
    away, lost = tmp_path / "away", "{} lost; .*runs are kept; the same command goes on from them"
    worker = dask.worker()
    words = lost.format("all workers at .* are")
    refused(words, tmp_path, dask.address, on_record=lambda record: worker.kill())
    kept = len(runs.load_all(away))
    assert kept >= 1

    dask.worker()
    words = lost.format("the scheduler at .* is")
    refused(words, tmp_path, dask.address, on_record=lambda record: dask.scheduler.kill())
    more = len(runs.load_all(away))
    assert more > kept

    again = Cluster(tmp_path / "again")  # started anew, elsewhere
    try:
        again.worker()
        asked, finished = specs(more + 1), []
        options = {"on_record": finished.append, "scheduler": again.address}
        records = pool.run_specs(asked, OWN, away, **options)
    finally:
        again.end()
    assert [record.seed for record in finished] == [more], "what was kept is not run again"
    here = pool.run_specs(asked[-1:], OWN, tmp_path / "here")
    assert weights(records[-1:]) == weights(here)


def test_two_clients_with_one_folder_run_everything_once(workers, tmp_path, corpus_file):
    words = ("ablate", "residual", "--profile", "smoke", "--seeds", "2", "--corpus", corpus_file)
    words += ("--scheduler", workers.address)
    both = ("--out", tmp_path / "both")
    said = tmp_path / "said"
    with files.lock(tmp_path / "both"), said.open("w") as output:
        other = start(*words, *both, stdout=output, stderr=output)
        wait_until(lambda: "waiting for it to end" in said.read_text(), said, other)
    one = here(*words, *both)
    assert (one.returncode, other.wait()) == (0, 0), one.stderr + said.read_text()
    ran = [
        re.findall(r"seed \d: [\d.]+\s+nats", words)
        for words in (one.stdout + one.stderr, said.read_text())
    ]
    assert sorted(map(len, ran)) == [0, 4], "one ran all, the other waited and found all"
    done = here(*words[:8], "--workers", 1, "--out", tmp_path / "here")
    assert done.returncode == 0, done.stderr
    for record in runs.load_all(tmp_path / "both"):
        local = tmp_path / "here/checkpoints" / record.checkpoint.name
        assert record.checkpoint.read_bytes() == local.read_bytes()


# --- what a worker may send ----------------------------------------------------------------------
@pytest.fixture(scope="module")
def sent(tmp_path_factory):
    """A run, and what a worker that is honest sends for it."""
    (spec,) = specs(1)
    record = runs.execute(spec, OWN, tmp_path_factory.mktemp("honest"))
    content = {"code": runs.code(), "record": record.content()}
    return spec, content, record.checkpoint.read_bytes()


def test_what_an_honest_worker_sends_is_kept(sent, tmp_path):
    spec, content, weights = sent
    record = cluster.received((json.dumps(content), weights), spec, tmp_path)
    assert runs.find(spec, [tmp_path]).validation_loss == record.validation_loss
    assert checkpoints.load_model(record.checkpoint)[0].config == spec.model


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content, weights: ({**content, "code": "0badc0de"}, weights), "another version"),
        (lambda content, weights: ({"record": content["record"]}, weights), "is no run"),
        (lambda content, weights: ({"code": content["code"]}, weights), "is no run"),
        (lambda content, weights: (content, weights[:100]), "is no run"),
        (lambda content, weights: (content, "weights"), "is no run"),
        (
            lambda content, weights: (content | {"record": {"name": "../../x"}}, weights),
            "is no run",
        ),
        (
            lambda content, weights: (
                content | {"record": content["record"] | {"name": "../../x"}},
                weights,
            ),
            "with another run",
        ),
        (
            lambda content, weights: (
                content | {"record": content["record"] | {"seed": 7}},
                weights,
            ),
            "is no run",
        ),
        (lambda content, weights: ([], weights), "is no run"),
        (lambda content, weights: ("{", weights), "is no run"),
    ],
)
def test_what_is_no_run_is_refused_in_a_sentence_and_not_kept(sent, change, words, tmp_path):
    spec, content, weights = sent
    content, weights = change(content, weights)
    content = content if isinstance(content, str) else json.dumps(content)
    with pytest.raises(cluster.ClusterError, match=words):
        cluster.received((content, weights), spec, tmp_path / "results")
    assert runs.find(spec, [tmp_path / "results"]) is None
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    with pytest.raises(cluster.ClusterError, match="is no run"):
        cluster.received(None, spec, tmp_path / "results")


def test_the_fingerprint_of_the_code_is_of_what_decides_a_result(tmp_path, monkeypatch):
    """Whatever ends its lines, as git may on Windows; and no comment may be added."""
    here = runs.code()
    assert len(here) == 8
    for path in PACKAGE.rglob("*.py"):
        copy = tmp_path / path.relative_to(PACKAGE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        files.write(copy, path.read_bytes().replace(b"\n", b"\r\n"))
    engine = tmp_path / "training" / "engine.py"
    monkeypatch.setattr(runs, "__file__", str(engine))
    assert runs.code.__wrapped__() == here
    engine.open("a").write("# another\n")
    assert runs.code.__wrapped__() != here
