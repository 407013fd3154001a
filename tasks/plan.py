"""Which tasks are run on which corpora."""

import json
from collections.abc import Sequence
from pathlib import Path


def planned(
    tasks: Sequence[str], configs: Sequence[str], trained_on: str | None, config: str | None
) -> list[tuple[str, str]]:
    """Each task with the corpora that it is run on.

    Args:
        tasks: of quality, zero_shot, noise and expert.
        configs: of the dataset.
        trained_on: config that the model was trained on, where that is known.
        config: the user's choice; else the corpus that the model was trained on, and for zero_shot every other.

    Raises:
        ValueError: it cannot be told what to run a task on.
    """
    own = config or (trained_on if trained_on in configs else configs[0] if len(configs) == 1 else None)
    work = []
    for task in tasks:
        if task == "zero_shot":
            work += [(task, name) for name in _unseen(configs, trained_on, config)]
        elif own is None:
            raise ValueError(f"{task}: choose a corpus with --dataset-config; found {', '.join(configs)}")
        else:
            work.append((task, own))
    return work


def _unseen(configs: Sequence[str], trained_on: str | None, config: str | None) -> list[str]:
    if trained_on is None:
        raise ValueError("zero_shot: it is not known what the model was trained on; give --trained-on NAME")
    if trained_on not in configs:
        raise ValueError(
            f"zero_shot: {trained_on}, which the model was trained on, is not in the dataset, and the baselines need "
            f"it; found {', '.join(configs)}"
        )
    unseen = [name for name in configs if _corpus(name) != _corpus(trained_on)]
    if config is not None and config in unseen:
        return [config]
    if not unseen:
        raise ValueError(f"zero_shot: the dataset has no corpus but {trained_on}, which the model was trained on")
    return unseen


def _corpus(config: str) -> str:
    """The same recordings at another sampling rate are no other corpus."""
    return config.removesuffix("-100hz")


def trained_corpus(model: str | Path) -> str | None:
    """The corpus that a training run noted in the model's folder; None where there is none, or several.

    Raises:
        ValueError: the note cannot be read.
    """
    path = Path(model) / "training_run.json"
    if not path.is_file():
        return None
    try:
        corpora = {corpus["config"] for corpus in json.loads(path.read_text("utf-8"))["data"]["corpora"]}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not the record of a training run ({error!r})") from error
    return corpora.pop() if len(corpora) == 1 else None
