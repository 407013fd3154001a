"""One finding that a report states."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from .finding_classes import AGES, CERTAINTIES, CRITICAL, FINDING_CLASSES, SITES

_WRITTEN = re.compile(r"(?P<no>no )?(?P<code>[A-Z0-9]+)(?:\[(?P<said>[a-z,;]+)\])?")


@dataclass(frozen=True)
class Finding:
    """A finding, with how sure the report is of it.

    Attributes:
        code: of `FINDING_CLASSES`.
        sites: of `SITES`, in that order; only of a class that has sites.
        age: one of `AGES`, or None where the report says none; of an infarction.
        certainty: "certain", or "possible" ("possible", "probable", "consider", "cannot rule out", "may be").
        is_negated: the report says that it is not there ("no evidence of").

    Raises:
        ValueError: an unknown code, site, age or certainty, or a site of a class that has none.
    """

    code: str
    sites: tuple[str, ...] = ()
    age: str | None = None
    certainty: str = "certain"
    is_negated: bool = False

    def __post_init__(self) -> None:
        if self.code not in FINDING_CLASSES:
            raise ValueError(f"{self.code!r} is no finding; known are {', '.join(FINDING_CLASSES)}")
        if unknown := set(self.sites) - set(SITES):
            raise ValueError(f"{self.code}: sites {sorted(unknown)}, expected of {', '.join(SITES)}")
        if self.sites and not FINDING_CLASSES[self.code].has_site:
            raise ValueError(f"{self.code} ({FINDING_CLASSES[self.code].name}) has no sites, found {self.sites}")
        if self.age is not None and self.age not in AGES:
            raise ValueError(f"{self.code}: age {self.age!r}, expected one of {', '.join(AGES)} or None")
        if self.certainty not in CERTAINTIES:
            raise ValueError(f"{self.code}: certainty {self.certainty!r}, expected one of {', '.join(CERTAINTIES)}")
        object.__setattr__(self, "sites", tuple(site for site in SITES if site in self.sites))

    @property
    def labels(self) -> tuple[str, ...]:
        """What two reports are compared on: the code, and `code:site` for each site; none where it is negated."""
        return () if self.is_negated else (self.code, *(f"{self.code}:{site}" for site in self.sites))

    def __str__(self) -> str:
        """As in "MI[anterior,septal;old;possible]" or "no STE": `Finding.parse` reads it back."""
        parts = [",".join(self.sites), self.age, None if self.certainty == "certain" else self.certainty]
        said = ";".join(part for part in parts if part)
        return f"{'no ' if self.is_negated else ''}{self.code}{f'[{said}]' if said else ''}"

    @classmethod
    def parse(cls, text: str) -> "Finding":
        """Read what `str` writes.

        Raises:
            ValueError: text that is not so written, or as for the class.
        """
        matched = _WRITTEN.fullmatch(text)
        if matched is None:
            raise ValueError(f"{text!r} is no finding; expected such as 'MI[inferior;old;possible]' or 'no STE'")
        parts = matched["said"].split(";") if matched["said"] else []
        certainty = parts.pop() if parts and parts[-1] in CERTAINTIES else "certain"
        age = parts.pop() if parts and parts[-1] in AGES else None
        sites = tuple(parts.pop().split(",")) if parts else ()
        if parts:
            raise ValueError(f"{text!r}: more than sites, age and certainty, or not in that order")
        return cls(matched["code"], sites, age, certainty, bool(matched["no"]))

    @property
    def is_critical(self) -> bool:
        """Whether a draft that leaves it out endangers: a class of `CRITICAL`, an infarction only if it is acute."""
        return not self.is_negated and self.code in CRITICAL and (self.code != "MI" or self.age == "acute")


def labels_of(findings: Iterable[Finding]) -> frozenset[str]:
    """All labels of a report's findings."""
    return frozenset(label for finding in findings for label in finding.labels)
