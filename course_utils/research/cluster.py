"""Runs on a Dask cluster. What comes back from a worker is JSON and the bytes of its weights.

The workers share no folder with this machine, need not be on it, and may be lost at any moment.
"""

import concurrent.futures
import contextlib
import json
import logging
import tempfile
import threading
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

from course_utils import files, profiles
from course_utils.lessons.model import GPTConfig
from course_utils.lessons.train import TrainConfig
from course_utils.messages import _
from course_utils.messages.names import translated
from course_utils.training import checkpoints, engine, runs
from course_utils.training.trainer import TrainingError

CONNECT_S = 10  # how long the scheduler may take to answer
PATIENCE_S = 15  # how long nobody may answer before the first run
LOST_S = 30  # and during the others: a worker that died may be on its way back
CORPUS = ("text", "name", "sha256", "source", "note")  # what a worker needs to know of a corpus


class ClusterError(ValueError):
    """The cluster can't go on; the message says why, and what to do."""


# --- this side -----------------------------------------------------------------------------------
def on_cluster(specs, corpus, folder, address, bar, asked=()):
    """A run a worker, on another if that one is lost. Yields (spec, record or TrainingError)."""
    with connected(address) as client:
        # First, see who is there: a worker that can't run the course would take run after run, or
        # give results that only look as ours.
        check(client, address)

        # Then hand out everything at once. Who is free takes the next.
        # Subtle: a future must be held until its result is here, or Dask forgets it.
        executor = client.get_executor(pure=False)
        waiting = {executor.submit(work, order(spec, corpus, asked)): spec for spec in specs}
        for future in as_they_end(waiting, client, address):
            spec = waiting[future]
            outcome = received(answer_of(future, spec, address), spec, Path(folder))
            bar.update(spec.train.steps)
            yield spec, outcome


@contextlib.contextmanager
def connected(address):
    """A client of the scheduler at this address."""
    try:
        from distributed import Client
    except ModuleNotFoundError:
        raise ClusterError(_("--scheduler needs Dask: pip install distributed")) from None
    logging.disable(logging.CRITICAL)  # what matters of Dask's tracebacks is said in a sentence
    try:
        client = Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        logging.disable(logging.NOTSET)
        words = _(
            "no Dask scheduler answers at {address} ({error}); start one with `dask scheduler`",
            address=address,
            error=error,
        )
        raise ClusterError(words) from None
    try:
        yield client
    finally:
        client.close(timeout=2)
        logging.disable(logging.NOTSET)


def check(client, address):
    """Refuse a cluster without workers, or with one that would give other results than ours."""
    try:
        client.wait_for_workers(1, timeout=PATIENCE_S)
    except (TimeoutError, OSError):
        words = _(
            "no worker is connected to the scheduler at {address}; start some with `dask worker "
            "{address}`",
            address=address,
        )
        raise ClusterError(words) from None

    answers = {}
    asking = threading.Thread(target=ask, args=(client, answers), daemon=True)
    asking.start()  # subtle: a thread, as a worker that hangs never answers
    asking.join(PATIENCE_S)
    if not answers:
        words = _("the workers at {address} do not answer: start them again", address=address)
        raise ClusterError(words)
    for worker, answer in answers.items():
        if not isinstance(answer, str):
            words = _(
                "the worker {worker} can't run the course ({error}): install the same version "
                "there, or stop it",
                worker=worker,
                error=answer,
            )
            raise ClusterError(words)
        if json.loads(answer)["code"] != runs.code():
            words = _(
                "the worker {worker} has another version of the course: install this one there, "
                "or stop it",
                worker=worker,
            )
            raise ClusterError(words)
    versions = {json.loads(answer)["torch"] for answer in answers.values()}
    if len(versions) > 1:
        words = _(
            "the workers at {address} have several versions of PyTorch ({versions}): runs could "
            "not be compared",
            address=address,
            versions=", ".join(sorted(versions)),
        )
        raise ClusterError(words)


def ask(client, answers):
    """Enter for each worker what `about` says there, or the error that it ended with."""
    with contextlib.suppress(OSError, RuntimeError, ValueError):  # the client was closed meanwhile
        answers.update(client.run(about, on_error="return"))


def as_they_end(waiting, client, address):
    """Each future as it ends; ClusterError where no worker is left to end one."""
    left = set(waiting)
    silent_s = 0
    while left:
        done, left = concurrent.futures.wait(left, timeout=1, return_when="FIRST_COMPLETED")
        yield from done
        silent_s = 0 if done or workers_of(client) else silent_s + 1
        if silent_s >= LOST_S:
            words = _(
                "all workers at {address} are lost; start some with `dask worker {address}`",
                address=address,
            )
            raise ClusterError(words)


def workers_of(client):
    """How many workers the scheduler knows; none where it doesn't answer."""
    try:
        return len(client.scheduler_info()["workers"])
    except (OSError, RuntimeError, ValueError):
        return 0


def answer_of(future, spec, address):
    """What a worker sent, or a ClusterError that says how it failed."""
    from distributed.scheduler import KilledWorker

    run = named(spec)
    try:
        return future.result()
    except concurrent.futures.CancelledError:
        words = _(
            "the scheduler at {address} is lost; start one with `dask scheduler`", address=address
        )
        raise ClusterError(words) from None
    except KilledWorker:
        words = _(
            "every worker that tried {run} has died; look at their logs: is the memory enough?",
            run=run,
        )
        raise ClusterError(words) from None
    except Exception as error:  # whatever the worker met
        words = _(
            "{run} failed on a worker ({kind}: {error})",
            run=run,
            kind=type(error).__name__,
            error=error,
        )
        raise ClusterError(words) from None


def named(spec):
    """A run as a reader knows it."""
    return _("{arm}, seed {seed}", arm=translated(spec.arm), seed=spec.train.seed)


def order(spec, corpus, asked):
    """A run as JSON, and what is asked of a worker's GPU: as engine.pieces_for's."""
    text = {name: getattr(corpus, name) for name in CORPUS}
    return json.dumps({"spec": asdict(spec), "corpus": text, "asked": list(asked)})


def received(answer, spec, folder):
    """Keep what a worker sent, once it has shown to be what was asked for."""
    run = named(spec)
    checkpoint = folder / "checkpoints" / f"{spec.name}.safetensors"
    try:
        content, weights = answer
        content = json.loads(content)
        if content["code"] != runs.code():
            words = _("{run} was run by another version of the course, and is not kept", run=run)
            raise ClusterError(words)
        if "diverged" in content:
            return TrainingError(content["diverged"])
        record = runs.RunRecord.from_file(content["record"], folder=folder)
        if not record.name == record.own_name == spec.name:
            words = _("a worker answered {name} with another run: it is not kept", name=spec.name)
            raise ClusterError(words)

        # As everywhere: first the weights, then the record that says that they are there.
        files.write(checkpoint, weights)
        checkpoints.load_model(checkpoint)
        record.environment["command"] = runs.command()
        record.save(folder)
    except ClusterError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        checkpoint.unlink(missing_ok=True)
        words = _("what a worker sent for {run} is no run ({error})", run=run, error=error)
        raise ClusterError(words) from None
    return record


# --- the worker's side ---------------------------------------------------------------------------
# Subtle: a worker's threads share a process and in it PyTorch's random numbers. Two runs at once
# would draw from one sequence, and each would be another run than its seed says.
ONE_AT_A_TIME = threading.Lock()


def about():
    """What decides whether a worker's results are ours, as JSON."""
    import torch

    return json.dumps({"code": runs.code(), "torch": torch.__version__})


def work(order):
    """Do a run and send it. -> (JSON: the code's fingerprint, and the record or why it diverged;
    the bytes of the weights)"""
    from distributed import get_worker

    worker = get_worker()
    order = json.loads(order)
    spec = order["spec"]
    spec |= {"model": GPTConfig(**spec["model"]), "train": TrainConfig(**spec["train"])}
    text = SimpleNamespace(**order["corpus"])
    pieces = engine.pieces_for(engine.work(spec["model"], spec["train"]), order["asked"])
    with ONE_AT_A_TIME, tempfile.TemporaryDirectory() as folder:
        try:
            record = runs.execute(
                runs.RunSpec(**spec), text, folder, profiles.device(), allow=pieces
            )
        except TrainingError as error:
            return json.dumps({"code": runs.code(), "diverged": str(error)}), b""
        content = record.content()
        content["environment"]["worker"] = f"{worker.name}, {worker.state.nthreads} threads"
        sent = json.dumps({"code": runs.code(), "record": content})
        return sent, record.checkpoint.read_bytes()
