"""Running what a study asks for: one after the other, on processes of this machine, or on a cluster."""

import concurrent.futures
import contextlib
import itertools
import multiprocessing
import os
import signal
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

from course_utils import files, profiles
from course_utils.training import engine, runs
from course_utils.training.trainer import TrainingError


def run(specs, corpus, folder, device="cpu", workers=1, on_record=None, allow=None, scheduler=None):
    """Run what is not yet in the folder, the longest first. -> list of RunRecord, as specs

    workers > 1: that many processes, which share the cores and take the GPUs in turn. scheduler: the address of a
    Dask scheduler, whose workers are used instead. on_record(record): called as each run ends. allow: as
    engine.make_engine's. A run whose loss stops being a number does not stop the others; it is named at the end.
    """
    found, failed = {spec: runs.find(spec, [folder]) for spec in specs}, {}
    missing = [spec for spec in dict.fromkeys(specs) if not found[spec]]
    groups = sorted(
        grouped(missing, one_compilation=torch.device(device).type == "cuda"),
        key=lambda g: -work(g),
    )
    with tqdm(
        total=sum(s.train.steps for s in missing), unit="step", disable=None if missing else True
    ) as bar:

        def take(spec, outcome):
            if isinstance(outcome, TrainingError):
                failed[spec] = outcome
            else:
                found[spec] = outcome
                if on_record:
                    on_record(outcome)

        if scheduler:
            run_away(missing, corpus, folder, scheduler, take, bar)
        elif workers == 1:
            for spec in itertools.chain(*groups):
                bar.set_description(f"{spec.arm}, seed {spec.train.seed}")
                pieces = allow or pieces_for([spec], device)
                take(spec, attempt(runs.execute, spec, corpus, folder, device, bar.update, pieces))
        else:
            run_here(groups, corpus, folder, device, workers, take, bar, allow)
    if failed:
        kept = (
            f" ({len(found) - len(failed)} other runs are kept)" if len(found) > len(failed) else ""
        )
        raise TrainingError(
            "; ".join(f"{s.arm}, seed {s.train.seed}: {e}" for s, e in failed.items()) + kept
        )
    return [found[spec] for spec in specs]


def announce(record):
    """One line a finished run, for a terminal or a log."""
    tqdm.write(
        f"{record.arm}, seed {record.seed}: {record.validation_loss:.3f} nats/character at step {record.best_step} "
        f"({record.elapsed_s:.0f} s after {record.setup_s:.0f} s of preparation, {record.regime}; {record.stopped})"
    )


def grouped(specs, one_compilation):
    """Runs that one process should do after another: those of one shape, where compiling is dear; else each alone."""
    groups = {}
    for spec in specs:
        shares = one_compilation and work([spec]) < engine.WORTH_COMPILING
        key = (spec.model, replace(spec.train, seed=0), spec.data_share) if shares else spec
        groups.setdefault(key, []).append(spec)
    return list(groups.values())


def work(group):
    """About how long these runs take: parameters x characters."""
    return sum(engine.work(spec.model, spec.train) for spec in group)


def pieces_for(group, device):
    """What a GPU may use: the compiler only where these runs together are long enough to pay for it."""
    if torch.device(device).type == "cuda" and work(group) > engine.WORTH_COMPILING:
        return engine.PIECES
    return None


def attempt(function, *arguments):
    """Its result, or the TrainingError that it ended with: a diverging run is an outcome too."""
    try:
        return function(*arguments)
    except TrainingError as error:
        return error


def run_here(groups, corpus, folder, device, workers, take, bar, allow=None):
    """On a pool of processes, a group of runs each."""
    with pool(workers) as (executor, steps_done):
        waiting = {
            executor.submit(_work, group, corpus, folder, str(device), allow): group
            for group in groups
        }
        while waiting:
            done, _ = concurrent.futures.wait(waiting, timeout=0.5, return_when="FIRST_COMPLETED")
            bar.update(steps_done.value - bar.n)
            for future in done:
                for spec, outcome in zip(waiting.pop(future), future.result(), strict=True):
                    take(spec, outcome)


def run_away(specs, corpus, folder, scheduler, take, bar):
    """On a Dask cluster, which gives a run to another worker where one is lost. Here is where the results are kept."""
    try:
        from distributed import Client
    except ModuleNotFoundError:
        raise ValueError("--scheduler needs Dask: pip install distributed") from None
    try:
        client = Client(scheduler, timeout=10, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"no Dask scheduler answers at {scheduler} ({error}); start one with `dask scheduler`"
        ) from None
    with client:
        executor = client.get_executor(pure=False)
        waiting = {executor.submit(_work_away, spec, corpus): spec for spec in specs}
        for future in concurrent.futures.as_completed(waiting):
            spec, outcome = waiting[future], future.result()
            if not isinstance(outcome, TrainingError):
                record, weights = outcome
                record.folder = Path(folder)
                files.write(record.checkpoint, weights)
                record.save(record.folder)
                outcome = record
            bar.update(spec.train.steps)
            take(spec, outcome)


@contextlib.contextmanager
def pool(workers):
    """A pool of fresh processes that share the cores and take the GPUs in turn, and the number of steps they did."""
    context = multiprocessing.get_context("spawn")
    steps_done, begun = context.Value("q", 0), context.Value("q", 0)
    threads, on_gpu = max(1, torch.get_num_threads() // workers), torch.cuda.is_available()
    executor = concurrent.futures.ProcessPoolExecutor(
        workers,
        context,
        _begin_worker,
        (threads, steps_done, begun),
        max_tasks_per_child=None if on_gpu else 1,
    )  # on a CPU a fresh process a run, or its memory could not be told from the last one's
    try:
        yield executor, steps_done
    except BaseException:
        executor.shutdown(wait=False, cancel_futures=True)
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    executor.shutdown()


def _begin_worker(threads, steps_done, begun):
    global _steps_done
    _steps_done = steps_done
    torch.set_num_threads(threads)
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(threads))
    with begun.get_lock():
        mine, begun.value = begun.value, begun.value + 1
    if torch.cuda.is_available():
        torch.cuda.set_device(mine % torch.cuda.device_count())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent():
    multiprocessing.parent_process().join()
    os._exit(1)  # the parent was killed: nobody waits for this run


def _work(group, corpus, folder, device, allow):
    def count(n):
        with _steps_done.get_lock():
            _steps_done.value += n

    allow = allow or pieces_for(group, device)
    return [attempt(runs.execute, spec, corpus, folder, device, count, allow) for spec in group]


def _work_away(spec, corpus):
    """On a cluster's machine, which shares no folder with ours. -> (record, the bytes of its weights)"""
    with tempfile.TemporaryDirectory() as folder:
        record = attempt(runs.execute, spec, corpus, folder, profiles.device())
        return (
            record
            if isinstance(record, TrainingError)
            else (record, record.checkpoint.read_bytes())
        )
