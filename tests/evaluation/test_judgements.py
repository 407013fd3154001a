"""Many reports judged: written as they come, found again, counted where they fail."""

import json

import numpy as np
import pytest

from evaluation.endpoint_judge import EndpointJudge
from evaluation.judge import JudgeError, JudgeUnavailableError
from evaluation.judgements import JudgeItem, judge_reports
from evaluation.rating_criteria import CRITERIA
from evaluation.ratings import RatedItem, rating_summary
from tests.evaluation.judge_server import Answer, serve_judge


def item(number, draft="Sinus rhythm."):
    return JudgeItem(f"r{number}", "a", f"p{number}", draft, "AF.")


def reply_of(score):
    return json.dumps({name: {"score": score, "reason": "As it is."} for name in CRITERIA})


class ScriptedJudge:
    """Answers with what it was given, in order; raises what is an error."""

    def __init__(self, *replies, model="m"):
        self.replies, self.asked, self.settings = list(replies), [], {"model": model}

    def reply(self, messages):
        self.asked.append(messages[0]["content"])
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply


def lines(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_each_answer_is_written_with_what_it_depends_on(tmp_path):
    path = tmp_path / "run" / "judge.jsonl"
    found = judge_reports(ScriptedJudge(reply_of(4), "No idea. für"), [item(1), item(2)], path)
    assert found.settings == {"prompt_version": "1", "model": "m"}
    assert found.judged[RatedItem("r1", "a", "p1")].scores == dict.fromkeys(CRITERIA, 4)
    assert list(found.failed) == [RatedItem("r2", "a", "p2")]
    settings, first, second = lines(path)
    assert settings == {"settings": found.settings}
    assert (first["record"], first["system"], first["scores"]["logic"]) == ("r1", "a", 4)
    assert first["reply"] == reply_of(4)
    assert second["reply"] == "No idea. für"
    assert "no whole JSON object" in second["error"]


def test_a_reply_that_was_cut_within_a_character_is_kept(tmp_path):
    path = tmp_path / "judge.jsonl"
    first = judge_reports(ScriptedJudge(reply_of(4) + "\ud83d"), [item(1)], path)
    again = judge_reports(ScriptedJudge(), [item(1)], path)
    assert first.judged == again.judged
    assert lines(path)[1]["reply"] == reply_of(4) + "\ud83d"


def test_an_interrupted_run_asks_for_what_is_not_there(tmp_path):
    path = tmp_path / "judge.jsonl"
    with pytest.raises(JudgeUnavailableError):
        judge_reports(
            ScriptedJudge(reply_of(2), "garbage", JudgeError("busy"), reply_of(3), JudgeUnavailableError("no key")),
            [item(number) for number in range(5)],
            path,
        )
    path.write_text(path.read_text() + '{"record": "r4", "sys')  # as a kill would leave it
    again = ScriptedJudge(reply_of(5), reply_of(1))
    found = judge_reports(again, [item(number) for number in range(5)], path)
    assert len(again.asked) == 2
    assert {rated.record: judged.scores["logic"] for rated, judged in found.judged.items()} == {
        "r0": 2,
        "r2": 5,
        "r3": 3,
        "r4": 1,
    }
    assert [rated.record for rated in found.failed] == ["r1"]
    assert judge_reports(ScriptedJudge(), [item(number) for number in range(5)], path) == found


def test_a_draft_that_has_changed_is_judged_again(tmp_path):
    path = tmp_path / "judge.jsonl"
    judge_reports(ScriptedJudge(reply_of(2)), [item(1)], path)
    found = judge_reports(ScriptedJudge(reply_of(5)), [item(1, "AF.")], path)
    assert found.judged[RatedItem("r1", "a", "p1")].scores["logic"] == 5


def test_a_judge_that_no_longer_answers_stops_the_run(tmp_path):
    silent = ScriptedJudge(*[JudgeError("no answer (ConnectionError)")] * 9)
    with pytest.raises(JudgeUnavailableError, match=r"no answer for 5 reports in a row: no answer \(ConnectionError\)"):
        judge_reports(silent, [item(number) for number in range(9)], tmp_path / "judge.jsonl")
    assert len(silent.asked) == 5


def test_replies_that_cannot_be_read_stop_nothing(tmp_path):
    found = judge_reports(ScriptedJudge(*["?"] * 9), [item(number) for number in range(9)], tmp_path / "judge.jsonl")
    assert len(found.failed) == 9


def test_an_endpoint_that_fails_once_costs_one_report(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    answers = [Answer(reply_of(3)), Answer(status=500), Answer(status=500), Answer(status=429), Answer(reply_of(4))]
    with serve_judge(lambda number: answers[number]) as endpoint:
        judge = EndpointJudge(endpoint.base_url, "m", retries=1, first_delay=0.01)
        found = judge_reports(judge, [item(1), item(2), item(3)], tmp_path / "judge.jsonl")
    assert {rated.record: judged.scores["logic"] for rated, judged in found.judged.items()} == {"r1": 3, "r3": 4}
    assert "status 500" in found.failed[RatedItem("r2", "a", "p2")]
    assert len(lines(tmp_path / "judge.jsonl")) == 3


def test_judgements_sum_up_like_ratings(tmp_path):
    judge = ScriptedJudge(reply_of(5), "?", reply_of(2))
    ratings = judge_reports(judge, [item(3), item(2), item(1)], tmp_path / "judge.jsonl").as_ratings()
    assert [rated.record for rated in ratings.items] == ["r1", "r2", "r3"]
    np.testing.assert_array_equal(ratings.scores["logic"], [[2], [np.nan], [5]])
    assert ratings.missing == {"judge": 4}
    score = rating_summary(ratings, resamples=50).scores["a"]["logic"]
    assert (score.mean.estimate, score.reports) == (3.5, 2)


def test_other_settings_are_refused(tmp_path):
    judge_reports(ScriptedJudge(reply_of(2)), [item(1)], tmp_path / "judge.jsonl")
    with pytest.raises(ValueError, match=r"holds 1 judgements made with other settings \(model\)"):
        judge_reports(ScriptedJudge(model="n"), [item(1)], tmp_path / "judge.jsonl")


def test_two_drafts_of_one_system_are_refused(tmp_path):
    with pytest.raises(ValueError, match="record r1, system a"):
        judge_reports(ScriptedJudge(), [item(1), item(1, "x")], tmp_path / "judge.jsonl")


@pytest.mark.parametrize(
    "text", ["", "x\ny", "x\n", "{}\n", '{"settings": {}}\n[]\n', '{"settings": {}}\n{"record": "1"}\n']
)
def test_another_file_is_refused(tmp_path, text):
    path = tmp_path / "judge.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match="not a file of judgements"):
        judge_reports(ScriptedJudge(), [item(1)], path)
    assert path.read_text() == text
