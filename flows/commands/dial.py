"""The command behind ``modelmill dial``: a training recipe from a depth, or from the time there is."""

from __future__ import annotations

import yaml
from rich.console import Console

from flows.environment import prepare
from flows.loading import ConfigError
from tasks.gpt.config import TrainConfig

RULE = (
    "20 tokens a parameter (Hoffmann et al. 2022), 64 of width a layer, a batch that grows with the tokens, "
    "an embedding rate that falls with the width"
)


def dial_command(console: Console, *, minutes: float, depth: int, vocabulary: int, context: int) -> None:
    """Print a YAML file for ``--config``; raises ConfigError unless it is asked for one of the two."""
    if bool(minutes) == bool(depth):
        raise ConfigError("Say either how long training may take (--minutes 10) or how deep (--depth 4).")
    prepare()
    from tasks.gpt import dial

    if depth:
        recipe, origin = dial.from_depth(depth, vocabulary, context=context), f"Depth {depth}"
    else:
        from tasks.gpt.pace import recipe_for

        with console.status("measuring how fast this machine trains"):
            recipe, rate = recipe_for(minutes, vocabulary, context=context)
        origin = f"{minutes:g} minutes of training at {rate:.2e} FLOP/s, measured here"
    values = {
        "tokenize": {"vocab_size": vocabulary},
        "train": recipe.model_dump(mode="json", exclude_unset=True),
    }
    text = f"# {origin}: {size_of(recipe, vocabulary)}.\n# The rule: {RULE}.\n"
    text += yaml.safe_dump(values, sort_keys=False)
    console.print(text, markup=False, highlight=False, soft_wrap=True, end="")


def size_of(recipe: TrainConfig, vocabulary: int) -> str:
    """Parameters and tokens, for people."""
    from tasks.gpt.dial import shape_of
    from tasks.gpt.estimate import count_parameters

    shape = recipe.model
    tokens = recipe.steps * recipe.batch_sequences * shape.context
    parameters = count_parameters(shape_of(shape.layers, vocabulary, shape.context))
    return f"{parameters:,} parameters, {tokens:,} tokens"
