"""Cells of a corpus' tables: what the same text means in each of them."""

import re
from datetime import datetime
from functools import lru_cache

_WHOLE_NUMBER = re.compile(r"\s*0*(\d{1,18})(?:\.0*)?\s*", re.ASCII)
_DECIMAL = re.compile(r"\s*-?\d{1,9}(?:\.\d{1,9})?\s*", re.ASCII)


def whole_number(text: str) -> str | None:
    """ "15709.0", as a table writer spells an integer column with gaps, is "15709"; None if it is no such number."""
    match = _WHOLE_NUMBER.fullmatch(text)
    return match[1] if match else None


@lru_cache(maxsize=8192)  # the same few thousand numbers fill all tables
def decimal(text: str) -> float | None:
    """A plain decimal number; None for anything else, an empty cell among them."""
    return float(text) if _DECIMAL.fullmatch(text) else None


def time_of(text: str) -> datetime | None:
    """ "2154-04-01 14:53:00" as a time without a zone; None if it is none."""
    try:
        return datetime.fromisoformat(text.strip()).replace(tzinfo=None)
    except ValueError:
        return None
