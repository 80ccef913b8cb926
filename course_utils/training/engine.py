"""How a training step runs: plainly on a CPU; in bf16, compiled and as one CUDA graph on an NVIDIA GPU.

Every regime draws the same windows from the seed, follows the same schedule, and does what lesson 4's loop does.
"""

import functools

import torch
from torch.nn import functional as F

from course_utils.lessons.data import get_batch
from course_utils.lessons.model import count_parameters
from course_utils.lessons.train import (
    learning_rate_at,
    make_optimizers,
    next_character_loss,
    orthogonalise,
    training_step,
)

PIECES = (
    "bf16",
    "compiled",
    "CUDA graph",
)  # what makes a GPU fast; each is left out where it is missing
WORTH_COMPILING = (
    1e14  # parameters x characters of a run; below, compiling takes longer than it saves
)


def make_engine(model, ids, config, allow=None):
    """The fastest engine for the model's device. ids: (N,) int64 on it.

    allow: the pieces that a GPU may use; None for all, but to compile only where the run is long enough. Where a
    GPU's memory can't hold what a batch needs, the batch is read in 2, 4, … micro-batches.
    """
    if not ids.is_cuda:
        return Engine(model, ids, config)
    work = count_parameters(model) * config.steps * config.batch_size * model.config.context_length
    if allow is None:
        allow = [piece for piece in PIECES if piece != "compiled" or work > WORTH_COMPILING]
    micro_batches = 1
    while True:
        try:
            return CudaEngine(model, ids, config, allow, micro_batches)
        except torch.cuda.OutOfMemoryError:
            if micro_batches == config.batch_size:
                raise
        torch.cuda.empty_cache()
        micro_batches = min(2 * micro_batches, config.batch_size)


class Engine:
    """The steps of one run, made plainly. `regime` says how; `losses` holds what each of the `steps_done` met."""

    random_state = torch.get_rng_state, torch.set_rng_state  # of dropout

    def __init__(self, model, ids, config, micro_batches=1):
        self.model, self.ids, self.config, self.micro_batches = model, ids, config, micro_batches
        self.optimizers, self.loss_of = make_optimizers(model, config), next_character_loss
        self.batch_generator, self.steps_done = torch.Generator().manual_seed(config.seed), 0
        self.losses = torch.zeros(config.steps, device=ids.device)
        self.regime = f"{ids.device.type}, fp32"

    def step(self):
        """Draw a batch and learn from it."""
        tokens, targets = self._batch()
        self.losses[self.steps_done] = self._learn(
            tokens, targets, learning_rate_at(self.steps_done, self.config)
        )
        self.steps_done += 1

    def state(self):
        """All that the next steps depend on, copied: name -> tensor on the CPU."""
        found = self._tensors() | {
            "losses": self.losses[: self.steps_done],
            "random": self.random_state[0](),
        }
        return {name: tensor.detach().to("cpu", copy=True) for name, tensor in found.items()}

    @torch.no_grad()
    def restore(self, state):
        """Go on where an engine of this run was when it gave this state."""
        self.steps_done, mine = len(state["losses"]), self._tensors()
        self.losses[: self.steps_done] = state["losses"].to(self.losses)
        for name in mine.keys() - state.keys():  # no optimiser had a memory then
            mine[name].zero_()
        for name, tensor in state.items():
            if name in mine:
                mine[name].copy_(tensor)
            elif name.startswith("optimizer/"):  # it makes its memory in the first step
                _, i, j, key = name.split("/")
                parameter = self._optimized(int(i))[int(j)]
                self.optimizers[int(i)].state[parameter][key] = tensor.to(
                    self.losses.device, copy=True
                )
        get, put = self.random_state
        if len(state["random"]) == len(get()):  # else it is of another kind of device
            put(state["random"])
        self._skip_batches()

    def _tensors(self):
        """What a step changes: weights, and the memory of the optimisers."""
        found = {f"model/{name}": p for name, p in self.model.named_parameters()}
        for i, optimizer in enumerate(self.optimizers):
            for j, p in enumerate(self._optimized(i)):
                found |= {
                    f"optimizer/{i}/{j}/{key}": tensor
                    for key, tensor in optimizer.state.get(p, {}).items()
                }
        return found

    def _optimized(self, i):
        return [p for group in self.optimizers[i].param_groups for p in group["params"]]

    def _batch(self):
        return get_batch(
            self.ids, self.config.batch_size, self.model.config.context_length, self.batch_generator
        )

    def _skip_batches(self):
        """Draw no window again that was drawn in the steps that are done."""
        self.batch_generator.manual_seed(self.config.seed)
        for _ in range(self.steps_done):
            self._batch()

    def _learn(self, tokens, targets, rate):
        settings = (rate, self.config.clip_norm, self.loss_of, self.micro_batches)
        return training_step(self.model, self.optimizers, tokens, targets, *settings)


class CudaEngine(Engine):
    """The same steps without the host: windows and rates lie on the GPU, and a whole step is one graph to replay."""

    random_state = torch.cuda.get_rng_state, torch.cuda.set_rng_state

    def __init__(self, model, ids, config, allow=PIECES, micro_batches=1):
        super().__init__(model, ids, config, micro_batches)
        T, device = model.config.context_length, ids.device
        starts = torch.randint(
            len(ids) - T, (config.steps, config.batch_size, 1), generator=self.batch_generator
        )
        self.starts, self.offsets = (
            starts.to(device),
            torch.arange(T, device=device),
        )  # as get_batch draws them
        self.rates = torch.tensor(
            [learning_rate_at(step, config) for step in range(config.steps)], device=device
        )
        self.now = torch.zeros(1, dtype=torch.int64, device=device)  # the step, on the GPU
        self.warm_up_steps = min(3, config.steps)
        missing = set() if torch.cuda.is_bf16_supported(including_emulation=False) else {"bf16"}
        for too_much in (set(), {"compiled"}, {"compiled", "CUDA graph"}):  # until one works
            pieces = [
                piece for piece in PIECES if piece in allow and piece not in missing | too_much
            ]
            try:
                self._prepare(pieces)
                break
            except torch.cuda.OutOfMemoryError:
                raise
            except Exception as error:  # no compiler, no Triton, or what a graph can't hold
                failure = error
        else:
            raise failure
        divided = [f"batch in {micro_batches} micro-batches"] if micro_batches > 1 else []
        self.regime = ", ".join(
            ["cuda", *([] if "bf16" in pieces else ["fp32"]), *pieces, *divided]
        )

    def step(self):
        try:
            self.run_step()
        except (
            torch.cuda.OutOfMemoryError
        ):  # what sufficed for the first steps may not last, but to a graph it is kept
            if (
                self.micro_batches == self.config.batch_size
                or self.run_step != self._step_on_device
            ):
                raise
            self.micro_batches, self.regime = (
                min(2 * self.micro_batches, self.config.batch_size),
                self.regime.split(", batch")[0],
            )
            self.regime += f", batch in {self.micro_batches} micro-batches"
            self._forget_gradients()
            torch.cuda.empty_cache()
            self.step()
            return
        self.steps_done += 1

    def _step_on_device(self):
        index = self.starts.index_select(0, self.now)[0] + self.offsets
        loss = self._learn(
            self.ids[index], self.ids[index + 1], self.rates.index_select(0, self.now)[0]
        )
        self.losses.index_copy_(0, self.now, loss[None])
        self.now += 1

    def _skip_batches(self):
        self.now.fill_(self.steps_done)

    def _prepare(self, pieces):
        """Compile and capture with a few steps, and take these back: weights, optimisers, counters, random state."""
        before = self.state()
        self.loss_of = loss_function("bf16" in pieces, "compiled" in pieces)
        if self.config.optimizer == "muon":
            self.optimizers[-1].orthogonalise = (
                compiled(orthogonalise) if "compiled" in pieces else orthogonalise
            )
        self.run_step = self._step_on_device
        try:
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(self.warm_up_steps):
                    self._step_on_device()
            torch.cuda.current_stream().wait_stream(stream)
            if "CUDA graph" in pieces:
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph):
                    self._step_on_device()
                self.run_step = graph.replay
        finally:
            self.restore(before)
            self._forget_gradients()

    def _forget_gradients(self):
        for p in self.model.parameters():
            p.grad = None


@functools.cache
def compiled(function):
    """One compiled twin a function, for all models of a process."""
    torch._dynamo.config.recompile_limit = 256  # a study has more shapes than the usual 8
    return torch.compile(function, dynamic=False)


def loss_function(in_bf16, is_compiled):
    """next_character_loss in the precision and form that a regime wants."""
    if is_compiled:
        return compiled(loss_in_bf16 if in_bf16 else next_character_loss)
    return loss_under_autocast if in_bf16 else next_character_loss


def loss_in_bf16(model, tokens, targets):
    """Weights and activations all rounded; for the compiler, which sums gradients in fp32 and fuses the roundings."""
    tensors = dict(model.named_parameters()) | (
        {} if model.sinusoids is None else {"sinusoids": model.sinusoids}
    )
    rounded = {name: tensor.bfloat16() for name, tensor in tensors.items()}
    logits = torch.func.functional_call(model, rounded, tokens)
    return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())


def loss_under_autocast(model, tokens, targets):
    """Matrix products in bf16, the rest in fp32."""
    with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
        return next_character_loss(model, tokens, targets)
