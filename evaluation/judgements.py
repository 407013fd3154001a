"""Many reports judged, on disk as they come, so that an interrupted run goes on where it stopped."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from .judge import (
    JUDGE_PROMPT_VERSION,
    Judge,
    JudgeError,
    Judgement,
    JudgeUnavailableError,
    judge_messages,
    parse_judgement,
)
from .rating_criteria import CRITERIA
from .ratings import RatedItem, Ratings

# So many reports in a row without any answer: the endpoint is gone, and not a report at fault.
_GIVE_UP_AFTER = 5


@dataclass(frozen=True)
class JudgeItem:
    """One report to judge; `findings_text` as `judge_messages` takes it."""

    record: str
    system: str
    patient_id: str
    draft: str
    reference: str
    findings_text: str | None = None

    @property
    def rated(self) -> RatedItem:
        """Which report it is."""
        return RatedItem(self.record, self.system, self.patient_id)


@dataclass(frozen=True)
class Judgements:
    """What a judge said: a judgement of each item, or why there is none; `settings` say what that depends on."""

    settings: Mapping[str, Any]
    judged: Mapping[RatedItem, Judgement]
    failed: Mapping[RatedItem, str]

    def as_ratings(self, rater: str = "judge") -> Ratings:
        """The same as ratings of one rater, so that `rating_summary` sums them up; what failed counts as missing."""
        items = tuple(sorted((*self.judged, *self.failed), key=lambda item: (item.record, item.system)))
        scores = {
            criterion: np.array(
                [[self.judged[item].scores[criterion] if item in self.judged else np.nan] for item in items]
            )
            for criterion in CRITERIA
        }
        return Ratings((rater,), items, scores, {rater: len(CRITERIA) * len(self.failed)})


def judge_reports(judge: Judge, items: Sequence[JudgeItem], path: str | Path) -> Judgements:
    """Have each item judged, and write each answer at once.

    The file's first line holds the settings (version of the prompt, model, ...), each further one an item: record,
    system, a hash of what was asked, the reply as it came, and scores and reasons or the error. A later call asks for
    what is not there: an item whose texts have changed, and one without any answer, of which no line is written. A
    reply that cannot be read stands and counts as failed: the same question would get the same answer.

    Args:
        judge: such as `EndpointJudge`.
        items: at most one per record and system.
        path: the JSON-lines file; begun where it does not exist.

    Raises:
        ValueError: two items of one record and system, or a file of other settings, or none of judgements.
        JudgeUnavailableError: the judge will answer no item, or did not answer five in a row. What was answered stays.
    """
    seen = set()
    for item in items:
        if (item.record, item.system) in seen:
            raise ValueError(f"record {item.record}, system {item.system}: there are two drafts to judge")
        seen.add((item.record, item.system))
    path = Path(path)
    settings = json.loads(json.dumps({"prompt_version": JUDGE_PROMPT_VERSION, **judge.settings}))
    entries = _open(path, settings)
    judged: dict[RatedItem, Judgement] = {}
    failed: dict[RatedItem, str] = {}
    unanswered = 0
    with path.open("a", encoding="utf-8") as file, tqdm(items, desc="judged", unit=" reports") as bar:
        for item in bar:
            messages = judge_messages(item.draft, item.reference, item.findings_text)
            asked = hashlib.sha256(json.dumps(messages).encode()).hexdigest()[:16]
            entry = entries.get((item.record, item.system, asked))
            if entry is None:
                try:
                    reply = judge.reply(messages)
                except JudgeError as error:
                    failed[item.rated] = str(error)
                    unanswered += 1
                    if unanswered == _GIVE_UP_AFTER:
                        raise JudgeUnavailableError(f"no answer for {unanswered} reports in a row: {error}") from error
                    bar.set_postfix(failed=len(failed))
                    continue
                unanswered = 0
                entry = {"record": item.record, "system": item.system, "asked": asked, "reply": reply}
                entry |= _outcome(reply)
                # In ASCII: half a surrogate pair, where a reply was cut within a character, is no UTF-8.
                file.write(json.dumps(entry) + "\n")
                file.flush()
            if "error" in entry:
                failed[item.rated] = entry["error"]
                bar.set_postfix(failed=len(failed))
            else:
                judged[item.rated] = Judgement(entry["scores"], entry["reasons"])
    return Judgements(settings, judged, failed)


def _outcome(reply: str) -> dict[str, Any]:
    try:
        return asdict(parse_judgement(reply))
    except JudgeError as error:
        return {"error": str(error)}


def _open(path: Path, settings: dict[str, Any]) -> dict[tuple[str, str, str], dict[str, Any]]:
    """The entries that the file holds; without the last line where that was cut short."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"settings": settings}) + "\n", encoding="utf-8")
        return {}
    *lines, last = path.read_text(encoding="utf-8").split("\n")
    try:
        found, *entries = map(json.loads, lines)
        found = found["settings"]
        known = {(entry["record"], entry["system"], entry["asked"]): entry for entry in entries}
        complete = all("error" in entry or set(entry["scores"]) == set(CRITERIA) for entry in entries)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a file of judgements ({error!r}); remove it or choose another") from error
    if not complete:
        raise ValueError(f"{path}: its judgements have other criteria than {', '.join(CRITERIA)}; choose another file")
    if found != settings:
        differing = sorted(name for name in {*found, *settings} if found.get(name) != settings.get(name))
        raise ValueError(
            f"{path} holds {len(known)} judgements made with other settings ({', '.join(differing)}): remove it or "
            "choose another"
        )
    if last:
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return known
