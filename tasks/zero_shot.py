"""The task `zero_shot`: a model on a corpus that it was not trained on.

"Without instruction tuning" is the row of its language model alone, as published: nothing was trained to read an ECG
there, so it is given none.
"""

from typing import Any

from .quality import measure
from .session import Session


def run(session: Session, config: str | None, trained_on: str | None) -> dict[str, Any] | None:
    """Measure the model and the baselines on one corpus; the baselines too take what they say from another.

    Args:
        session: of the run.
        config: the corpus of the records.
        trained_on: the corpus that the model was trained on.

    Returns:
        The task's entry in `results.json`; None in a process that only helps to draft.

    Raises:
        ValueError: it is the same corpus.
    """
    if config == trained_on:
        raise ValueError(f"zero_shot: the model was trained on {config}; expected a corpus that it has not seen")
    entry = measure(session, "zero_shot", session.records(config), session.systems(trained_on))
    return entry and entry | {"trained_on": trained_on}
