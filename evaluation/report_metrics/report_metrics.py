"""The `evaluate` module of drafted ECG reports: `evaluate.load("evaluation/report_metrics")`, or from the Hub."""

import datasets
import evaluate

from evaluation.bertscore import Encoder
from evaluation.text_metrics import text_metrics

_DESCRIPTION = """\
How much the wording of drafted ECG reports resembles that of their references: BLEU-1 to BLEU-4, METEOR, ROUGE-1,
ROUGE-2, ROUGE-L, CIDEr-D and, with an encoder, BERTScore. They compare words, not findings: "no ST elevation" and
"ST elevation" differ by one word.
"""
_INPUTS = """\
Args:
    predictions: the drafts, a list of strings.
    references: for each draft its one reference report, a list of strings; none may be empty.
    mode: "standard" (corpus level, the default) or "paper_compat" (as the code published with MEIT computes them).
    meteor: False leaves METEOR out, which needs WordNet 3.0.
    wordnet: folder of WordNet 3.0; default: where NLTK or Debian's wordnet-base puts it, or MEIT_WORDNET.
    encoder: adds BERTScore with this model, a folder or an id on the Hub. Needs the package bert-score.
    layer: of the encoder; default: bert-score's choice, for the models it knows.
    baseline: what BERTScore is rescaled with: "references" (computed from them, the default), "package" (bert-score's,
        of English), a file, or None for raw scores.
    batch_size: of the batches that mode "paper_compat" averages over; default 8.
Returns:
    bleu_1, bleu_2, bleu_3, bleu_4, meteor, rouge_1, rouge_2, rouge_l: floats in [0, 1]; cider_d: in [0, 10];
    with an encoder bertscore_precision, bertscore_recall, bertscore_f1: at most 1.
"""
_CITATION = """\
Papineni et al. 2002, BLEU: a Method for Automatic Evaluation of Machine Translation. ACL.
Lavie and Agarwal 2007, METEOR: An Automatic Metric for MT Evaluation with High Levels of Correlation with Human
Judgments. Workshop on Statistical Machine Translation.
Lin 2004, ROUGE: A Package for Automatic Evaluation of Summaries. ACL workshop Text Summarization Branches Out.
Vedantam et al. 2015, CIDEr: Consensus-based Image Description Evaluation. CVPR.
Zhang et al. 2020, BERTScore: Evaluating Text Generation with BERT. ICLR.
"""


class ReportMetrics(evaluate.Metric):
    """The text metrics of drafts against one reference each."""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(
        self,
        predictions: list[str],
        references: list[str],
        mode: str = "standard",
        meteor: bool = True,
        wordnet: str | None = None,
        encoder: str | None = None,
        layer: int | None = None,
        baseline: str | None = "references",
        batch_size: int = 8,
    ) -> dict[str, float]:
        return text_metrics(
            predictions,
            references,
            mode,
            meteor=meteor,
            wordnet=wordnet,
            bertscore=None if encoder is None else Encoder(encoder, layer, baseline),
            batch_size=batch_size,
        )
