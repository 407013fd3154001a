"""A simulated corpus -> the config `simulated`: ECGs whose rate, rhythm and findings are known, and a report of them.

For tests and first runs where no real data is at hand. A model trained on it knows nothing of real ECGs.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dataset_builder.corpus import Entry, Source
from dataset_builder.simulated_ecg import MORPHOLOGIES, SAMPLES, SAMPLING_RATE, draw_beats, simulate

# Rates in beats per minute are drawn from these; the borders of the classes are 60 and 100, so a gap is left.
RATE_CLASSES = {"bradycardia": (36.0, 56.0), "normal rate": (64.0, 96.0), "tachycardia": (106.0, 160.0)}
_GAIN = 1000.0  # ADC units per mV, as in PTB-XL

SOURCE = Source(
    name="Simulated 12-lead ECGs with known rate, rhythm and morphology",
    url="https://doi.org/10.1109/TBME.2003.808805",
    licence="apache-2.0",
    citation=(
        "The shape of the waves: McSharry P. E., Clifford G. D., Tarassenko L., Smith L. A. (2003). A dynamical "
        "model for generating synthetic electrocardiogram signals. IEEE Transactions on Biomedical Engineering "
        "50 (3), 289-294, in the implementation of NeuroKit2 (Makowski et al. 2021)."
    ),
    creators=("meit-ecg",),
    published="2026-11-24",
    notes=(
        "Not recorded from anybody, and not for clinical use or for judging a model.",
        "Waves by `neurokit2`, placed beat by beat with textbook amplitudes per lead, and electrode noise.",
        "Each report names the heart-rate class by `bradycardia` (below 60/min), `normal rate` (60 to 100/min) or "
        "`tachycardia` (above 100/min). In every split each class has a third of the records.",
        "`patient_id` is one per record, `age` and `sex` are null.",
    ),
)

_RHYTHM_SENTENCES = {
    "sinus": {
        "bradycardia": "sinus bradycardia",
        "normal rate": "sinus rhythm with normal rate",
        "tachycardia": "sinus tachycardia",
    },
    "sinus arrhythmia": {
        "bradycardia": "sinus arrhythmia with bradycardia",
        "normal rate": "sinus arrhythmia with normal rate",
    },
    "atrial fibrillation": {
        "bradycardia": "atrial fibrillation with bradycardia",
        "normal rate": "atrial fibrillation with normal rate",
        "tachycardia": "atrial fibrillation with tachycardia",
    },
}
_RHYTHM_CODES = {"sinus arrhythmia": "SARRH", "atrial fibrillation": "AFIB"}
_SINUS_CODES = {"bradycardia": "SBRAD", "normal rate": "SR", "tachycardia": "STACH"}
# What the report says of a morphology, and its SCP statement.
_FINDINGS = {
    "inferior st elevation": ("st elevation in ii, iii, avf", "STE_"),
    "anterior st elevation": ("st elevation in v1, v2, v3, v4", "STE_"),
    "lateral st depression": ("st depression in v4, v5, v6", "STD_"),
    "lateral t wave inversion": ("t wave inversion in i, v4, v5, v6", "INVT"),
    "low voltage": ("low voltage in limb leads", "LVOLT"),
    "left bundle branch block": ("complete left bundle branch block", "CLBBB"),
    "right bundle branch block": ("complete right bundle branch block", "CRBBB"),
    "first degree av block": ("first degree av block", "1AVB"),
}


@dataclass
class Simulated:
    """Draws records one by one: record `i` of a seed is the same whatever the number of records.

    Attributes:
        num_records: how many records.
        seed: what they are drawn from.
        plain: sinus rhythm without any finding, so that nothing but the rate differs.
    """

    num_records: int = 600
    seed: int = 0
    plain: bool = False
    config: str = "simulated"
    version: str = "2.0.0"
    source: Source = SOURCE
    samples: int = SAMPLES

    def entries(self) -> Iterator[Entry]:
        for index in range(self.num_records):
            name = _name(self.seed, index)
            yield Entry(name, name, simulated_split(self.seed, index), index)

    def row(self, entry: Entry) -> tuple[dict[str, object], np.ndarray]:
        return simulated_record(self.seed, entry.payload, self.plain)

    def facts(self) -> dict[str, object]:
        return {"num_records": self.num_records, "seed": self.seed, "plain": self.plain}


def _name(seed: int, index: int) -> str:
    return f"s{seed}-{index:06d}"


def simulated_split(seed: int, index: int) -> str:
    """The split of a record, by a hash, so that it does not depend on how many records there are.

    Three records in a row, one of each rate class, share a split, so classes balance in each. Of ten such groups
    in a row one is for validation, one for the test and eight are for training, so that 30 records have them all.
    """
    block, position = divmod(index // len(RATE_CLASSES), 10)
    digests = [hashlib.sha256(f"simulated/{seed}/{block}/{place}".encode()).digest() for place in range(10)]
    rank = sorted(digests).index(digests[position])
    return {0: "validation", 1: "test"}.get(rank, "train")


def simulated_record(seed: int, index: int, plain: bool = False) -> tuple[dict[str, object], np.ndarray]:
    """The columns of one record, and its int16 (12, 5000) ADC units; the same arguments give the same.

    `plain`: sinus rhythm, no finding.
    """
    rng = np.random.default_rng([seed, index])
    rate_class = tuple(RATE_CLASSES)[index % len(RATE_CLASSES)]
    rhythm, morphology = ("sinus", "none") if plain else _draw_findings(rate_class, rng)
    beats = draw_beats(rhythm, rng.uniform(*RATE_CLASSES[rate_class]), rng)
    while classify_rate(beats.rate()) != rate_class:  # few beats of an irregular rhythm may stray over the border
        beats = draw_beats(rhythm, rng.uniform(*RATE_CLASSES[rate_class]), rng)
    millivolts = simulate(beats, rhythm, morphology, rng)
    premature = int((beats.premature & beats.inside()).sum())
    columns = {
        "id": _name(seed, index),
        "corpus": "simulated",
        "patient_id": _name(seed, index),
        "study_time": None,
        "age": None,
        "sex": None,
        "ecg_gain": [_GAIN] * 12,
        "ecg_baseline": [0] * 12,
        "sampling_rate": float(SAMPLING_RATE),
        "report": _report(rhythm, rate_class, round(beats.rate()), premature, morphology),
        "report_language": "en",
        "report_source": "simulated",
        "scp_codes": _scp_codes(rhythm, rate_class, premature, morphology),
        "validated_by_human": None,
        "signal_quality": [],
    }
    return columns, np.ascontiguousarray(np.round(millivolts * _GAIN).astype(np.int16))


def classify_rate(rate: float) -> str:
    """The class of a heart rate in beats per minute, as its rounded value is printed: a key of `RATE_CLASSES`."""
    if round(rate) < 60:
        return "bradycardia"
    return "tachycardia" if round(rate) > 100 else "normal rate"


def _draw_findings(rate_class: str, rng: np.random.Generator) -> tuple[str, str]:
    """A rhythm and a morphology that can be seen together at this rate."""
    rhythms = {
        "sinus": 0.6,
        "sinus arrhythmia": 0.1,
        "atrial fibrillation": 0.2,
        "ventricular premature complexes": 0.1,
    }
    if rate_class == "tachycardia":
        # The breath does not show at high rates, and a premature complex would fall onto the T wave before it.
        rhythms["sinus"] += rhythms.pop("sinus arrhythmia") + rhythms.pop("ventricular premature complexes")
    rhythm = str(rng.choice(list(rhythms), p=list(rhythms.values())))
    morphologies = list(MORPHOLOGIES)
    if rhythm == "atrial fibrillation" or rate_class == "tachycardia":
        morphologies.remove("first degree av block")  # no P wave, or one that falls into the T wave before it
    findings = len(morphologies) - 1
    morphology = str(rng.choice(morphologies, p=[0.4, *[0.6 / findings] * findings]))
    return rhythm, morphology


def _report(rhythm: str, rate_class: str, rate: int, premature: int, morphology: str) -> str:
    base = "sinus" if premature else rhythm
    sentences = [_RHYTHM_SENTENCES[base][rate_class], f"rate {rate}/min"]
    if premature:
        sentences.append("ventricular premature complex" + ("es" if premature > 1 else ""))
    if morphology != "none":
        sentences.append(_FINDINGS[morphology][0])
    elif rhythm in ("sinus", "sinus arrhythmia"):
        plain = rhythm == "sinus" and rate_class == "normal rate"
        sentences.append("normal ecg" if plain else "otherwise normal ecg")
    return ". ".join(sentences) + "."


def _scp_codes(rhythm: str, rate_class: str, premature: int, morphology: str) -> list[dict[str, object]]:
    codes = [_RHYTHM_CODES.get(rhythm, _SINUS_CODES[rate_class])]
    if premature:
        codes.append("PVC")
    if morphology != "none":
        codes.append(_FINDINGS[morphology][1])
    elif codes == ["SR"]:
        codes.append("NORM")
    return [{"code": code, "likelihood": 100.0} for code in codes]
