"""A language model that rates drafted reports against their references: what it is asked, and what it answers.

The prompt is versioned: a change of its text takes a new file and a new version, as scores of two prompts do not
compare. So does a change of the criteria, which are part of it.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any, Protocol

from .rating_criteria import CRITERIA, HIGHEST, LOWEST

JUDGE_PROMPT_VERSION = "1"
_SHOWN = 120  # characters of a reply in an error
_MAX_REPLY = 20_000  # characters; a judgement has some 500, and the search for it takes the square of the time
_THOUGHTS = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)
# Marks of turns in the chat formats of common model families: within a report they would end the user's turn.
_TURN_MARKS = re.compile(
    r"<[|\uff5c][^<>]*>|<[^<>]*[|\uff5c]>|</?s>|\[/?(?:INST|SYSTEM_PROMPT)\]|<</?SYS>>|<(?:start|end)_of_turn>"
)


class JudgeError(ValueError):
    """There is no judgement of this one report."""


class JudgeUnavailableError(RuntimeError):
    """The judge answers none: a wrong key, an unknown model, a server that is down."""


class Judge(Protocol):
    """Anything that answers a conversation.

    `settings` say what the answers depend on (model, endpoint, seed, ...) and are written beside them; `reply` raises
    `JudgeError` where this conversation has no answer and `JudgeUnavailableError` where none will have one.
    """

    @property
    def settings(self) -> Mapping[str, Any]: ...

    def reply(self, messages: list[dict[str, str]]) -> str: ...


@dataclass(frozen=True)
class Judgement:
    """Scores from 1 to 5 and one sentence for each, by criterion."""

    scores: Mapping[str, int]
    reasons: Mapping[str, str]


def judge_messages(draft: str, reference: str, findings_text: str | None = None) -> list[dict[str, str]]:
    """The conversation that asks for a judgement; one user message, as not every chat template has a system role.

    Draft and reference are untrusted: a draft may hold instructions, even if by accident. They stand between marks that
    no text can know beforehand (they hold a hash of the texts), without marks of turns, and the prompt says before them
    that they are material and asks its question behind them. No prompt makes a language model safe against a text
    that is written to sway it: a low-stakes score is all that its answer is good for.

    Args:
        draft: the report to rate; may be empty.
        reference: the corpus' own report.
        findings_text: what was found in both texts, one finding a line, as a help; left out by default.
    """
    texts = [_TURN_MARKS.sub(" ", text).strip() for text in (draft, reference, findings_text or "")]
    mark = hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:12]
    draft, reference, findings = texts
    if findings:
        findings = f"\n<<<{mark} FINDINGS (by rules, from both texts; they may be wrong)\n{findings}\n<<<{mark} END\n"
    path = Path(__file__).with_name(f"judge_prompt_v{JUDGE_PROMPT_VERSION}.txt")
    prompt = Template(path.read_text(encoding="utf-8")).substitute(
        criteria=_criteria_text(),
        mark=mark,
        draft=draft or "(the draft is empty)",
        reference=reference,
        findings=findings,
    )
    return [{"role": "user", "content": prompt.strip()}]


def parse_judgement(reply: str) -> Judgement:
    """The judgement in a model's reply.

    Around its one JSON object may stand a code fence, other words, and before it a `<think>` block. Nothing else is
    mended: each criterion needs a score that is a whole number from 1 to 5 and a reason that is a text.

    Raises:
        JudgeError: anything else; the message shows how the reply begins.
    """
    answer = _THOUGHTS.sub("", reply)
    if len(answer) > _MAX_REPLY:
        raise JudgeError(f"{len(answer)} characters, expected at most {_MAX_REPLY}: {_start(reply)}")
    objects = _json_objects(answer)
    if len(objects) != 1:
        found = f"{len(objects)} JSON objects" if objects else "no whole JSON object"
        raise JudgeError(f"{found}, expected one: {_start(reply)}")
    scores, reasons = {}, {}
    for criterion in CRITERIA:
        entry = objects[0].get(criterion)
        if not isinstance(entry, dict):
            raise JudgeError(f"no {criterion} with score and reason: {_start(reply)}")
        score, reason = entry.get("score"), entry.get("reason")
        if type(score) is not int or not LOWEST <= score <= HIGHEST:
            raise JudgeError(
                f"score of {criterion} is {score!r}, expected a whole number from {LOWEST} to {HIGHEST}: "
                f"{_start(reply)}"
            )
        if not isinstance(reason, str) or not reason.strip():
            raise JudgeError(f"reason of {criterion} is {reason!r}, expected a sentence: {_start(reply)}")
        scores[criterion], reasons[criterion] = score, reason.strip()
    return Judgement(scores, reasons)


def _criteria_text() -> str:
    parts = []
    for name, criterion in CRITERIA.items():
        anchors = [f"  {score} = {anchor}" for score, anchor in enumerate(criterion.anchors, start=LOWEST)]
        parts.append("\n".join([f"{name}: {criterion.question}", *anchors]))
    return "\n\n".join(parts)


def _json_objects(text: str) -> list[dict[str, Any]]:
    """The outermost JSON objects in a text, one behind the other."""
    decoder = json.JSONDecoder(object_pairs_hook=_without_repeats)
    objects = []
    position = text.find("{")
    while position >= 0:
        try:
            found, end = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):  # ValueError: no JSON, or a number of thousands of digits
            end = position + 1
        else:
            objects.append(found)
        position = text.find("{", end)
    return objects


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of a name that comes twice, which one was meant cannot be told: none is kept."""
    names = [name for name, _ in pairs]
    return {name: value for name, value in pairs if names.count(name) == 1}


def _start(reply: str) -> str:
    text = " ".join(reply.split())
    return f"the reply begins {text[:_SHOWN]!r}" if text else "the reply is empty"
