"""Python's answers to the sampling widget: it draws the characters, Python supplies the logits."""


class SamplerHost:
    """Answers the questions that host.mjs lists, about models of one tokenizer."""

    def __init__(self, models, tokenizer, settings):
        """models: as for sampler. settings: name -> where that input of the widget begins"""
        models = named(models)
        self.names = list(models)
        self.models = list(models.values())
        self.tokenizer = tokenizer
        self.settings = settings
        self.texts = [([], None)] * len(models)  # by model: what its decoder has read, the decoder

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

        One more token than last time is one step of the decoder, whatever else is read anew.
        """
        import torch

        from course_utils.generation.decoder import make_decoder

        read, decoder = self.texts[number]
        self.texts[number] = ([], None)  # until this has gone well
        if decoder and ids[:-1] == read:
            logits = decoder.step(torch.tensor([ids[-1:]], device=decoder.device))
        else:
            decoder = make_decoder(self.models[number])  # a new one: the weights may have changed
            logits = decoder.read(torch.tensor([ids], device=decoder.device))
        self.texts[number] = (ids, decoder)
        return logits[0].cpu().numpy().tobytes()


def named(models):
    """One model, a list, or a dict by name -> a dict by name, which is their depth by default."""
    from course_utils.training.recipes import layers

    if isinstance(models, dict):
        return models
    models = models if isinstance(models, (list, tuple)) else [models]
    names = [layers(model.config.n_layers) for model in models]
    if len(set(names)) < len(names):
        names = [f"model {i}: {name}" for i, name in enumerate(names, start=1)]
    return dict(zip(names, models, strict=True))
