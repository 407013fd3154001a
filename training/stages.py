"""Recipes of several stages, such as one that aligns a new encoder and one that then trains LoRA."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from transformers import HfArgumentParser

_STAGES = "stages"


@dataclass(frozen=True)
class Stage:
    """One training run of a recipe.

    Attributes:
        name: as the recipe calls it; "" for a recipe without stages.
        arguments: the parsed groups of arguments, in the parser's order.
    """

    name: str
    arguments: tuple[Any, ...]


def parse_stages(new_parser: Callable[[], HfArgumentParser], argv: Sequence[str]) -> list[Stage]:
    """Parse a command line whose `--config FILE.yaml` may list several stages.

    A recipe's `stages` is a list of mappings. Each is a stage: its `name`, and the options in which it differs from
    what the recipe says outside of the list. Options of the command line hold for every stage.

    Args:
        new_parser: makes a parser; each stage has one of its own, since a recipe's options become a parser's defaults.
        argv: the options.

    Raises:
        ValueError, OSError, yaml.YAMLError: the recipe cannot be read, or `stages` is not such a list.
    """
    # TRL's parser takes the file as an argument of its own alone.
    argv = [part for option in argv for part in (option.split("=", 1) if option.startswith("--config=") else [option])]
    recipe, path = {}, None
    if "--config" in argv:
        position = argv.index("--config")
        if position + 1 == len(argv):
            raise ValueError("--config: expected a recipe's file behind it")
        path = Path(argv[position + 1])
        with open(path, encoding="utf-8") as file:  # an open file, so that YAML's errors name it
            try:
                recipe = yaml.safe_load(file)
            except UnicodeDecodeError as error:
                raise ValueError(f"{path}: a recipe is text in UTF-8 ({error})") from error
    if not isinstance(recipe, dict) or _STAGES not in recipe:
        return [Stage("", new_parser().parse_args_and_config(args=argv))]
    stages = recipe.pop(_STAGES)
    _check(stages, path)
    del argv[position : position + 2]
    parsed = []
    for stage in stages:
        options = recipe | stage
        name = options.pop("name")
        with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
            yaml.safe_dump(options, file)
            file.flush()
            try:
                parsed.append(Stage(name, new_parser().parse_args_and_config(args=["--config", file.name, *argv])))
            except ValueError as error:
                raise ValueError(f"{path}, stage {name}: {error}") from error
    return parsed


def _check(stages: Any, path: Path | None) -> None:
    if not isinstance(stages, list) or not stages or not all(isinstance(stage, dict) for stage in stages):
        raise ValueError(f"{path}: stages is {stages!r}; expected a list of mappings, each with a name and options")
    names = [stage.get("name") for stage in stages]
    for name in names:
        if not isinstance(name, str) or not name.isidentifier():
            raise ValueError(f"{path}: a stage has the name {name!r}; expected letters, digits and _")
    if len(set(names)) != len(names):
        raise ValueError(f"{path}: the names of the stages are {names}; expected each once")
    for number, stage in enumerate(stages):
        if taken := {"output_dir", "start_from", *(["encoder"] if number else [])} & stage.keys():
            raise ValueError(
                f"{path}, stage {stage['name']}: found {', '.join(sorted(taken))}; a stage begins with the weights of "
                "the one before it, and the last one writes into the recipe's output_dir"
            )
