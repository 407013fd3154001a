"""BERTScore of each report, by the package `bert-score` (extra `bertscore`)."""

import importlib
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from .tokens import check_reports

NAMES = ("bertscore_precision", "bertscore_recall", "bertscore_f1")
# The package keeps the embeddings of all reports that it is given; a block at a time bounds its memory.
BLOCK = 1024
BASELINE_PAIRS = 1000


@dataclass(frozen=True)
class Encoder:
    """What embeds the words, and what its scores are rescaled with.

    Attributes:
        path: a folder, or the id of a model on the Hub, which is then downloaded unless it is cached.
        layer: whose output is compared, from 1; default: the package's choice, for the models it knows.
        baseline: "references" (computed, see `bertscore_per_report`), "package" (the package's English baseline,
            for the models it has one of), a file of the package's format, or None for raw scores.
        batch_size: reports encoded at once.
    """

    path: str
    layer: int | None = None
    baseline: str | None = "references"
    batch_size: int = 64


def bertscore_per_report(drafts: Sequence[str], references: Sequence[str], encoder: Encoder) -> dict[str, np.ndarray]:
    """BERTScore (Zhang et al. 2020, equations in section 3) of each report, without idf weights.

    Each token of the draft is compared with its most similar token of the reference, by the cosine of their
    embeddings; P is the mean. R is the same from the reference's side, F1 = 2PR / (P + R). Each score x is rescaled
    with its own baseline b: (x - b) / (1 - b), so that 0 is what unrelated reports reach. An empty draft has the raw
    score 0, which is below that.

    The baseline "references": the distinct references, at most 1,000, in an order drawn with seed 0, are each scored
    as the draft of the next one, the last of the first; b is the mean. All ECG reports resemble each other, so this
    baseline is higher, and the scores are lower, than with the package's, which is of English sentences at large.

    Returns:
        `{"bertscore_precision": ..., "bertscore_recall": ..., "bertscore_f1": ...}`, each float64 (reports,).
    Raises:
        ImportError: the package is not installed.
        ValueError: what `check_reports` refuses, an encoder or baseline that cannot be used, or equal references
            where the baseline is to be computed from them.
    """
    check_reports(drafts, references)
    scorer = _open(encoder)
    scores = scorer.score(drafts, references)
    if encoder.baseline is not None:
        baseline = _baseline(scorer, encoder, references)
        if not (baseline < 1).all():
            raise ValueError(f"{encoder.path}: the baseline is {baseline}, so scores cannot be rescaled with it")
        scores = (scores - baseline) / (1 - baseline)
    return dict(zip(NAMES, scores.T, strict=True))


class _Scorer:
    """The package's functions with one model. The last one is kept: systems are scored one after another."""

    def __init__(self, encoder: Encoder):
        self._utils = _package("bert_score.utils")
        self._path, self._batch_size = _location(encoder.path), encoder.batch_size
        self.layer = encoder.layer if encoder.layer is not None else self._utils.model2layers.get(encoder.path)
        if self.layer is None:
            raise ValueError(f"{encoder.path}: bert-score has no layer of its own for this model; choose one")
        try:
            self._model = self._utils.get_model(self._path, self.layer)
        except AssertionError as error:
            raise ValueError(f"{encoder.path}: {error}") from error
        self._device = "cuda" if _package("torch").cuda.is_available() else "cpu"
        # Transformers 5 keeps the precision of the file; in bfloat16 equal reports would not reach 1.
        self._model.float().to(self._device)
        self._tokenizer = _tokenizer(self._path, self._model)
        if (added := len(self._tokenizer("").input_ids)) != 2:
            raise ValueError(
                f"{encoder.path}: its tokenizer adds {added} tokens to a report, expected one before and one behind: "
                "bert-score takes a report of two tokens for an empty one"
            )
        special = (self._tokenizer.cls_token_id, self._tokenizer.sep_token_id)
        self._weights = dict.fromkeys(range(len(self._tokenizer)), 1.0) | dict.fromkeys(special, 0.0)

    def score(self, drafts: Sequence[str], references: Sequence[str]) -> np.ndarray:
        """float64 (reports, 3): raw precision, recall and F1."""
        blocks = [
            self._utils.bert_cos_score_idf(
                self._model,
                list(references[start : start + BLOCK]),
                list(drafts[start : start + BLOCK]),
                self._tokenizer,
                self._weights,
                batch_size=self._batch_size,
                device=self._device,
            )
            for start in range(0, len(drafts), BLOCK)
        ]
        return np.concatenate([block.numpy() for block in blocks]).astype(np.float64)


_open = lru_cache(maxsize=1)(_Scorer)


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"BERTScore needs bert-score ({error}): pip install 'meit-ecg[bertscore]'") from error


def _location(path: str) -> str:
    """The folder as an absolute path, or the Hub's id."""
    if Path(path).is_dir():
        return str(Path(path).resolve())
    if path.count("/") > 1 or path.startswith((".", "/", "~")):
        raise ValueError(f"{path}: there is no such folder, and it is no id of a model on the Hub")
    if path.startswith("scibert"):
        raise ValueError(
            f"{path}: bert-score fetches this one by a shell command; use allenai/{path.replace('-', '_')}"
        )
    return path


def _tokenizer(path: str, model: Any) -> Any:
    """The model's tokenizer, with what bert-score 0.3.13 expects and transformers 5 no longer gives."""
    load = _package("transformers").AutoTokenizer.from_pretrained
    tokenizer = load(path)
    if "add_prefix_space" in inspect.signature(type(tokenizer).__init__).parameters:
        # bert-score asks for it when it encodes, where it has no effect any more.
        tokenizer = load(path, add_prefix_space=True)
    if not hasattr(tokenizer, "build_inputs_with_special_tokens"):
        tokenizer.build_inputs_with_special_tokens = lambda ids: tokenizer("").input_ids
    # Where the tokenizer does not state the longest input, it says 1e30, which no truncation takes.
    tokenizer.model_max_length = min(tokenizer.model_max_length, _positions(model))
    return tokenizer


def _positions(model: Any) -> int:
    """The longest input in tokens; 512 for a model of relative positions."""
    positions = getattr(getattr(model, "embeddings", None), "position_embeddings", None)
    if positions is None:
        return getattr(model.config, "max_position_embeddings", 512)
    # RoBERTa's positions begin behind the row of padding.
    return positions.num_embeddings - (0 if positions.padding_idx is None else positions.padding_idx + 1)


def _baseline(scorer: _Scorer, encoder: Encoder, references: Sequence[str]) -> np.ndarray:
    """float64 (3,): of precision, recall and F1."""
    if encoder.baseline == "references":
        distinct = sorted(set(references))
        if len(distinct) < 2:
            raise ValueError("all references are equal, so that no baseline can be computed from them: use raw scores")
        order = np.random.default_rng(0).permutation(len(distinct))[:BASELINE_PAIRS]
        drawn = [distinct[index] for index in order]
        return scorer.score(drawn, [*drawn[1:], drawn[0]]).mean(axis=0)
    if encoder.baseline == "package":
        folder = Path(_package("bert_score").__file__).parent
        file = folder / "rescale_baseline" / "en" / f"{encoder.path}.tsv"
    else:
        file = Path(encoder.baseline)
    if not file.is_file():
        raise ValueError(f"{encoder.path}: no baseline {file}")
    # LAYER,P,R,F with one line per layer, from 0
    rows = np.loadtxt(file, delimiter=",", skiprows=1, ndmin=2)
    if rows.shape[1] != 4 or scorer.layer not in rows[:, 0]:
        raise ValueError(f"{file}: no line of four numbers for layer {scorer.layer}, found {rows.shape[0]} lines")
    return rows[rows[:, 0] == scorer.layer][0, 1:]
