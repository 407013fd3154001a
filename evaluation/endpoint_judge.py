"""A judge behind any endpoint that speaks OpenAI's chat completions."""

import os
import time
import urllib.parse
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import requests

from .judge import JudgeError, JudgeUnavailableError

_TEMPORARY_STATUS = (408, 425, 429, 500, 502, 503, 504, 529)
_TEMPORARY_ERRORS = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
# What these say of one request holds for all.
_FINAL_STATUS = {
    401: "the API key is not accepted",
    402: "the account has no credit",
    403: "the API key may not use this model",
    404: "no such model, or no chat completions at this address",
}
_MAX_DELAY = 60.0  # s
_SHOWN = 200  # characters of an answer in an error


class EndpointJudge:
    """Asks `BASE_URL/chat/completions`, with temperature 0 and a seed.

    The API key is read from the environment at each request, sent as a bearer token, and kept nowhere; where the
    variable is not set, as for a server of one's own, none is sent. Equal requests may still be answered differently:
    few servers promise more than to try.

    Args:
        base_url: up to the version, such as "http://127.0.0.1:8000/v1".
        model: the name that the endpoint knows it by.
        api_key_env: the environment variable that holds the key.
        timeout: seconds to connect, and without a byte of the answer.
        retries: further attempts where the server is busy or the network fails. They wait for as long as the server
            asks (`Retry-After`), or else twice as long each time; never longer than a minute.
        max_tokens: of an answer.
        seed: sent along.
        first_delay: seconds before the first further attempt.

    Raises:
        ValueError: a base URL that is no http address or holds credentials, or a count that is too small.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key_env: str = "OPENAI_API_KEY",
        timeout: float = 120.0,
        retries: int = 4,
        max_tokens: int = 512,
        seed: int = 0,
        first_delay: float = 1.0,
    ) -> None:
        parts = urllib.parse.urlsplit(base_url)
        if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
            # Not shown: it may hold a key.
            raise ValueError(f"the base URL holds more than an address; a key belongs in the variable {api_key_env}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"base URL {base_url!r}: expected one such as 'http://127.0.0.1:8000/v1'")
        if timeout <= 0 or retries < 0 or max_tokens < 1:
            raise ValueError(
                f"timeout {timeout}, retries {retries}, max_tokens {max_tokens}: expected above 0, at least 0 and at "
                "least 1"
            )
        self.base_url = base_url.rstrip("/")
        self.model = model
        self.api_key_env = api_key_env
        self.timeout = timeout
        self.retries = retries
        self.max_tokens = max_tokens
        self.seed = seed
        self.first_delay = first_delay

    @property
    def settings(self) -> dict[str, Any]:
        """What the answers depend on."""
        return {
            "model": self.model,
            "base_url": self.base_url,
            "temperature": 0,
            "seed": self.seed,
            "max_tokens": self.max_tokens,
        }

    def reply(self, messages: list[dict[str, str]]) -> str:
        """The model's answer.

        Raises:
            JudgeError: no usable answer to this conversation, after all attempts.
            JudgeUnavailableError: the endpoint refuses each request alike, or the key cannot be sent.
        """
        body = {
            "model": self.model,
            "messages": messages,
            "temperature": 0,
            "seed": self.seed,
            "max_tokens": self.max_tokens,
        }
        key = self._key()
        delay = self.first_delay
        for attempts_left in reversed(range(self.retries + 1)):
            wait = delay
            try:
                response = requests.post(
                    f"{self.base_url}/chat/completions",
                    json=body,
                    auth=_Bearer(key),
                    timeout=self.timeout,
                    allow_redirects=False,
                )
            except _TEMPORARY_ERRORS as error:
                problem = f"no answer ({type(error).__name__})"
            except requests.RequestException as error:
                raise JudgeError(f"{self.base_url}: {_without(key, str(error))}") from None
            else:
                if response.status_code == 200:
                    return _content(response, key)
                problem = _refusal(response, key)
                if response.status_code in _FINAL_STATUS:
                    reason = _FINAL_STATUS[response.status_code]
                    raise JudgeUnavailableError(
                        f"{self.base_url}, model {self.model}: {reason} (key from {self.api_key_env}): {problem}"
                    )
                if response.status_code not in _TEMPORARY_STATUS:
                    raise JudgeError(f"{self.base_url}: {problem}")
                wait = _retry_after(response, delay)
            if attempts_left:
                time.sleep(min(wait, _MAX_DELAY))
                delay *= 2
        raise JudgeError(f"{self.base_url}: {problem}, {self.retries + 1} times")

    def _key(self) -> str | None:
        key = os.environ.get(self.api_key_env, "").strip()
        if not (key.isascii() and key.isprintable()):
            raise JudgeUnavailableError(f"the key in {self.api_key_env} has characters that cannot be sent")
        return key or None


class _Bearer(requests.auth.AuthBase):
    """Given as `auth`, as a header of one's own loses against an entry in a `.netrc` file."""

    def __init__(self, key: str | None) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._key is not None:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request


def _content(response: requests.Response, key: str | None) -> str:
    try:
        content = response.json()["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError):
        raise JudgeError(f"the endpoint's answer is no chat completion: {_shown(response, key)}") from None
    if not isinstance(content, str):
        raise JudgeError(f"the endpoint's answer holds no text: {_shown(response, key)}")
    return content


def _refusal(response: requests.Response, key: str | None) -> str:
    return f"status {response.status_code}: {_shown(response, key)}"


def _shown(response: requests.Response, key: str | None) -> str:
    """The start of an answer; some servers repeat the key in it."""
    return repr(_without(key, " ".join(response.text.split()))[:_SHOWN])


def _without(key: str | None, text: str) -> str:
    return text.replace(key, "[API key]") if key else text


def _retry_after(response: requests.Response, otherwise: float) -> float:
    """Seconds, from the header's number or date (RFC 9110, 10.2.3)."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return otherwise
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())
