"""What a report denies and doubts, and what explains what: the reach of "no", "possible" and "cannot be excluded".

As in NegEx (Chapman et al. 2001), words of denial and doubt stand before or behind what they are about. Here they reach
the next finding and those that it is listed with ("no A, B or C"), not a number of words: many of these reports have
no punctuation.
"""

from collections.abc import Sequence

from .finding_rules import AGES
from .finding_sentence import SEPARATORS, Named
from .report_terms import COMMA, UNKNOWN, Term

_DENIALS = ("neg", "neg_after", "neg_either")
# A cue reaches over at most so many unknown words.
_UNKNOWN_WORDS = 3
# What may stand between the findings of a list, beside what separates them.
_BETWEEN = SEPARATORS | AGES | {"lead", "leads", "in", "of", "age", "heart", "disease", "disturbance", UNKNOWN}
_BEHIND = AGES | {"lead", "leads", "in", "of", "age"}


def apply_cues(sentence: Sequence[Term], named: Sequence[Named]) -> None:
    """Deny and doubt what is in the scope of the sentence's cues."""
    scope = _Scope(sentence, named)
    for index, term in enumerate(sentence):
        if term.name == "neg":
            for one in scope.after(index) or scope.answered(index):
                one.is_negated = True
        elif term.name in ("neg_after", "neg_either"):
            for one in scope.led(index) or scope.before(index):
                one.is_negated = True
        elif term.name == "instead":
            for one in scope.after(index):
                one.is_no_finding = True
        elif term.name == "unread":
            for one in scope.before(index):
                one.is_no_finding = True
        else:
            for one in scope.doubted(index):
                one.is_possible = True


class _Scope:
    """Which findings of a sentence a cue reaches: the next or the last one, and those that it is listed with."""

    def __init__(self, sentence: Sequence[Term], named: Sequence[Named]) -> None:
        self.names = [term.name for term in sentence]
        self.words = [term.word for term in sentence]
        self.named = named

    def after(self, index: int) -> list[Named]:
        """From the finding that follows to the last that "or" or "and" joins to it."""
        position = next((at for at, one in enumerate(self.named) if one.at > index), len(self.named))
        if position == len(self.named) or self._is_far(index, self.named[position].first):
            return []
        is_denial = self.names[index] in _DENIALS
        end = position
        is_over = False
        for at in range(position, len(self.named) - 1):
            between = set(self.names[self.named[at].last + 1 : self.named[at + 1].first])
            link = self._link(at, is_denial)
            # "neither A nor B, and C"
            if link is None or (is_over and {COMMA, "and"} <= between):
                break
            is_over = is_over or (is_denial and "or" in between)
            if link:
                end = at + 1
        return list(self.named[position : end + 1])

    def before(self, index: int) -> list[Named]:
        """The finding before, and those joined to it."""
        position = max((at for at, one in enumerate(self.named) if one.at < index), default=-1)
        # "pericarditis was considered, but is unlikely"
        cue = index - 1 if self.names[index] in _DENIALS and "but" in self.names[index - 1 : index] else index
        if position < 0 or self._is_far(self.named[position].last, cue):
            return []
        is_denial = self.names[index] in _DENIALS
        start = position
        while start and self._is_joined(start - 1, is_denial):
            start -= 1
        return list(self.named[start : position + 1])

    def led(self, index: int) -> list[Named]:
        """What an "absent" or "unlikely" stands before: "with absent P waves", "it is unlikely that"; else nothing."""
        if self.names[index] != "neg_either" or (index and self.names[index - 1] not in SEPARATORS | {"with", "but"}):
            return []
        start = index + 2 if self.names[index + 1 : index + 2] == ["may"] else index + 1
        following = next((one for one in self.named if one.at > index), None)
        return self.after(index) if following is not None and following.first == start else []

    def answered(self, index: int) -> list[Named]:
        """The finding right before a "no" that ends the sentence: "infarct: no", "infarct is not"."""
        last = max((one.last for one in self.named if one.at < index), default=-1)
        if index < len(self.names) - 1 or last < 0 or set(self.names[last + 1 : index]) - {COMMA}:
            return []
        return self.before(index)

    def doubted(self, index: int) -> list[Named]:
        """What a word of doubt is about; nothing if it is another word."""
        name = self.names[index]
        if name == "may":
            return self.after(index)
        if name == "after":
            return self.before(index)
        if name not in ("perhaps", "suspected") or self._is_about_age(index):
            return []
        return self.before(index) if self._stands_behind(index) else self.after(index)

    def _is_far(self, start: int, end: int) -> bool:
        between = self.names[start + 1 : end]
        return between.count(UNKNOWN) > _UNKNOWN_WORDS or "but" in between

    def _link(self, at: int, is_denial: bool) -> bool | None:
        """Of a finding and the next: True joined, False perhaps (a comma: if a later one is joined), None apart."""
        one, other = self.named[at], self.named[at + 1]
        between = self.names[one.last + 1 : other.first]
        if is_denial and one.codes and between == ["may"]:
            return True  # "no Q waves to suggest infarction"
        if set(between) - _BETWEEN:
            return None
        if other.at == one.at or (is_denial and self.words[other.at] == self.words[one.at]):
            return True
        if is_denial and not between and self._is_one_thing(one, other):
            return True
        if "or" in between:
            return True
        alike = one.is_interpreted and other.is_interpreted
        if "and" in between:
            return True if is_denial or alike else None
        if COMMA in between:
            return False
        is_again = any(set(other.codes) & set(earlier.codes) for earlier in self.named[: at + 1])
        return True if alike and not is_denial and is_again else None

    def _is_one_thing(self, one: Named, other: Named) -> bool:
        """Of two side by side: "pathological ST change", "infarct scar", "ischaemic ST change"."""
        if one.codes == ("ISC",):
            return other.subject is not None
        return bool(one.codes) and (one.codes == other.codes or one.subject == other.subject is not None)

    def _is_joined(self, at: int, is_denial: bool) -> bool:
        """By a word, not only by being alike; or of one abbreviation."""
        one, other = self.named[at], self.named[at + 1]
        if self.words[one.at] == self.words[other.at]:
            return True
        between = self.names[one.last + 1 : other.first]
        if is_denial and {COMMA, "and"} <= set(between):
            return False  # "sinus rhythm, and AF is absent"
        return bool({"or", "and"} & set(between)) and bool(self._link(at, is_denial))

    def _is_about_age(self, index: int) -> bool:
        """ "infarct, probably old": the doubt is about the age."""
        if not set(self.names[index + 1 : index + 2]) & AGES:
            return False
        return any(one.at < index <= one.last for one in self.named)

    def _stands_behind(self, index: int) -> bool:
        """Whether "possible" is said of what is before it: of a conclusion right before, or where nothing follows."""
        last = max((one for one in self.named if one.at < index), key=lambda one: one.at, default=None)
        if last is None:
            return False
        between = self.names[last.last + 1 : index]
        if not any(one.at > index for one in self.named):
            return UNKNOWN not in between
        if self.names[index] == "suspected" or not last.is_interpreted:
            return False
        return not set(between) - _BEHIND


def pass_sites(sentence: Sequence[Term], named: Sequence[Named]) -> None:
    """To an explanation without sites, those of the change that it explains in the same sentence."""
    names = [term.name for term in sentence]
    change: Named | None = None
    for one in named:
        if one.subject is not None:
            change = one if one.sites or change is None else change
        elif one.has_sites:
            if not one.sites and change is not None and set(names[change.at : one.at]) & {"may", "perhaps", "due"}:
                one.sites = set(change.sites)
        elif one.codes and not one.is_interpreted:
            change = None
