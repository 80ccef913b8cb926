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

PIECES = ("bf16", "compiled", "CUDA graph")  # what makes a GPU fast; each is left out where it is missing
WORTH_COMPILING = 1e14  # parameters x characters of a run; below, compiling takes longer than it saves


def make_engine(model, ids, config, allow=None):
    """The fastest engine for the model's device. ids: (N,) int64 on it.

    allow: the pieces that a GPU may use; None for all, but to compile only where the run is long enough.
    """
    if not ids.is_cuda:
        return Engine(model, ids, config)
    work = count_parameters(model) * config.steps * config.batch_size * model.config.context_length
    if allow is None:
        allow = [piece for piece in PIECES if piece != "compiled" or work > WORTH_COMPILING]
    return CudaEngine(model, ids, config, allow)


class Engine:
    """The steps of one run, made plainly. `regime` says how, `loss_sum` holds the losses since it was last read."""

    def __init__(self, model, ids, config):
        self.model, self.ids, self.config = model, ids, config
        self.optimizers, self.loss_of = make_optimizers(model, config), next_character_loss
        self.windows, self.steps_done = torch.Generator().manual_seed(config.seed), 0
        self.loss_sum = torch.zeros((), device=ids.device)
        self.regime = f"{ids.device.type}, fp32"

    def step(self):
        """Draw a batch and learn from it."""
        tokens, targets = get_batch(self.ids, self.config.batch_size, self.model.config.context_length, self.windows)
        self._learn(tokens, targets, learning_rate_at(self.steps_done, self.config))
        self.steps_done += 1

    def mean_loss(self, steps):
        """The mean loss of the steps since the last call, `steps` of them. Waits for the device."""
        mean = self.loss_sum.item() / steps
        self.loss_sum.zero_()
        return mean

    def _learn(self, tokens, targets, rate):
        self.loss_sum += training_step(
            self.model, self.optimizers, tokens, targets, rate, self.config.clip_norm, self.loss_of
        )


class CudaEngine(Engine):
    """The same steps without the host: windows and rates lie on the GPU, and a whole step is one graph to replay."""

    def __init__(self, model, ids, config, allow=PIECES):
        super().__init__(model, ids, config)
        T, device = model.config.context_length, ids.device
        starts = torch.randint(len(ids) - T, (config.steps, config.batch_size, 1), generator=self.windows)
        self.starts, self.offsets = starts.to(device), torch.arange(T, device=device)  # as get_batch draws them
        self.rates = torch.tensor([learning_rate_at(step, config) for step in range(config.steps)], device=device)
        self.now = torch.zeros(1, dtype=torch.int64, device=device)  # the step, on the GPU
        self.warm_up_steps = min(3, config.steps)
        missing = set() if torch.cuda.is_bf16_supported(including_emulation=False) else {"bf16"}
        for too_much in (set(), {"compiled"}, {"compiled", "CUDA graph"}):  # until one works
            pieces = [piece for piece in PIECES if piece in allow and piece not in missing | too_much]
            try:
                self._prepare(pieces)
                break
            except torch.cuda.OutOfMemoryError:
                raise
            except Exception as error:  # no compiler, no Triton, or what a graph can't hold
                failure = error
        else:
            raise failure
        self.regime = ", ".join(["cuda", *([] if "bf16" in pieces else ["fp32"]), *pieces])

    def step(self):
        self.run_step()
        self.steps_done += 1

    def _step_on_device(self):
        index = self.starts.index_select(0, self.now)[0] + self.offsets
        self._learn(self.ids[index], self.ids[index + 1], self.rates.index_select(0, self.now)[0])
        self.now += 1

    def _prepare(self, pieces):
        """Compile and capture with a few steps, and take these back: weights, optimisers, counters, random state."""
        weights, random_state = [p.detach().clone() for p in self.model.parameters()], torch.cuda.get_rng_state()
        self.loss_of = loss_function("bf16" in pieces, "compiled" in pieces)
        if self.config.optimizer == "muon":
            self.optimizers[-1].orthogonalise = compiled(orthogonalise) if "compiled" in pieces else orthogonalise
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
            with torch.no_grad():
                for p, weight in zip(self.model.parameters(), weights, strict=True):
                    p.copy_(weight)
                    p.grad = None
            for state in (state for optimizer in self.optimizers for state in optimizer.state.values()):
                for tensor in state.values():
                    tensor.zero_()
            self.now.zero_()
            self.loss_sum.zero_()
            torch.cuda.set_rng_state(random_state)


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
    tensors = dict(model.named_parameters()) | ({} if model.waves is None else {"waves": model.waves})
    rounded = {name: tensor.bfloat16() for name, tensor in tensors.items()}
    logits = torch.func.functional_call(model, rounded, tokens)
    return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())


def loss_under_autocast(model, tokens, targets):
    """Matrix products in bf16, the rest in fp32."""
    with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
        return next_character_loss(model, tokens, targets)
