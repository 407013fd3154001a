"""This process as a visitor of the test Hub."""

import pytest
from huggingface_hub import constants

from .hub import WRITE_TOKEN, Hub


def visit(hub: Hub, monkeypatch: pytest.MonkeyPatch, token: str | None = WRITE_TOKEN) -> None:
    """Let huggingface_hub, which has read its settings already and is offline in tests, reach this Hub and no other."""
    settings = {
        "ENDPOINT": hub.endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, hub.endpoint),
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
    }
    for name, value in settings.items():
        monkeypatch.setattr(constants, name, value)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    if token is not None:
        monkeypatch.setenv("HF_TOKEN", token)
