"""One function a kind of picture: data in, `Figure` out, its label the alt text.

All take `language` ("english", "chinese"; None: the reader's) and `note`, printed at the foot.
`figure.png()` gives the file.
"""

from course_utils.figures.depth import frontier, judged
from course_utils.figures.diagrams import (
    attention_flow,
    block_sides,
    decoder_stack,
    heads_cut,
    kv_cache,
    rotary_turn,
    shifted,
    training_step,
)
from course_utils.figures.drawing import Figure
from course_utils.figures.effects import (
    data_scaling,
    depth_in_frames,
    effect_ranking,
    pairing,
    rate_sweep,
    twins,
)
from course_utils.figures.inside import (
    attention_maps,
    character_map,
    logit_lens,
    loss_by_position,
    parts_removed,
    position_similarity,
)
from course_utils.figures.numbers import heatmaps, lines, loss_bars
from course_utils.figures.performance import contenders, scaling
from course_utils.figures.study import ablation_bars, parameters_vs_perplexity, training_curves
from course_utils.figures.text import character_counts, next_character, sample_comparison

__all__ = [
    "Figure",
    "ablation_bars",
    "attention_flow",
    "attention_maps",
    "block_sides",
    "character_counts",
    "character_map",
    "contenders",
    "data_scaling",
    "decoder_stack",
    "depth_in_frames",
    "effect_ranking",
    "frontier",
    "heads_cut",
    "heatmaps",
    "judged",
    "kv_cache",
    "lines",
    "logit_lens",
    "loss_bars",
    "loss_by_position",
    "next_character",
    "pairing",
    "parameters_vs_perplexity",
    "parts_removed",
    "position_similarity",
    "rate_sweep",
    "rotary_turn",
    "sample_comparison",
    "scaling",
    "shifted",
    "training_curves",
    "training_step",
    "twins",
]
