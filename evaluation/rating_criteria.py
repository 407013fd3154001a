"""What a report is rated on, from 1 to 5, by people and by a language model alike."""

from dataclasses import dataclass

LOWEST, HIGHEST = 1, 5


@dataclass(frozen=True)
class Criterion:
    """One criterion: the question that is asked, and what each score from 1 to 5 means."""

    question: str
    anchors: tuple[str, str, str, str, str]


CRITERIA: dict[str, Criterion] = {
    "terminology": Criterion(
        "Are the terms those of electrocardiography, and rightly used?",
        (
            "Terms are wrong, invented or unintelligible throughout.",
            "Several terms are wrong or not standard, so that the meaning is in doubt.",
            "Mostly standard terms; some are vague or unusual, but the meaning is clear.",
            "Standard terms throughout, with one minor slip.",
            "Standard terms throughout, precisely used.",
        ),
    ),
    "logic": Criterion(
        "Does the report agree with itself, and do its conclusions follow from its findings?",
        (
            "It contradicts itself on a main point, or makes no sense.",
            "It contradicts itself more than once, or main conclusions do not follow from the findings.",
            "One minor contradiction, or one conclusion without a finding that supports it.",
            "It agrees with itself; order or emphasis could be better.",
            "It agrees with itself, is well ordered, and every conclusion follows from its findings.",
        ),
    ),
    "completeness": Criterion(
        "Does the report state everything that a report on this ECG has to state?",
        (
            "A finding that needs action at once is missing, or nearly everything is.",
            "A major finding is missing.",
            "The major findings are there; several minor ones are missing.",
            "One minor finding is missing.",
            "Nothing of importance is missing.",
        ),
    ),
    "diagnosis": Criterion(
        "Is what the report states true of this ECG?",
        (
            "The main statement is wrong, or a finding is invented, so that a patient could come to harm.",
            "The main statement is wrong, or a finding is invented, with little danger to a patient.",
            "The main statement is right; several minor ones are wrong.",
            "The main statement is right; one minor one is wrong or imprecise (site, degree, certainty).",
            "Everything that is stated is right.",
        ),
    ),
}
