"""How a training step runs: plainly on a CPU; in bf16, compiled and as one CUDA graph on a GPU.

Every regime draws the same windows from the seed, follows the same schedule, and does what lesson
4's loop does. One that is called exact gives the same bits whenever the same seed runs on the same
kind of GPU with the same versions; so does a CPU with as many threads.
"""

import contextlib
import functools
import os

import torch
from torch import nn
from torch.nn import functional as F

from course_utils.lessons.data import get_batch
from course_utils.lessons.model import GPT, count_parameters
from course_utils.lessons.train import (
    learning_rate_at,
    make_optimizers,
    next_character_loss,
    orthogonalise,
    training_step,
)
from course_utils.messages import _

# What makes a GPU fast; each is left out where it is missing.
PIECES = ("bf16", "compiled", "CUDA graph")
# Up to this context exactness costs nothing: on an H200 a step takes 0.97 to 1.02 times as long. At
# 1,024 it takes 1.07 to 1.18 times as long, so there it has to be asked for.
EXACT_CONTEXT = 256
# cuBLAS reads this when it is first used; without it PyTorch refuses to be exact.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
# Parameters x characters of a run; below, compiling takes longer than it saves.
WORTH_COMPILING = 1e14


def make_engine(model, ids, config, allow=None, targets=None):
    """The fastest engine for the model's device. ids: (N,) int64 on it.

    targets: (N, V) probabilities on it, of what stands at each place, where that is not to be taken
    for certain. allow: the pieces that a GPU may use, as pieces_for gives them; None for those of
    this run alone. "exact" among them asks for exactness beyond EXACT_CONTEXT too. Where a GPU's
    memory can't hold what a batch needs, the batch is read in 2, 4, … micro-batches.
    """
    if not ids.is_cuda:
        return Engine(model, ids, config, targets=targets)

    if allow is None:
        allow = pieces_for(work(model.config, config))

    # First the whole batch at once, then halves, then quarters, … at last window by window.
    micro_batches = 1
    while True:
        try:
            return CudaEngine(model, ids, config, allow, micro_batches, targets)
        except torch.cuda.OutOfMemoryError:
            if micro_batches == config.batch_size:
                raise
        # Subtle: only here, after the `except`, is the failed engine's memory nobody's any more.
        torch.cuda.empty_cache()
        micro_batches = next_smaller(micro_batches, config)


def pieces_for(length, asked=()):
    """What a GPU may use for runs of so much work: the compiler only where they are long enough.

    asked: "compiled" for it in any case, "exact" for the same bits at long contexts too.
    """
    compiled = length > WORTH_COMPILING or "compiled" in asked
    usual = [piece for piece in PIECES if piece != "compiled" or compiled]
    return [*usual, "exact"] if "exact" in asked else usual


@functools.cache
def parameters_of(model_config):
    """How many parameters a model has, without taking memory for one."""
    with torch.device("meta"):
        return count_parameters(GPT(model_config))


def work(model_config, train_config):
    """About how long a run takes: parameters x characters."""
    characters = train_config.steps * train_config.batch_size * model_config.context_length
    return parameters_of(model_config) * characters


def next_smaller(micro_batches, config):
    """In how many micro-batches to read a batch that in so many does not fit."""
    return min(2 * micro_batches, config.batch_size)


class Engine:
    """The steps of one run, made plainly. `regime` says how; `losses` has the loss of each step."""

    get_random_state = staticmethod(torch.get_rng_state)  # of dropout
    set_random_state = staticmethod(torch.set_rng_state)

    def __init__(self, model, ids, config, micro_batches=1, targets=None):
        self.model = model
        self.ids = ids
        self.targets = ids if targets is None else targets
        # Where targets are more than the characters, windows are drawn as places.
        self.places = None if targets is None else torch.arange(len(ids), device=ids.device)
        self.config = config
        self.micro_batches = micro_batches
        self.optimizers = make_optimizers(model, config)
        self.loss_of = next_character_loss if targets is None else expected_loss
        self.batch_generator = torch.Generator().manual_seed(config.seed)
        self.steps_done = 0
        self.losses = torch.zeros(config.steps, device=ids.device)
        self.regime = f"{ids.device.type}, fp32"

    def step(self):
        """Draw a batch and learn from it."""
        tokens, targets = self._batch()
        rate = learning_rate_at(self.steps_done, self.config)
        self.losses[self.steps_done] = self._learn(tokens, targets, rate)
        self.steps_done += 1

    def state(self):
        """All that the next steps depend on, copied: name -> tensor on the CPU."""
        tensors = self._tensors()
        tensors["losses"] = self.losses[: self.steps_done]
        tensors["random"] = self.get_random_state()
        return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}

    @torch.no_grad()
    def restore(self, state):
        """Go on where an engine of this run was when it gave this state."""
        self.steps_done = len(state["losses"])
        self.losses[: self.steps_done] = state["losses"].to(self.losses)

        # First what is here already: weights, and the optimisers' memory once they have one.
        mine = self._tensors()
        for name in mine.keys() - state.keys():  # at step 0 they had none
            mine[name].zero_()
        for name in mine.keys() & state.keys():
            mine[name].copy_(state[name])

        # Then the memory that an optimiser makes in its first step, and that a fresh one lacks.
        for name in state.keys() - mine.keys():
            if name.startswith("optimizer/"):
                _, i, j, key = name.split("/")
                parameter = self._optimized(int(i))[int(j)]
                memory = state[name].to(self.losses.device, copy=True)
                self.optimizers[int(i)].state[parameter][key] = memory

        # Last what is random. Subtle: a state may come from another kind of device.
        if len(state["random"]) == len(self.get_random_state()):
            self.set_random_state(state["random"])
        self._skip_batches()

    def misfit(self, state):
        """What is wrong with a state that another engine is said to have given, or "" if nothing.

        Asked after a first step: by then the optimisers have the memory that a state must fit.
        """
        names = {"losses", "random"}
        missing = names - state.keys()
        shapes = {name: tensor.shape for name, tensor in self._tensors().items()}
        given = {name: tensor.shape for name, tensor in state.items() if name not in names}
        if missing:
            return _("it has no {name}", name=min(missing))
        if state["losses"].ndim != 1 or len(state["losses"]) > self.config.steps:
            return _("its losses are not those of at most {n:,} steps", n=self.config.steps)
        if len(state["losses"]) == 0:  # no optimiser had a memory then
            shapes = {name: shape for name, shape in shapes.items() if name.startswith("model/")}
        if given != shapes:
            return _("its tensors are not this run's")
        if not all(tensor.isfinite().all() for tensor in state.values()):
            return _("not all in it are numbers")
        return ""

    def _tensors(self):
        """What a step changes: weights, and the memory of the optimisers."""
        tensors = {f"model/{name}": p for name, p in self.model.named_parameters()}
        for i, optimizer in enumerate(self.optimizers):
            for j, p in enumerate(self._optimized(i)):
                for key, tensor in optimizer.state.get(p, {}).items():
                    tensors[f"optimizer/{i}/{j}/{key}"] = tensor
        return tensors

    def _optimized(self, i):
        return [p for group in self.optimizers[i].param_groups for p in group["params"]]

    def _batch(self):
        size, context = self.config.batch_size, self.model.config.context_length
        if self.places is None:
            return get_batch(self.ids, size, context, self.batch_generator)
        places, following = get_batch(self.places, size, context, self.batch_generator)
        return self.ids[places], self.targets[following]

    def _skip_batches(self):
        """Draw no window again that was drawn in the steps that are done."""
        self.batch_generator.manual_seed(self.config.seed)
        for _done in range(self.steps_done):
            self._batch()

    def _learn(self, tokens, targets, rate):
        settings = (rate, self.config.clip_norm, self.loss_of, self.micro_batches)
        return training_step(self.model, self.optimizers, tokens, targets, *settings)


class CudaEngine(Engine):
    """The same steps without the host: windows and rates lie on the GPU, a step is one graph."""

    get_random_state = staticmethod(torch.cuda.get_rng_state)
    set_random_state = staticmethod(torch.cuda.set_rng_state)

    def __init__(self, model, ids, config, allow=PIECES, micro_batches=1, targets=None):
        super().__init__(model, ids, config, micro_batches, targets)
        context = model.config.context_length
        device = ids.device

        # First all that the steps will ask for: the windows as get_batch draws them, the rates,
        # and the number of the step, which the GPU counts for itself.
        starts_shape = (config.steps, config.batch_size, 1)
        starts = torch.randint(len(ids) - context, starts_shape, generator=self.batch_generator)
        rates = [learning_rate_at(step, config) for step in range(config.steps)]
        self.starts = starts.to(device)
        self.offsets = torch.arange(context, device=device)
        self.rates = torch.tensor(rates, device=device)
        self.now = torch.zeros(1, dtype=torch.int64, device=device)
        self.exact = context <= EXACT_CONTEXT or "exact" in allow
        if self.exact:
            model.embedding.__class__ = ExactEmbedding

        # Then the step itself, from the pieces that there are.
        self.warm_up_steps = min(3, config.steps)
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        usable = [piece for piece in PIECES if piece in allow and (piece != "bf16" or has_bf16)]
        self.pieces = self._prepare_fastest(usable)
        self._name_regime()

    def step(self):
        try:
            self.run_step()
            self.steps_done += 1
            return
        except torch.cuda.OutOfMemoryError:
            # What sufficed for the first steps may not last. A graph keeps what it was given.
            in_a_graph = self.run_step != self._step_on_device
            if in_a_graph or self.micro_batches == self.config.batch_size:
                raise
        # The same step again, in smaller pieces. Subtle: out here, as in make_engine.
        self.micro_batches = next_smaller(self.micro_batches, self.config)
        self._name_regime()
        self._forget_gradients()
        torch.cuda.empty_cache()
        self.step()

    def _name_regime(self):
        words = ["cuda", *self.pieces]
        if "bf16" not in self.pieces:
            words.insert(1, "fp32")
        if self.exact:
            words.append("exact")
        if self.micro_batches > 1:
            words.append(f"batch in {self.micro_batches} micro-batches")
        self.regime = ", ".join(words)

    def _step_on_device(self):
        index = self.starts.index_select(0, self.now)[0] + self.offsets
        rate = self.rates.index_select(0, self.now)[0]
        with exactly(self.exact):
            loss = self._learn(self.ids[index], self.targets[index + 1], rate)
        self.losses.index_copy_(0, self.now, loss[None])
        self.now += 1

    def _skip_batches(self):
        self.now.fill_(self.steps_done)

    def _prepare_fastest(self, usable):
        """Try everything, then without the compiler, then plainly. -> the pieces that worked"""
        everything = tuple(usable)
        uncompiled = tuple(piece for piece in usable if piece != "compiled")
        plain = tuple(piece for piece in usable if piece == "bf16")
        for pieces in dict.fromkeys([everything, uncompiled, plain]):
            try:
                self._prepare(pieces)
                return pieces
            except torch.cuda.OutOfMemoryError:
                raise  # to make_engine, which divides the batch
            except Exception as error:  # no compiler, no Triton, or what a graph can't hold
                failure = error
        raise failure

    def _prepare(self, pieces):
        """Compile and capture with a few steps, and take these back, to the last counter."""
        before = self.state()
        self.loss_of = loss_function("bf16" in pieces, "compiled" in pieces, self.loss_of)
        if self.config.optimizer == "muon":
            faster = compiled(orthogonalise) if "compiled" in pieces else orthogonalise
            self.optimizers[-1].orthogonalise = faster
        self.run_step = self._step_on_device
        try:
            # First some steps on a stream of their own, as PyTorch asks before a capture: they
            # compile, and make the optimisers' memory and the allocator's.
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(self.warm_up_steps):
                    self._step_on_device()
            torch.cuda.current_stream().wait_stream(stream)
            # Then the capture, which records a step without making it.
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


@contextlib.contextmanager
def exactly(wanted=True):
    """Only kernels that add in one and the same order, while this lasts."""
    if not wanted:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    filling = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # for debugging, and dear
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.utils.deterministic.fill_uninitialized_memory = filling


class ExactEmbedding(nn.Embedding):
    """An embedding whose gradient is one matrix product, which a GPU adds in one order.

    PyTorch's own adds row by row, in whatever order its threads arrive.
    """

    def forward(self, tokens):
        return _Lookup.apply(tokens, self.weight)


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tokens, weight):
        ctx.save_for_backward(tokens)
        ctx.rows = len(weight)
        return F.embedding(tokens, weight)

    @staticmethod
    def backward(ctx, gradient):
        (tokens,) = ctx.saved_tensors
        rows = torch.arange(ctx.rows, device=tokens.device)
        chosen = (tokens.flatten()[:, None] == rows).to(gradient.dtype)
        return None, chosen.T @ gradient.flatten(0, -2)


@functools.cache
def compiled(function):
    """One compiled twin a function, for all models of a process."""
    torch._dynamo.config.recompile_limit = 256  # a study has more shapes than the usual 8
    return torch.compile(function, dynamic=False)


def expected_loss(model, tokens, targets):
    """The mean token loss where targets are probabilities: (B, T) int64, (B, T, V) -> ()."""
    return F.cross_entropy(model(tokens).float().flatten(0, 1), targets.flatten(0, 1))


def loss_function(in_bf16, is_compiled, plain=next_character_loss):
    """`plain`, in the precision and form that a regime wants."""
    if is_compiled:
        return functools.partial(compiled(loss_in_bf16), plain) if in_bf16 else compiled(plain)
    return functools.partial(loss_under_autocast, plain) if in_bf16 else plain


def loss_in_bf16(plain, model, tokens, targets):
    """Weights and activations all rounded: for the compiler, which fuses the roundings.

    Gradients are summed in fp32.
    """
    tensors = dict(model.named_parameters())
    if model.sinusoids is not None:
        tensors["sinusoids"] = model.sinusoids
    rounded = {name: tensor.bfloat16() for name, tensor in tensors.items()}

    def logits(tokens):
        return torch.func.functional_call(model, rounded, tokens).float()

    return plain(logits, tokens, targets)


def loss_under_autocast(plain, model, tokens, targets):
    """Matrix products in bf16, the rest in fp32."""
    with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
        return plain(model, tokens, targets)
