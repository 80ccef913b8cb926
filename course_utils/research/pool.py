"""Running what a study asks for: one by one, on processes of this machine, or on a cluster."""

import contextlib
import itertools
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from dataclasses import replace

import torch
from tqdm import tqdm

from course_utils.messages import _
from course_utils.messages.names import translated
from course_utils.research.cluster import ClusterError, named, on_cluster
from course_utils.research.terminal import broken
from course_utils.training import engine, runs
from course_utils.training.trainer import TrainingError


def run_specs(
    specs, corpus, folder, device="cpu", workers=1, on_record=None, asked=(), scheduler=None
):
    """Run what is not yet in the folder, the longest first. -> list of RunRecord, as specs

    workers > 1: that many processes, which share the cores and take the GPUs in turn. scheduler:
    the address of a Dask scheduler, whose workers are used instead. on_record(record): called as
    each run ends. asked: as engine.pieces_for's. A run whose loss stops being a number does not
    stop the others; it is named at the end.
    """
    # First, what is there already, and in which order the rest should go: the longest first, so
    # that no process is left alone with it at the end.
    records = {spec: runs.find_finished(spec, folder) for spec in specs}
    missing = [spec for spec in records if not records[spec]]
    on_gpu = torch.device(device).type == "cuda"
    groups = sorted(grouped(missing, one_compilation=on_gpu), key=work, reverse=True)

    # Then run it. Each of the three ways gives a run and what came of it, as soon as it has ended.
    steps = sum(spec.train.steps for spec in missing)
    bar = tqdm(total=steps, unit=_("counted|step"), disable=None if missing else True)
    if scheduler:
        outcomes = on_cluster(missing, corpus, folder, scheduler, bar, asked)
    elif workers == 1:
        outcomes = one_by_one(groups, corpus, folder, device, asked, bar)
    else:
        outcomes = on_processes(groups, corpus, folder, device, workers, asked, bar)

    failed = {}
    with bar, contextlib.closing(outcomes):
        try:
            for spec, outcome in outcomes:
                if isinstance(outcome, TrainingError | PoolError):
                    failed[spec] = outcome
                    continue
                records[spec] = outcome
                if on_record:
                    on_record(outcome)
        except ClusterError as error:
            kept = sum(record is not None for record in records.values())
            words = _(
                "{error} ({kept} of {all} runs are kept; the same command goes on from them)",
                error=error,
                kept=kept,
                all=len(records),
            )
            raise ClusterError(words if kept else str(error)) from None

    # Last, if a run came to nothing, say which, now that all others are safe.
    if failed:
        said = _("; ").join(f"{named(spec)}{_(': ')}{error}" for spec, error in failed.items())
        kept = len(records) - len(failed)
        kind = type(next(iter(failed.values())))
        words = _("{problems} ({kept} other runs are kept)", problems=said, kept=kept)
        raise kind(words if kept else said)
    return [records[spec] for spec in specs]


class PoolError(ValueError):
    """A run's process has gone; the message says what to do."""


def announce(record):
    """One line a finished run, for a terminal or a log."""
    line = _(
        "{arm}, seed {seed}: {loss:.3f} nats/character at step {step} ({elapsed:.0f} s after "
        "{setup:.0f} s of preparation, {regime}; {stopped})",
        arm=translated(record.arm),
        seed=record.seed,
        loss=record.validation_loss,
        step=record.best_step,
        elapsed=record.elapsed_s,
        setup=record.setup_s,
        regime=record.regime,
        stopped=translated(record.stopped),
    )
    tqdm.write(broken(line))


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


def attempt(function, *arguments):
    """Its result, or the TrainingError that it ended with: a diverging run is an outcome too."""
    try:
        return function(*arguments)
    except TrainingError as error:
        return error


# --- here ----------------------------------------------------------------------------------------
def one_by_one(groups, corpus, folder, device, asked, bar):
    """In this process. Yields (spec, RunRecord or TrainingError)."""
    for spec in itertools.chain(*groups):
        bar.set_description(named(spec))
        pieces = engine.pieces_for(work([spec]), asked)
        step = counted(bar, spec)
        yield spec, attempt(runs.execute, spec, corpus, folder, device, step, pieces)


def counted(bar, spec):
    """What a run calls as it steps: the bar moves, and says why it stands still at the end."""
    done = 0

    def step(n):
        nonlocal done
        done += n
        bar.update(n)
        if done == spec.train.steps:
            bar.set_description(_("{run}, evaluating", run=named(spec)))

    return step


# --- on processes of this machine ----------------------------------------------------------------
def on_processes(groups, corpus, folder, device, workers, asked, bar):
    """On several processes, a group of runs each. Yields (spec, RunRecord or what went wrong)."""
    on_gpu = torch.device(device).type == "cuda"
    threads = max(1, torch.get_num_threads() // workers)
    waiting = list(reversed(groups))  # the longest is taken first, from the end
    steps_before = 0  # of processes that have gone
    free = []
    busy = {}  # what tells of a process's end, or of its answer -> the process
    try:
        while waiting or busy:
            # First, work for all. Subtle: on a CPU each group has a fresh process, or the peak of
            # its memory would be the last one's; on a GPU they are kept, as it takes long to wake.
            while waiting and len(busy) < workers:
                number = min(set(range(workers)) - {worker.number for worker in busy.values()})
                worker = free.pop() if free else Worker(number, threads)
                worker.begin(waiting.pop(), corpus, folder, device, asked)
                busy[worker.answers] = worker

            # Then wait for an answer, or half a second, or the bar would stand still meanwhile.
            ended = multiprocessing.connection.wait(busy, timeout=0.5)
            running = [*busy.values(), *free]
            bar.update(steps_before + sum(worker.steps.value for worker in running) - bar.n)
            if bar.n == bar.total:
                bar.set_description(_("evaluating"))

            # Last, what came of it; the process is let go before anybody hears of it.
            for one in ended:
                outcomes = busy[one].outcomes()
                worker = busy.pop(one)
                if on_gpu and worker.process.is_alive():
                    free.append(worker)
                else:
                    steps_before += worker.steps.value
                    worker.end()
                yield from outcomes
    finally:
        for worker in [*busy.values(), *free]:
            worker.process.terminate()
        for worker in [*busy.values(), *free]:
            worker.end()


class Worker:
    """A process that does one group of runs after another, as it is asked to."""

    def __init__(self, number, threads):
        context = multiprocessing.get_context("spawn")
        self.number = number
        self.answers, theirs = context.Pipe()
        self.steps = context.RawValue("q", 0)  # which it alone writes
        self.process = context.Process(target=_serve, args=(theirs, self.steps, number, threads))
        with ctrl_c_kept_away():
            self.process.start()
        theirs.close()  # so that its end is seen when the process has gone

    def begin(self, group, corpus, folder, device, asked):
        self.group = group
        with contextlib.suppress(OSError):  # it is gone already: `outcomes` will see
            self.answers.send((group, corpus, folder, str(device), asked))

    def outcomes(self):
        """What came of the group, run by run; of those that its end has cut off, that."""
        try:
            answer = self.answers.recv()
        except (EOFError, OSError):
            words = _("its process was killed; if memory ran out, try `--workers 1`")
            lost = PoolError(words)
            return [(spec, lost) for spec in self.group]
        if isinstance(answer, BaseException):
            raise answer
        return list(zip(self.group, answer, strict=True))

    def end(self):
        self.answers.close()  # which it takes for goodbye
        self.process.join()


@contextlib.contextmanager
def ctrl_c_kept_away():
    """Processes begun in here never see Ctrl-C, not even while they load: the parent decides."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(questions, steps, number, threads):
    """What a worker's process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where it could not be kept away
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(threads))
    if torch.cuda.is_available():
        torch.cuda.set_device(number % torch.cuda.device_count())

    def count(n):
        steps.value += n

    while True:
        try:
            group, corpus, folder, device, asked = questions.recv()
        except EOFError:
            return
        pieces = engine.pieces_for(work(group), asked)
        try:
            answer = [
                attempt(runs.execute, s, corpus, folder, device, count, pieces) for s in group
            ]
        except (OSError, ValueError) as error:  # a full disk, a text that is too short
            answer = error
        questions.send(answer)


def _end_with_parent():
    multiprocessing.parent_process().join()
    os._exit(1)  # the parent was killed: nobody waits for this run
