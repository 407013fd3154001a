"""The `evaluate` module of drafted ECG reports: `evaluate.load("evaluation/report_metrics")`, or from the Hub."""

import datasets
import evaluate

from evaluation.text_metrics import text_metrics

_DESCRIPTION = """\
How much the wording of drafted ECG reports resembles that of their references: corpus BLEU-1 to BLEU-4 without
smoothing, and the mean ROUGE-L F1, each in [0, 1]. They compare words, not findings: "no ST elevation" and
"ST elevation" differ by one word.
"""
_INPUTS = """\
Args:
    predictions: the drafts, a list of strings.
    references: for each draft its one reference report, a list of strings; none may be empty.
Returns:
    bleu_1, bleu_2, bleu_3, bleu_4, rouge_l: floats in [0, 1].
"""
_CITATION = """\
Papineni et al. 2002, BLEU: a Method for Automatic Evaluation of Machine Translation. ACL.
Lin 2004, ROUGE: A Package for Automatic Evaluation of Summaries. ACL workshop Text Summarization Branches Out.
"""


class ReportMetrics(evaluate.Metric):
    """BLEU-1 to BLEU-4 and ROUGE-L of drafts against one reference each."""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, float]:
        return text_metrics(predictions, references)
