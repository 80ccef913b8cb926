"""Lesson 4's loop with its practical side: best weights, early stopping, costs; nothing is lost.

A run can be stopped at any moment, by Ctrl-C or worse, and goes on from its last saved state as if
nothing had been.
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

from course_utils import files
from course_utils.lessons.model import GPT
from course_utils.lessons.train import EarlyStopping, token_losses
from course_utils.messages import _
from course_utils.training import checkpoints, engine
from course_utils.training.evaluation import by_position, half

# What records and states that were written earlier lack.
LATER = {
    "choosing_loss",
    "reporting_loss",
    "position_losses",
    "data_share",
    "weights_sha256",
    "untouched",
    "plays",
    "drawn",
    "weights_offset",
    "step_memory_mb",
}
REPORT = ("step", "characters", "training_loss", "elapsed_s")  # of the history
# More, where there was an evaluation; one that is only looked at has no halves and chooses nothing.
EVALUATION = ("validation_loss", "choosing_loss", "reporting_loss")
DIVERGED = 700.0  # nats/character: the perplexity is about the largest number that there is
REPORTS = 50  # of the training loss, in a run of full length
SAVING = 0.01  # the share of the time that saving the state may take


class TrainingError(ValueError):
    """Training can't begin or can't go on; the message says what to change."""


class StateError(ValueError):
    """What was to be gone on from is no state of this run; the message says why."""


@dataclass
class Training:
    """What one training run came to. Losses are in nats/character."""

    # A dict a report: step, characters, training_loss, elapsed_s; where the run was evaluated
    # validation_loss too, and where that could choose weights, choosing_loss and reporting_loss.
    history: list = field(default_factory=list)

    best_step: int = 0
    validation_loss: float = math.inf  # over the whole validation split, at best_step
    choosing_loss: float = math.nan  # over its first half, which chose best_step
    reporting_loss: float = math.nan  # over its second half, which chose nothing
    position_losses: list = field(
        default_factory=list
    )  # at places 1, 2, 3–4, 5–8, … of the context
    training_loss: float = math.inf  # mean over the batches since the report before

    stopped: str = ""  # why it ended
    regime: str = ""  # how the steps were made
    setup_s: float = 0.0  # compiling and capturing, before the first step
    elapsed_s: float = 0.0  # training and evaluations
    evaluating_s: float = 0.0  # of that, evaluations
    characters_per_s: float = 0.0  # seen in training, evaluations not counted
    peak_memory_mb: float = math.nan  # MiB, of the GPU, else of the whole process
    step_memory_mb: float = 0.0  # MiB of a GPU in its steps alone, no evaluation; 0: not measured

    @classmethod
    def from_file(cls, values, **more):
        """What a file's dict says, and more that is known; a ValueError names what is wrong."""
        values = files.fields_of(cls, values)
        if missing := cls.__dataclass_fields__.keys() - values.keys() - more.keys() - LATER:
            raise ValueError(_("no {name}", name=min(missing)))
        one = cls(**values, **more)
        one.check()
        return one

    def check(self):
        """A ValueError that names what no run leaves behind."""
        for row in self.history:
            for name in (*REPORT, *(row.keys() & {*EVALUATION})):
                files.of_type(float, row[name], _("{name} of a report", name=name))
        for loss in self.position_losses:
            files.of_type(float, loss, _("a loss by position"))


def new_model(model_config, train_config, device="cpu"):
    """A fresh model, its weights drawn from the run's seed on the CPU: the same for all devices."""
    torch.manual_seed(train_config.seed)
    return GPT(model_config).to(device)


def train(
    model,
    train_ids,
    validation_ids,
    config,
    on_step=None,
    allow=None,
    saved=None,
    save=None,
    curve_points=0,
    targets=None,
):
    """Train in place, keep the weights of the best evaluation, and say what happened.

    train_ids, validation_ids: (N,) int64 on any device. on_step(n): called when n more steps are
    done. allow: as make_engine's. saved: a state to go on from, (tensors, facts). save(tensors,
    facts): called now and then, and when Ctrl-C ends the run, which then raises KeyboardInterrupt.
    curve_points: evaluations only to look at, at even distances; they change neither the weights
    nor which are the best. targets: as make_engine's. -> Training
    """
    refuse_short_texts(train_ids, validation_ids, model.config.context_length)
    device = next(model.parameters()).device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    begin = time.perf_counter()

    # Ctrl-C waits from here on, for what torch loads at the first step too: a module that was
    # loaded by half would stay so.
    with ctrl_c_waits() as asked:
        ids = train_ids.to(device), validation_ids.to(device)
        loop = Loop(model.train(), *ids, config, allow, curve_points, targets)
        synchronize(device)
        loop.result.setup_s += time.perf_counter() - begin
        torch.manual_seed(config.seed + 1)  # dropout
        if saved:
            loop.resume(*saved)
        loop.make_steps(on_step or do_nothing, save or do_nothing, asked)
    if asked:
        loop.stop(save or do_nothing)
    return loop.finish()


def refuse_short_texts(train_ids, validation_ids, context_length):
    """A TrainingError where the text doesn't fill one window and one validation pair."""
    if len(train_ids) <= context_length or len(validation_ids) < 2:
        raise TrainingError(
            _(
                "the text is too short: a context of {context} characters needs a training split "
                "of at least {needed} characters (here {training}) and a validation split of 2 "
                "(here {validation})",
                context=context_length,
                needed=context_length + 1,
                training=len(train_ids),
                validation=len(validation_ids),
            )
        )


def watched(steps, epoch, points):
    """The steps after which a run is evaluated for its curve alone.

    Those that end one of `points` equal shares of the run, and those that end an epoch, where there
    are no more epochs than points.
    """
    shares = {round(i * steps / points) for i in range(1, points + 1)}
    epochs = range(epoch, steps + 1, epoch)
    return shares.union(epochs) if len(epochs) <= points else shares


def do_nothing(*_):
    pass


class Loop:
    """A run on its way: its engine, what was measured so far, and the best weights."""

    def __init__(self, model, train_ids, validation_ids, config, allow, curve_points, targets=None):
        self.model = model
        self.validation_ids = validation_ids
        self.config = config
        self.engine = engine.make_engine(model, train_ids, config, allow, targets)
        self.stopping = EarlyStopping(config.patience)
        self.best = {}
        self.result = Training(regime=self.engine.regime)
        self.batch_characters = config.batch_size * model.config.context_length
        epoch = max(1, len(train_ids) // self.batch_characters)
        self.evaluate_every = config.evaluate_every or epoch
        self.watched = watched(config.steps, epoch, curve_points)

    # --- going through the steps -------------------------------------------------------------

    def make_steps(self, on_step, save, asked):
        """Step by step to the end, or until Ctrl-C asks for one."""
        on_step(self.engine.steps_done)
        self.hold()
        self.begun = time.perf_counter() - self.result.elapsed_s
        saved_at = time.perf_counter()

        while not (asked or self.is_over()):
            self.engine.step()
            on_step(1)
            step = self.engine.steps_done
            reports = self.reports_at(step) or step in self.watched
            if reports or not self.validation_ids.is_cuda:  # a GPU is not asked after each step
                self.check_losses()
            if reports:
                self.report()
            if reports and time.perf_counter() - saved_at > self.saving_s / SAVING:
                self.save(save)
                saved_at = time.perf_counter()

    def is_over(self):
        return self.engine.steps_done >= self.config.steps or self.stopping.should_stop

    def evaluates_at(self, step):
        return step % self.evaluate_every == 0 or step == self.config.steps

    def reports_at(self, step):
        """Whether this step completes another of the REPORTS shares of the run, or evaluates."""
        steps = self.config.steps
        done = (step - 1) * REPORTS // steps < step * REPORTS // steps
        return done or self.evaluates_at(step)

    def stop(self, save):
        """Save the state and raise KeyboardInterrupt, which says where the run was."""
        self.result.elapsed_s = time.perf_counter() - self.begun
        self.save(save)
        step, steps = self.engine.steps_done, self.config.steps
        raise stopped(_("stopped after step {step:,} of {steps:,}", step=step, steps=steps))

    def finish(self):
        """Give the model its best weights, and say what the run came to. -> Training"""
        self.model.load_state_dict(self.best)
        result = self.result
        result.regime = self.engine.regime
        result.stopped = "all steps done"
        if self.stopping.should_stop:
            result.stopped = f"no improvement in {self.config.patience} evaluations"
        training_s = result.elapsed_s - result.evaluating_s
        result.characters_per_s = result.history[-1]["characters"] / training_s
        self.note_memory()
        return result

    # --- measuring ---------------------------------------------------------------------------

    def report(self):
        """Add a row to the history; after an evaluation, keep the weights if they are the best."""
        row = self.training_row()
        evaluates = self.evaluates_at(row["step"])
        if evaluates or row["step"] in self.watched:
            losses = self.validation_losses()
            row["validation_loss"] = losses.mean().item()
        if evaluates:
            if not row["validation_loss"] <= DIVERGED:  # nor where it is no number
                self.give_up(row["step"])
            row |= self.halves(losses)
        row["elapsed_s"] = self.result.elapsed_s = time.perf_counter() - self.begun
        self.result.history.append(row)
        if evaluates and self.stopping.update(row["choosing_loss"]):
            self.keep_best(row, losses)

    def training_row(self):
        """Where the run is, and the mean training loss since the report before.

        Subtle: a row that is there for the curve alone ends no such stretch, or a curve would
        change what the rows around it say. It has the mean of as many steps, up to its own.
        """
        step = self.engine.steps_done
        reports = (row["step"] for row in reversed(self.result.history))
        since = next(filter(self.reports_at, reports), 0)
        if not self.reports_at(step):
            since = max(0, step - max(1, self.config.steps // REPORTS))
        return {
            "step": step,
            "characters": step * self.batch_characters,
            "training_loss": self.engine.losses[since:step].mean().item(),
        }

    def validation_losses(self):
        """The loss at each character of the validation split but the first. -> (N - 1,) float64"""
        self.note_memory(of_steps=True)
        paused = time.perf_counter()
        losses = token_losses(self.model, self.validation_ids)
        self.result.evaluating_s += time.perf_counter() - paused
        self.note_memory()
        return losses

    def note_memory(self, of_steps=False):
        """Take in the most that was held since the last time; a GPU then counts anew.

        Subtle: an evaluation reads many windows at once on a GPU, and may hold more than a step.
        """
        result = self.result
        peak = peak_memory_mb(self.validation_ids.device)
        if not peak <= result.peak_memory_mb:  # nor where there was none
            result.peak_memory_mb = peak
        if self.validation_ids.is_cuda:
            if of_steps:
                result.step_memory_mb = max(result.step_memory_mb, peak)
            torch.cuda.reset_peak_memory_stats()

    def halves(self, losses):
        middle = half(len(losses), self.model.config.context_length)
        return {
            "choosing_loss": losses[:middle].mean().item(),
            "reporting_loss": losses[middle:].mean().item(),
        }

    def keep_best(self, row, losses):
        """Copy the weights, and what was measured with them into the result."""
        if not checkpoints.sound(self.model.parameters()):
            self.give_up(row["step"])
        self.best = {name: weight.clone() for name, weight in self.model.state_dict().items()}
        result = self.result
        result.best_step = row["step"]
        result.training_loss = row["training_loss"]
        result.validation_loss = row["validation_loss"]
        result.choosing_loss = row["choosing_loss"]
        result.reporting_loss = row["reporting_loss"]
        result.position_losses = by_position(losses, self.model.config.context_length)

    # --- losing nothing ----------------------------------------------------------------------

    def check_losses(self):
        """Refuse to go on from a loss that is no number."""
        first = len(self.held["losses"])
        bad = (~self.engine.losses[first : self.engine.steps_done].isfinite()).nonzero()
        if len(bad):
            self.give_up(first + bad[0].item() + 1)

    def give_up(self, step):
        """Give the model its last good weights back, and say what to change."""
        self.engine.restore(self.held)
        raise TrainingError(
            _(
                "the loss is no longer a number at step {step:,}: try a lower learning rate (the "
                "model has its weights of step {good:,} again)",
                step=step,
                good=self.engine.steps_done,
            )
        )

    def hold(self):
        """Copy the state, to fall back on; a bad one is given up."""
        begin = time.perf_counter()
        state = self.engine.state()
        weights = [tensor for name, tensor in state.items() if name.startswith("model/")]
        finite = all(tensor.isfinite().all() for tensor in state.values())
        if not finite or not checkpoints.sound(weights):
            self.give_up(self.engine.steps_done + 1)  # where the loss would show it
        self.held = state
        self.saving_s = time.perf_counter() - begin

    def save(self, write):
        """Hold the state, and write it with the best weights and all that was measured."""
        begin = time.perf_counter()
        self.hold()
        best = {f"best/{name}": weight for name, weight in self.best.items()}
        try:
            write(self.held | best, {"found": asdict(self.result)})
        except OSError as error:
            # A full disk: what was saved before is still there, and may be followed by more.
            tqdm.write(
                _(
                    "The state of step {step:,} can't be saved ({reason}): free some space.",
                    step=self.engine.steps_done,
                    reason=error.strerror,
                )
            )
        self.saving_s = time.perf_counter() - begin

    def resume(self, tensors, facts):
        """Take up a saved state: as if the run had never stopped. StateError: it is another's."""
        now = self.result
        try:
            self.result = Training.from_file(facts["found"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            words = _("what was measured is not there: {error}", error=error)
            raise StateError(words) from None
        self.result.setup_s += now.setup_s
        self.result.regime = now.regime

        # First a step, by which the optimisers make their memory: a state must have the same.
        self.engine.step()
        prefix = "best/"
        best = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        state = {n: t for n, t in tensors.items() if not n.startswith(prefix)}
        if words := self.engine.misfit(state) or self.misfit(best, state):
            raise StateError(words)

        # Then all is put back; early stopping learns again what it had seen.
        try:
            self.engine.restore(state)
        except RuntimeError as error:  # random numbers that are none
            raise StateError(str(error)) from None
        self.best = {name: weight.to(self.validation_ids.device) for name, weight in best.items()}
        for row in self.result.history:
            if "choosing_loss" in row:
                self.stopping.update(row["choosing_loss"])

    def misfit(self, best, state):
        """What is wrong with the best weights of a state and what was measured, or ""."""
        shapes = {name: weight.shape for name, weight in self.model.state_dict().items()}
        given = {name: weight.shape for name, weight in best.items()}
        evaluated = [row["step"] for row in self.result.history if "choosing_loss" in row]
        steps = [row["step"] for row in self.result.history]
        if given != (shapes if evaluated else {}) or not checkpoints.sound(best.values()):
            return _("its best weights are not this run's")
        if steps != sorted(set(steps)) or (steps and steps[-1] > len(state["losses"])):
            return _("its reports are not those of its steps")
        return ""


def stopped(words):
    """A KeyboardInterrupt of which a notebook shows these words and not the way that it took."""
    stop = KeyboardInterrupt(words)
    stop._render_traceback_ = lambda: [f"KeyboardInterrupt: {words}"]  # what IPython asks for
    return stop


@contextlib.contextmanager
def ctrl_c_waits():
    """Ctrl-C becomes an entry in the list that this yields, to be seen between two steps.

    A second one acts at once.
    """
    asked = []
    if threading.current_thread() is not threading.main_thread():  # only that one handles signals
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
    """The most memory held so far: by tensors on a GPU, by the whole process on a CPU.

    Unknown, nan, on Windows.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    if sys.platform == "win32":
        return math.nan
    import resource

    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
