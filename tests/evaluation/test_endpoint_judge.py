"""The endpoint's judge against a server on the loopback that is busy, broken, or does not let it in."""

import email.utils
import logging
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from evaluation import endpoint_judge
from evaluation.endpoint_judge import EndpointJudge
from evaluation.judge import JudgeError, JudgeUnavailableError
from tests.evaluation.judge_server import Answer, serve_judge

KEY = "sk-secret-4711"
MESSAGES = [{"role": "user", "content": "Rate: für"}]


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("JUDGE_KEY", KEY)


@pytest.fixture
def waits(monkeypatch):
    """The seconds that were waited, which are not."""
    found = []
    monkeypatch.setattr(endpoint_judge.time, "sleep", found.append)
    return found


def judge(endpoint, **options):
    return EndpointJudge(endpoint.base_url, "some-model", **{"api_key_env": "JUDGE_KEY", "timeout": 5.0, **options})


def ask(answers, **options):
    """The reply, and what was asked."""
    with serve_judge(lambda number: answers[number]) as endpoint:
        return judge(endpoint, **options).reply(MESSAGES), endpoint.requests


def test_a_request_is_a_chat_completion_of_temperature_0_with_seed_and_key():
    reply, requests = ask([Answer("four")], seed=7, max_tokens=99)
    assert reply == "four"
    ((path, headers, body),) = requests
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert body == {"model": "some-model", "messages": MESSAGES, "temperature": 0, "seed": 7, "max_tokens": 99}


def test_without_a_key_none_is_sent_not_even_that_of_a_netrc_file(monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password other-secret\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    _, requests = ask([Answer("x")])
    assert requests[0][1]["Authorization"] == f"Bearer {KEY}"
    monkeypatch.delenv("JUDGE_KEY")
    _, requests = ask([Answer("x")])
    assert "Authorization" not in requests[0][1]


def test_the_key_stands_in_no_setting_attribute_error_or_log(caplog):
    caplog.set_level(logging.DEBUG)
    with serve_judge(lambda _: Answer(status=401, body=f"Incorrect API key provided: {KEY}")) as endpoint:
        asked = judge(endpoint)
        with pytest.raises(JudgeUnavailableError) as caught:
            asked.reply(MESSAGES)
    assert "the API key is not accepted (key from JUDGE_KEY): status 401" in str(caught.value)
    assert KEY not in str(caught.value) + str(vars(asked)) + str(asked.settings) + caplog.text
    assert asked.settings == {
        "model": "some-model",
        "base_url": endpoint.base_url,
        "temperature": 0,
        "seed": 0,
        "max_tokens": 512,
    }


def test_a_busy_server_is_asked_again_when_it_says(waits):
    later = email.utils.format_datetime(datetime.now(UTC) + timedelta(seconds=30))
    answers = [
        Answer(status=429, headers={"Retry-After": "7"}),
        Answer(status=503, headers={"Retry-After": later}),
        Answer(status=429, headers={"Retry-After": "86400"}),
        Answer(status=429, headers={"Retry-After": "soon"}),
        Answer("done"),
    ]
    reply, requests = ask(answers)
    assert reply == "done"
    assert len(requests) == 5
    assert waits == [7, pytest.approx(30, abs=5), 60, 8]


def test_a_server_that_stays_broken_is_given_up_after_its_retries(waits):
    with pytest.raises(JudgeError, match=r"status 500: 'oh no', 3 times"):
        ask([Answer(status=500, body="oh  no")] * 3, retries=2, first_delay=0.5)
    assert waits == [0.5, 1.0]


def test_a_server_that_does_not_answer_in_time_is_asked_again(waits):
    never = threading.Event()
    started = time.monotonic()
    reply, requests = ask([Answer(delay=never), Answer("late")], timeout=0.3)
    never.set()
    assert reply == "late"
    assert len(requests) == 2
    assert 0.3 < time.monotonic() - started < 5


def test_a_server_that_is_not_there_is_an_error(waits):
    with serve_judge(lambda _: Answer("x")) as endpoint:
        pass
    with pytest.raises(JudgeError, match=r"no answer \(ConnectionError\), 2 times"):
        judge(endpoint, retries=1).reply(MESSAGES)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_of_all_requests_is_not_repeated(waits, status):
    with pytest.raises(JudgeUnavailableError, match=f"model some-model: .* status {status}: 'no'"):
        ask([Answer(status=status, body="no")])
    assert waits == []


@pytest.mark.parametrize("status", [302, 400, 422])
def test_a_refusal_of_one_request_is_not_repeated(waits, status):
    with pytest.raises(JudgeError, match=f"status {status}: 'too long'"):
        ask([Answer(status=status, body="too long", headers={"Location": "/elsewhere"})])
    assert waits == []


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("<html>hello</html>", "no chat completion: '<html>hello"),
        ("[]", "no chat completion"),
        ('{"choices": []}', "no chat completion"),
        ('{"choices": [{"message": null}]}', "no chat completion"),
        ('{"choices": [{"message": {"content": null}}]}', "holds no text"),
        ('{"choices": [{"message": {"content": ["x"]}}]}', "holds no text"),
    ],
)
def test_an_answer_that_is_no_chat_completion_is_an_error(body, message):
    with pytest.raises(JudgeError, match=message):
        ask([Answer(body=body)])


def test_a_key_that_cannot_be_sent_is_refused_unseen(monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "sk-se\ncret")
    with pytest.raises(JudgeUnavailableError, match="the key in JUDGE_KEY has characters") as caught:
        ask([Answer("x")])
    assert "cret" not in str(caught.value).replace("secret", "")


@pytest.mark.parametrize(
    "base_url", ["http://user:hidden@127.0.0.1/v1", "http://127.0.0.1/v1?key=hidden", "http://127.0.0.1/v1#hidden"]
)
def test_a_base_url_with_a_key_is_refused_unseen(base_url):
    with pytest.raises(ValueError, match="a key belongs in the variable OPENAI_API_KEY") as caught:
        EndpointJudge(base_url, "m")
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("base_url", ["127.0.0.1:8000/v1", "ftp://127.0.0.1", "http:///v1", ""])
def test_a_base_url_that_is_none_is_refused(base_url):
    with pytest.raises(ValueError, match="expected one such as"):
        EndpointJudge(base_url, "m")


def test_bad_counts_are_refused():
    for options in ({"timeout": 0}, {"retries": -1}, {"max_tokens": 0}):
        with pytest.raises(ValueError, match="expected above 0, at least 0"):
            EndpointJudge("http://127.0.0.1/v1", "m", **options)
