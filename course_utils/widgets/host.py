"""Python's answers to the widgets: they draw the characters, Python supplies the numbers."""

from typing import NamedTuple

from course_utils.messages import _
from course_utils.messages.names import translated


class SamplerHost:
    """Answers the questions that host.mjs lists, about models of one tokenizer."""

    def __init__(self, models, tokenizer, settings):
        """models: as for sampler. settings: name -> where that input of the widget begins"""
        models = named(models)
        self.names = list(map(translated, models))
        self.models = list(models.values())
        self.tokenizer = tokenizer
        self.settings = settings
        self.texts = [NOTHING] * len(models)

    def answer(self, widget, question, buffers):
        try:
            content, buffers = self.reply(question)
        except Exception as error:  # the reader hears of it in the widget, not in a log
            content, buffers = {"error": f"{type(error).__name__}: {error}"}, []
        widget.send({**content, "request": question.get("request")}, buffers)

    def reply(self, question):
        """-> what is said, and buffers beside it"""
        if question["kind"] == "hello":
            return {"models": self.names, "settings": self.settings, "page": False}, []
        if question["kind"] == "load":
            context = self.models[question["model"]].config.context_length
            return {"alphabet": "".join(self.tokenizer.alphabet), "context": context}, []
        return {}, [self.logits(question["model"], question["ids"])]

    def logits(self, number, ids):
        """The bytes of the logits (V,), float32, of what follows these tokens.

        One more token than last time is one step of the decoder. Whatever else is read anew, and so
        is all of it once the model has trained on: a decoder's weights must not change meanwhile.
        """
        import torch

        from course_utils.generation.writer import make_decoder

        model = self.models[number]
        state = state_of(model)
        text = self.texts[number]
        self.texts[number] = NOTHING  # until this has gone well
        if text.state == state and ids[:-1] == text.ids:
            decoder = text.decoder
            logits = decoder.step(torch.tensor([ids[-1:]], device=decoder.device))
        else:
            decoder = make_decoder(model)
            logits = decoder.read(torch.tensor([ids], device=decoder.device))
        self.texts[number] = Text(ids, decoder, state)
        return logits[0].cpu().numpy().tobytes()


class InsideHost(SamplerHost):
    """Answers what "Look inside" asks: a whole text at once, with parts of the model off."""

    def reply(self, question):
        if question["kind"] not in ("look", "next"):
            return super().reply(question)
        import torch

        from course_utils.training import evaluation

        model = self.models[question["model"]]
        tokens = torch.tensor([question["ids"]], device=model.head.weight.device)
        training = model.training
        model.eval()
        try:
            lens, maps = evaluation.look(model, tokens, question.get("off") or [])
        finally:
            model.train(training)
        if question["kind"] == "next":
            return {}, [as_bytes(lens[-1, -1])]
        L, H, T = maps.shape[:3]
        below = torch.ones(T, T, dtype=torch.bool, device=maps.device).tril()
        return {"layers": L, "heads": H}, [as_bytes(lens), as_bytes(maps[:, :, below])]


def as_bytes(numbers):
    return numbers.float().cpu().numpy().tobytes()


class Text(NamedTuple):
    """What a decoder has read, and in which state its model was."""

    ids: list
    decoder: object
    state: object


NOTHING = Text([], None, None)


def state_of(model):
    """Something cheap that differs once the weights do: where they lie, how often they changed.

    Subtle: PyTorch counts each change in place, but for those that a CUDA graph makes; these change
    the sum of the embedding, which any step of training moves.
    """
    weights = [(weight.data_ptr(), weight._version) for weight in model.parameters()]
    return weights, model.embedding.weight.detach().sum().item()


def named(models):
    """One model, a list, or a dict by name -> a dict by name, which is their depth by default."""
    from course_utils.training.recipes import layers

    if isinstance(models, dict):
        return models
    models = models if isinstance(models, (list, tuple)) else [models]
    names = [layers(model.config.n_layers) for model in models]
    if len(set(names)) < len(names):
        names = [
            _("model {n}: {name}", n=i, name=translated(name)) for i, name in enumerate(names, 1)
        ]
    return dict(zip(names, models, strict=True))
