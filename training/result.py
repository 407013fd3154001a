"""What a training run wrote and how it went."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .mixture import CorpusRecords

_OUTCOME = ("updates", "train_loss", "eval_loss", "seconds", "trainable_parameters", "truncated_reports")


@dataclass(frozen=True)
class TrainingResult:
    """What a run wrote and how it went.

    Attributes:
        folder: the folder that `from_pretrained` loads: an adapter, or with "full" all weights.
        resumed_from: the checkpoint that the run went on from, if any.
        skipped_checkpoints: defects of the checkpoints that were passed over.
        encoder_weights: what of a weights file for the encoder found its place, if one was given.
        corpora: the training records, with what was left out of them.
        truncated_reports: how often this process cut a report at the longest sequence; one that is read again,
            in another epoch or evaluation, counts again.
        updates: number of optimizer updates, those before a resumption included.
        train_loss: mean of the last ten losses that were logged, nats per report token; None where none was.
        eval_loss: loss on the evaluation split of the weights that were written, or None.
        seconds: duration of this process' training.
        trainable_parameters: how many numbers were trained.
        was_finished: whether an earlier process had finished this very run, so that nothing was done.
    """

    folder: Path
    resumed_from: Path | None
    skipped_checkpoints: list[str]
    encoder_weights: str | None
    corpora: list[CorpusRecords]
    truncated_reports: int
    updates: int
    train_loss: float | None
    eval_loss: float | None
    seconds: float
    trainable_parameters: int
    was_finished: bool = False

    @property
    def records(self) -> int:
        """Number of usable training records."""
        return sum(len(corpus.records) for corpus in self.corpora)

    @property
    def skipped_records(self) -> int:
        """Number of training records left out because their report is empty."""
        return sum(corpus.without_report for corpus in self.corpora)

    @property
    def broken_records(self) -> dict[str, str]:
        """Id -> what is wrong, of the training records left out because their recording is broken."""
        return {record_id: reason for corpus in self.corpora for record_id, reason in corpus.broken.items()}

    @property
    def outcome(self) -> dict[str, Any]:
        """What of it `training_run.json` keeps."""
        return {name: getattr(self, name) for name in _OUTCOME}

    @classmethod
    def of_finished_run(cls, folder: Path, corpora: list[CorpusRecords], outcome: dict[str, Any]) -> "TrainingResult":
        """The result of a run that an earlier process finished, whose `outcome` stands in the folder."""
        return cls(
            folder=folder,
            resumed_from=None,
            skipped_checkpoints=[],
            encoder_weights=None,
            corpora=corpora,
            was_finished=True,
            **{name: outcome.get(name) for name in _OUTCOME},
        )
