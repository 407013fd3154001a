"""One sentence of a report, read from left to right: which terms name a finding, with its sites and age.

Heads take the modifiers before them, and those behind that no later head takes; subjects take the qualities on either
side ("t waves are low or flat in I and inverted in aVL").
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from .finding_classes import FINDING_CLASSES, SITES
from .finding_rules import (
    ABSENT,
    AGES,
    ALONE,
    HEADS,
    INTERPRETED,
    KINDS,
    MODIFIERS,
    QUALITIES,
    SUBJECTS,
    codes_of_head,
    takes,
)
from .report_terms import COMMA, Term

SEPARATORS = frozenset({COMMA, "and", "or"})
CUES = frozenset(
    {"neg", "may", "suspected", "perhaps", "instead", "neg_after", "neg_either", "unread", "after", "nothing", "due"}
)
# A modifier belongs to a head that is at most so many words further.
_REACH = 4


@dataclass
class Named:
    """What a head or a subject with a quality names; no codes where it names nothing, but a "no" can be about it.

    Attributes:
        first, at, last: where in the sentence its first modifier, itself and its last modifier are.
        lone: of a quality without a subject, the code that it names; "abnormal" names one only if it is denied, and
            "nothing" none.
        absent: the code of its absence.
        subject: where the subject is that has the quality; None for a head.
    """

    codes: tuple[str, ...]
    first: int
    at: int
    last: int
    sites: set[str] = field(default_factory=set)
    ages: list[str] = field(default_factory=list)
    lone: str = ""
    absent: str = ""
    subject: int | None = None
    summary_of_parts: bool = False
    is_negated: bool = False
    is_possible: bool = False
    is_no_finding: bool = False

    @property
    def has_sites(self) -> bool:
        return any(FINDING_CLASSES[code].has_site for code in self.codes)

    @property
    def is_interpreted(self) -> bool:
        return bool(self.codes) and set(self.codes) <= INTERPRETED


@dataclass
class _Subject:
    name: str
    at: int
    first: int
    partner: "_Subject | None"
    sites: set[str] = field(default_factory=set)
    has_quality: bool = False


class Sentence:
    """Reads the heads and subjects of one sentence from left to right."""

    def __init__(self, terms: Sequence[Term]) -> None:
        self.terms = terms
        self.names = [term.name for term in terms]
        self.named: list[Named] = []
        self.subject: _Subject | None = None
        self.pending: list[int] = []
        self.ages: list[str] = []
        self.used: set[int] = set()

    def read(self) -> list[Named]:
        for index, name in enumerate(self.names):
            if index in self.used:
                continue
            if name in SUBJECTS:
                self._read_subject(index, name)
            elif name in HEADS and self._read_head(index, name):
                continue
            elif name in QUALITIES and self._fits_subject(index, name):
                self._name_quality(self.subject, index, name)
            elif name in CUES or name in ("with", "but"):
                self._place_subject()
                self._drop_pending()
            elif name in AGES or name in MODIFIERS or name in QUALITIES:
                self._read_modifier(index, name)
            elif name == "lead" and self.subject is not None:
                self.subject.sites.update(self.terms[index].sites)
            elif name == "leads" and self.subject is not None:
                self._place_subject()
                self._drop_pending()
            elif name in SEPARATORS:
                self.pending.append(index)
        self._read_lone_qualities()
        return sorted(self.named, key=lambda named: named.at)

    def _drop_pending(self) -> None:
        self.pending.clear()
        self.ages.clear()

    def _read_modifier(self, index: int, name: str) -> None:
        self.pending.append(index)
        if name in AGES:
            self.ages.append(name)

    def _place_subject(self) -> None:
        """The sites that end here are the subject's: "T changes in anterior leads", "T changes anteriorly as in"."""
        if self.subject is not None:
            self.subject.sites.update(self._sites(self.pending))

    def _sites(self, indices: Iterable[int]) -> set[str]:
        return {self.names[index] for index in indices if self.names[index] in SITES}

    # Subjects and their qualities.

    def _read_subject(self, index: int, name: str) -> None:
        partner = self.subject
        if partner is not None and (partner.has_quality or not self._only_separators(partner.at, index)):
            partner = None
        before = [at for at in self.pending if self.names[at] in SUBJECTS[name]]
        sites = self._sites(self.pending)
        first = min([index, *self.pending[self._start_of_run() :]])
        self._drop_pending()
        self.subject = subject = _Subject(name, index, first, partner, sites)
        if name in ALONE:
            subject.has_quality = True
            self.used.update(before)
            self._add(Named((ALONE[name],), first, index, index, subject=index), subject)
        elif before:
            for at in before:
                self._name_quality(subject, at, self.names[at])
        else:
            self._add(Named((), first, index, index, subject=index, absent=ABSENT.get(name, "")), subject)

    def _only_separators(self, start: int, end: int) -> bool:
        between = self.names[start + 1 : end]
        return bool(between) and all(name in SEPARATORS for name in between)

    def _start_of_run(self) -> int:
        """Where in `pending` the modifiers after the last separator start."""
        for position in range(len(self.pending) - 1, -1, -1):
            if self.names[self.pending[position]] in SEPARATORS:
                return position + 1
        return 0

    def _fits_subject(self, index: int, quality: str) -> bool:
        subject = self.subject
        if subject is None or subject.name in ALONE or quality not in SUBJECTS[subject.name]:
            return False
        if index and self.names[index - 1] == "otherwise":
            return False
        if not self._fits_next(index, quality):
            return True
        return not subject.has_quality and subject.name != "ecg" and self.names[index - 1] not in SEPARATORS

    def _fits_next(self, index: int, quality: str) -> bool:
        """Whether the head or subject that follows, with modifiers at most between, can take the quality."""
        for name in self.names[index + 1 :]:
            if name in SUBJECTS:
                return quality in SUBJECTS[name]
            if name in HEADS and not (name in QUALITIES and self.subject and name in SUBJECTS[self.subject.name]):
                return quality in takes(name)
            if name not in MODIFIERS and name not in QUALITIES:
                return False
        return False

    def _name_quality(self, subject: _Subject | None, index: int, quality: str) -> None:
        """Of the subject, and of the bare subjects that it is listed with."""
        again = False
        while subject is not None:
            if quality in SUBJECTS[subject.name]:
                self.named = [it for it in self.named if it.codes or it.subject != subject.at]
                first = index if subject.has_quality or again else min(index, subject.first)
                codes = tuple(SUBJECTS[subject.name][quality].split())
                at = max(index, subject.at)
                self._add(Named(codes, first, at, at, subject=subject.at), subject)
                subject.has_quality = True
                self.used.add(index)
            subject, again = subject.partner, True

    def _add(self, named: Named, subject: _Subject) -> None:
        # A tall R wave stands opposite to what it is a sign of.
        named.sites = set() if subject.name == "r" else subject.sites
        self.named.append(named)

    def _read_lone_qualities(self) -> None:
        """Qualities that no subject took: "otherwise normal", "pathological"."""
        for index, name in enumerate(self.names):
            if name in ("normal", "abnormal", "pathological", "borderline", "change") and index not in self.used:
                self.named.append(Named((), index, index, index, lone=self._lone(index, name)))

    def _lone(self, index: int, name: str) -> str:
        alone = all(other in (name, "otherwise", *CUES) for other in self.names)
        otherwise = index > 0 and self.names[index - 1] == "otherwise"
        if name == "normal":
            return "NORM" if alone or otherwise else "nothing"
        if name == "pathological" or (name == "abnormal" and alone):
            return "ABN"
        if name == "abnormal":
            return "abnormal"
        return "BORD" if name == "borderline" and alone else "nothing"

    # Heads and their modifiers.

    def _read_head(self, index: int, name: str) -> bool:
        """Whether the head names something, or nothing that could be taken for a quality."""
        before = self._within_reach(index)
        codes = self._codes(name, before)
        last = index
        after = self._modifiers_after(index, name)
        if after and (with_after := self._codes(name, [*before, *after])) not in (None, codes):
            codes = with_after
            last = after[-1]
            self.used.update(after)
        if codes is None and (name in ("beat", "disease") or name in QUALITIES):
            return False
        first = min([index, *before])
        if name == "rhythm" and before and self.names[first - 1 : first] == ["pacemaker"]:
            codes = ()  # "paced ventricular rhythm": no rhythm of the ventricles' own
        named = Named(codes or (), first, index, last)
        named.summary_of_parts = name == "block" and "bifascicular" in {self.names[at] for at in before}
        if named.has_sites:
            self._read_sites_and_ages(named, before)
        self.used.update(before)
        self.named.append(named)
        self.subject = None
        self._drop_pending()
        return True

    def _within_reach(self, index: int) -> list[int]:
        """The pending modifiers right before the head, in their order; without separators at their start."""
        word = self.terms[index].word
        reached: list[int] = []
        if self.pending and self.names[self.pending[-1]] in SEPARATORS:
            return reached
        for at in reversed(self.pending):
            if word - self.terms[at].word > _REACH:
                break
            word = self.terms[at].word
            reached.append(at)
        while reached and self.names[reached[-1]] in SEPARATORS:
            reached.pop()
        return reached[::-1]

    def _codes(self, head: str, modifiers: Sequence[int]) -> tuple[str, ...] | None:
        """Of every item of a list of modifiers: what one does not say itself, it has from the next or the last."""
        groups: list[set[str]] = [set()]
        for at in modifiers:
            if self.names[at] in SEPARATORS:
                groups.append(set())
            else:
                groups[-1].add(self.names[at])
        shared = set().union(*groups).difference(*KINDS)
        codes: list[str] = []
        found = False
        for position, own in enumerate(groups):
            whole = own | shared
            for kind in KINDS:
                if not own & kind:
                    others = [*groups[position + 1 :], *groups[:position][::-1]]
                    whole |= next((other & kind for other in others if other & kind), set())
            if (named := codes_of_head(head, whole)) is not None:
                found = True
                codes.extend(code for code in named if code not in codes)
        return tuple(codes) if found else None

    def _modifiers_after(self, index: int, name: str) -> list[int]:
        """Modifiers behind the head that no later one takes: "block, left bundle", "enlargement of the left atrium"."""
        can = takes(name)
        at = index + 1
        linked = False
        while at < len(self.names) and self.names[at] in (COMMA, "of"):
            linked = linked or self.names[at] == "of"
            at += 1
        after = self._run(at, can)
        if not linked and after:
            following = self._following(after[-1] + 1)
            taken = next((place for place, it in enumerate(after) if self.names[it] in takes(following)), len(after))
            after = after[:taken]
        if after and self.names[after[-1] + 1 : after[-1] + 2] in (["and"], ["or"]):
            listed = self._run(after[-1] + 2, can)
            if listed and self.names[listed[0]] not in takes(self._following(listed[-1] + 1)):
                after += [after[-1] + 1, *listed]  # "complexes, atrial and ventricular", "AV block II or III"
        return after

    def _run(self, start: int, can: Collection[str]) -> list[int]:
        """The places from `start` on that hold one of `can`."""
        end = start
        while end < len(self.names) and self.names[end] in can:
            end += 1
        return list(range(start, end))

    def _following(self, start: int) -> str:
        """The head or subject that comes next, with only modifiers before it; else what is in its place."""
        is_modifier = MODIFIERS | QUALITIES
        return next((it for it in self.names[start:] if it in HEADS or it in SUBJECTS or it not in is_modifier), "")

    def _read_sites_and_ages(self, named: Named, before: Sequence[int]) -> None:
        """Before the head, and behind it: "infarct, probably old", "ischaemia in V5-6", "infarct of uncertain age"."""
        named.sites = self._sites(before)
        named.ages = list(self.ages)
        start = named.last + 1
        while start < len(self.names) and self.terms[start].word == self.terms[named.at].word:
            start += 1  # the rest of an abbreviation, "STEMI"
        ages, places, passed, end = self._places_and_ages_after(start)
        following = next((name for name in self.names[end:] if name not in MODIFIERS), "")
        is_next_named = following in HEADS or following in SUBJECTS
        is_listed = COMMA in passed and following in ("infarct", "damage")
        taken: list[int] = []
        if not named.ages and not is_listed:
            leading = [at for at in ages if not places or at < places[0] or not is_next_named]
            named.ages = [self.names[at] for at in leading]
            taken += leading
        if not is_next_named or (passed & {"of", "in"} and not named.sites):
            taken += places
        named.sites.update(*({self.names[at], *self.terms[at].sites} & set(SITES) for at in taken))
        if taken:
            named.last = max(taken)
            self.used.update(range(start, named.last + 1))

    def _places_and_ages_after(self, start: int) -> tuple[list[int], list[int], set[str], int]:
        """Ages, and sites and leads, with what is passed on the way, and where they end."""
        ages: list[int] = []
        places: list[int] = []
        passed: set[str] = set()
        for at in range(start, len(self.names)):
            name = self.names[at]
            if name in AGES:
                ages.append(at)
            elif name in SITES or (name == "lead" and passed):
                places.append(at)
            elif name in ("of", "in", "age", "leads", "heart", *SEPARATORS):
                passed.add(name)
            elif name != "perhaps" or not set(self.names[at + 1 : at + 2]) & AGES:
                return ages, places, passed, at
        return ages, places, passed, len(self.names)
