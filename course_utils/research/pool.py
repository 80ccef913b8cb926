"""Running what a study asks for: one by one, on processes of this machine, or on a cluster."""

import concurrent.futures
import contextlib
import itertools
import multiprocessing
import os
import signal
import threading
from dataclasses import replace

import torch
from tqdm import tqdm

from course_utils.research.cluster import ClusterError, named, on_cluster
from course_utils.research.terminal import broken
from course_utils.training import engine, runs
from course_utils.training.trainer import TrainingError


def run_specs(
    specs, corpus, folder, device="cpu", workers=1, on_record=None, allow=None, scheduler=None
):
    """Run what is not yet in the folder, the longest first. -> list of RunRecord, as specs

    workers > 1: that many processes, which share the cores and take the GPUs in turn. scheduler:
    the address of a Dask scheduler, whose workers are used instead. on_record(record): called as
    each run ends. allow: as engine.make_engine's. A run whose loss stops being a number does not
    stop the others; it is named at the end.
    """
    # First, what is there already, and in which order the rest should go: the longest first, so
    # that no process is left alone with it at the end.
    records = {spec: runs.find(spec, [folder]) for spec in specs}
    missing = [spec for spec in records if not records[spec]]
    on_gpu = torch.device(device).type == "cuda"
    groups = sorted(grouped(missing, one_compilation=on_gpu), key=work, reverse=True)

    # Then run it. Each of the three ways gives a run and what came of it, as soon as it has ended.
    steps = sum(spec.train.steps for spec in missing)
    bar = tqdm(total=steps, unit="step", disable=None if missing else True)
    if scheduler:
        outcomes = on_cluster(missing, corpus, folder, scheduler, bar)
    elif workers == 1:
        outcomes = one_by_one(groups, corpus, folder, device, allow, bar)
    else:
        outcomes = on_processes(groups, corpus, folder, device, workers, allow, bar)

    diverged = {}
    with bar, contextlib.closing(outcomes):
        try:
            for spec, outcome in outcomes:
                if isinstance(outcome, TrainingError):
                    diverged[spec] = outcome
                    continue
                records[spec] = outcome
                if on_record:
                    on_record(outcome)
        except (ClusterError, PoolError) as error:
            kept = sum(record is not None for record in records.values())
            words = f"{kept} of {len(records)} runs are kept; the same command goes on from them"
            raise PoolError(f"{error} ({words})" if kept else str(error)) from None

    # Last, if a run diverged, say which, now that all others are safe.
    if diverged:
        said = "; ".join(f"{named(spec)}: {error}" for spec, error in diverged.items())
        kept = len(records) - len(diverged)
        raise TrainingError(f"{said} ({kept} other runs are kept)" if kept else said)
    return [records[spec] for spec in specs]


class PoolError(ValueError):
    """Who runs has gone; the message says what is kept."""


def announce(record):
    """One line a finished run, for a terminal or a log."""
    loss = f"{record.validation_loss:.3f} nats/character at step {record.best_step}"
    time = f"{record.elapsed_s:.0f} s after {record.setup_s:.0f} s of preparation"
    about = f"{time}, {record.regime}; {record.stopped}"
    tqdm.write(broken(f"{record.arm}, seed {record.seed}: {loss} ({about})"))


# --- how long a run takes, and which belong together ---------------------------------------------
def grouped(specs, one_compilation):
    """Runs that one process should do one after the other: those of one shape, where compiling is
    dear; else each alone."""
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
    """What a GPU may use: the compiler only where these runs together are long enough for it."""
    if torch.device(device).type == "cuda" and work(group) > engine.WORTH_COMPILING:
        return engine.PIECES
    return None


def attempt(function, *arguments):
    """Its result, or the TrainingError that it ended with: a diverging run is an outcome too."""
    try:
        return function(*arguments)
    except TrainingError as error:
        return error


# --- here ----------------------------------------------------------------------------------------
def one_by_one(groups, corpus, folder, device, allow, bar):
    """In this process. Yields (spec, RunRecord or TrainingError)."""
    for spec in itertools.chain(*groups):
        bar.set_description(named(spec))
        pieces = allow or pieces_for([spec], device)
        yield spec, attempt(runs.execute, spec, corpus, folder, device, bar.update, pieces)


# --- on processes of this machine ----------------------------------------------------------------
def on_processes(groups, corpus, folder, device, workers, allow, bar):
    """On a pool of processes, a group of runs each. Yields (spec, RunRecord or TrainingError)."""
    with pool(workers) as (executor, steps_done):
        with ctrl_c_kept_away():
            waiting = {
                executor.submit(_work, group, corpus, folder, str(device), allow): group
                for group in groups
            }
        while waiting:
            # Subtle: the wait ends twice a second, or the bar would stand still during a long run.
            done, _ = concurrent.futures.wait(waiting, timeout=0.5, return_when="FIRST_COMPLETED")
            bar.update(steps_done.value - bar.n)
            for future in done:
                yield from zip(waiting.pop(future), outcomes_of(future), strict=True)


def outcomes_of(future):
    """What came of a group of runs, if its process lived to tell."""
    try:
        return future.result()
    except concurrent.futures.process.BrokenProcessPool:
        raise PoolError(
            "a process that trained was killed: if memory ran out, `--workers 1` needs the least"
        ) from None


@contextlib.contextmanager
def ctrl_c_kept_away():
    """Processes begun in here never see Ctrl-C, not even while they load: the parent decides.

    Subtle: so does each that the executor's own thread begins later, as it begins in here too.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def pool(workers):
    """Fresh processes that share the cores and take the GPUs in turn; and the steps they did."""
    context = multiprocessing.get_context("spawn")
    steps_done = context.Value("q", 0)
    begun = context.Value("q", 0)
    threads = max(1, torch.get_num_threads() // workers)
    executor = concurrent.futures.ProcessPoolExecutor(
        workers,
        context,
        _begin_worker,
        (threads, steps_done, begun),
        # Subtle: on a CPU each run has a fresh process, or its peak memory would be the last one's.
        max_tasks_per_child=None if torch.cuda.is_available() else 1,
    )
    try:
        yield executor, steps_done
    except BaseException:
        # First no new runs, then an end to those on their way, then wait until all are gone: who is
        # just being born would look for what this process has taken down already.
        executor.shutdown(wait=False, cancel_futures=True)
        for child in multiprocessing.active_children():
            child.terminate()
        executor.shutdown()
        raise
    executor.shutdown()


def _begin_worker(threads, steps_done, begun):
    """What each process does before its first run."""
    global _steps_done
    _steps_done = steps_done
    torch.set_num_threads(threads)
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(threads))

    with begun.get_lock():
        number = begun.value
        begun.value += 1
    if torch.cuda.is_available():
        torch.cuda.set_device(number % torch.cuda.device_count())

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where it could not be kept away
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
