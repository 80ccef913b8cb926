"""The training loop of lesson 4 with its practical side: best weights, early stopping, costs; and nothing is lost.

A run can be stopped at any moment, by Ctrl-C or worse, and goes on from its last saved state as if nothing had been.
"""

import contextlib
import math
import signal
import sys
import threading
import time
from dataclasses import asdict, dataclass, field

import torch
from tqdm import tqdm

from course_utils.lessons.model import GPT
from course_utils.lessons.train import EarlyStopping
from course_utils.training import engine
from course_utils.training.evaluation import by_position, half, token_losses

REPORTS = 50  # of the training loss, in a run of full length
LARGEST = (
    1e6  # a weight beyond it has left the text for good, though its loss may still be a number
)
SAVING = 0.01  # the share of the time that saving the state may take


class TrainingError(ValueError):
    """Training can't begin or can't go on; the message says what to change."""


@dataclass
class Training:
    """What one training run found."""

    history: list = field(
        default_factory=list
    )  # a dict a report: step, losses, seconds; some hold no validation loss
    best_step: int = 0
    validation_loss: float = (
        math.inf
    )  # nats/character over the whole validation split, at best_step
    choosing_loss: float = (
        math.inf
    )  # over its first half, which chooses: the best step, a learning rate
    reporting_loss: float = math.inf  # over its second half, which chooses nothing
    position_losses: list = field(
        default_factory=list
    )  # mean loss at places 1, 2, 3–4, 5–8, … of the context
    training_loss: float = math.inf  # nats/character, mean over the batches since the report before
    stopped: str = ""  # why it ended
    regime: str = ""  # how the steps were made
    setup_s: float = 0.0  # compiling and capturing, before the first step
    elapsed_s: float = 0.0  # training and evaluations
    evaluating_s: float = 0.0  # of that, evaluations
    characters_per_s: float = 0.0  # seen in training, evaluations not counted
    peak_memory_mb: float = math.nan  # of the GPU, else of the whole process


def new_model(model_config, train_config, device="cpu"):
    """A fresh model whose weights are drawn from the run's seed (on the CPU, so the same on every device)."""
    torch.manual_seed(train_config.seed)
    return GPT(model_config).to(device)


def train(
    model, train_ids, validation_ids, config, on_step=None, allow=None, saved=None, save=None
):
    """Train in place, keep the weights of the best evaluation, and say what happened.

    train_ids, validation_ids: (N,) int64 on any device. on_step(n): called when n more steps are done. allow: as
    make_engine's. saved: a state to go on from, (tensors, facts); save(tensors, facts): called now and then, and
    when Ctrl-C ends the run, which then raises KeyboardInterrupt. -> Training
    """
    T, device = model.config.context_length, next(model.parameters()).device
    if min(len(train_ids), len(validation_ids) + T - 1) <= T:
        raise TrainingError(
            f"the text is too short: a context of {T} characters needs a training split of at least {T + 1} "
            f"characters (here {len(train_ids)}) and a validation split of 2 (here {len(validation_ids)})"
        )
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    begin = time.perf_counter()
    with (
        ctrl_c_waits() as asked
    ):  # for what torch loads at the first step too: a half-loaded module would stay so
        run = Run(model.train(), train_ids.to(device), validation_ids.to(device), config, allow)
        synchronize(device)
        run.result.setup_s += time.perf_counter() - begin
        torch.manual_seed(config.seed + 1)  # dropout
        if saved:
            run.go_on(*saved)
        run.loop(on_step or (lambda n: None), save or (lambda *state: None), asked)
    model.load_state_dict(run.best)
    result = run.result
    result.regime, patience_over = run.steps.regime, run.stopping.should_stop
    result.stopped = (
        f"no improvement in {config.patience} evaluations" if patience_over else "all steps done"
    )
    result.characters_per_s = result.history[-1]["characters"] / (
        result.elapsed_s - result.evaluating_s
    )
    result.peak_memory_mb = peak_memory_mb(device)
    return result


class Run:
    """A run on its way: its engine, what it has found, and its best weights."""

    def __init__(self, model, train_ids, validation_ids, config, allow):
        self.model, self.validation_ids, self.config = model, validation_ids, config
        self.steps = engine.make_engine(model, train_ids, config, allow)
        self.stopping, self.result, self.best = EarlyStopping(config.patience), Training(), {}
        self.result.regime = self.steps.regime
        self.characters = config.batch_size * model.config.context_length
        self.evaluate_every = config.evaluate_every or max(1, len(train_ids) // self.characters)

    def loop(self, on_step, save, asked):
        config, on_gpu, result = self.config, self.validation_ids.is_cuda, self.result
        on_step(self.steps.steps_done)
        self.keep(lambda *state: None)
        begin, saved_at = time.perf_counter() - result.elapsed_s, time.perf_counter()
        while self.steps.steps_done < config.steps and not self.stopping.should_stop:
            self.steps.step()
            on_step(1)
            step = self.steps.steps_done
            evaluates = step % self.evaluate_every == 0 or step == config.steps
            reports = (
                evaluates or (step - 1) * REPORTS // config.steps < step * REPORTS // config.steps
            )
            if reports or not on_gpu:  # a GPU is not asked after each step
                self.check()
            if reports:
                self.report(evaluates, begin)
            if reports and time.perf_counter() - saved_at > self.saving_s / SAVING:
                self.keep(save)
                saved_at = time.perf_counter()
            if asked:
                result.elapsed_s = time.perf_counter() - begin
                self.keep(save)
                raise KeyboardInterrupt(f"stopped after step {step:,} of {config.steps:,}")

    def report(self, evaluates, begin):
        """Add a row to the history; where the run evaluates, measure, and keep the weights if they are the best."""
        step, result = self.steps.steps_done, self.result
        since = result.history[-1]["step"] if result.history else 0
        losses = self.steps.losses[since:step]
        row = {
            "step": step,
            "characters": step * self.characters,
            "training_loss": losses.mean().item(),
        }
        if evaluates:
            paused = time.perf_counter()
            found = token_losses(self.model, self.validation_ids)
            middle = half(len(found), self.model.config.context_length)
            row["validation_loss"] = found.mean().item()
            row["choosing_loss"], row["reporting_loss"] = (
                found[:middle].mean().item(),
                found[middle:].mean().item(),
            )
            result.evaluating_s += time.perf_counter() - paused
            if not math.isfinite(row["validation_loss"]):
                self.give_up(step)
        row["elapsed_s"] = result.elapsed_s = time.perf_counter() - begin
        result.history.append(row)
        if evaluates and self.stopping.update(row["choosing_loss"]):
            self.best = {name: weight.clone() for name, weight in self.model.state_dict().items()}
            result.best_step, result.position_losses = (
                step,
                by_position(found, self.model.config.context_length),
            )
            for name in ("training_loss", "validation_loss", "choosing_loss", "reporting_loss"):
                setattr(result, name, row[name])

    def check(self):
        """Refuse to go on from a loss that is no number."""
        first = len(self.kept["losses"])
        bad = (~self.steps.losses[first : self.steps.steps_done].isfinite()).nonzero()
        if len(bad):
            self.give_up(first + bad[0].item() + 1)

    def give_up(self, step):
        """Give the model its last good weights back, and say what to change."""
        self.steps.restore(self.kept)
        raise TrainingError(
            f"the loss is no longer a number at step {step:,}: try a lower learning rate (the model has its weights "
            f"of step {self.steps.steps_done:,} again)"
        )

    def keep(self, save):
        """Hold the state, and save it with the best weights and all that was found."""
        begin, state = time.perf_counter(), self.steps.state()
        weights = (tensor for name, tensor in state.items() if name.startswith("model/"))
        if not all(t.isfinite().all() for t in state.values()) or any(
            w.abs().max() > LARGEST for w in weights
        ):
            self.give_up(self.steps.steps_done + 1)  # where the loss would show it
        self.kept = state
        best = {f"best/{name}": weight for name, weight in self.best.items()}
        try:
            save(self.kept | best, {"found": asdict(self.result)})
        except OSError as error:  # a full disk: what was saved before is still there, and there may be room at the end
            tqdm.write(
                f"The state of step {self.steps.steps_done:,} can't be saved ({error.strerror}): free some space."
            )
        self.saving_s = time.perf_counter() - begin

    def go_on(self, tensors, facts):
        """Take up a saved state: as if the run had never stopped."""
        setup_s, regime, device = (
            self.result.setup_s,
            self.result.regime,
            self.validation_ids.device,
        )
        self.result = Training(**facts["found"])
        self.result.setup_s, self.result.regime = self.result.setup_s + setup_s, regime
        for row in self.result.history:
            if "choosing_loss" in row:
                self.stopping.update(row["choosing_loss"])
        for name, tensor in tensors.items():
            if name.startswith("best/"):
                self.best[name.removeprefix("best/")] = tensor.to(device)
        self.steps.restore(tensors)


@contextlib.contextmanager
def ctrl_c_waits():
    """Ctrl-C becomes an entry in the list that this yields, for the loop to see between two steps; the second acts."""
    asked = []
    if (
        threading.current_thread() is not threading.main_thread()
    ):  # only that one may handle signals
        yield asked
        return

    def ask(number, frame):
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


def synchronize(device):
    """Wait until a GPU has done what it was asked to do."""
    if device.type in ("cuda", "mps"):
        getattr(torch, device.type).synchronize()


def peak_memory_mb(device):
    """The most memory held so far: by tensors on a GPU, by the whole process on a CPU (unknown on Windows)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    if sys.platform == "win32":
        return math.nan
    import resource

    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
