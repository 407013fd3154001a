"""The prompts that ask for a report: 256 of our own writing, one drawn per record by a stable hash.

The instruction is not stored in the dataset. It is drawn when a sample is put together, and the same record
draws the same prompt on every machine and in every epoch.
"""

import hashlib
from importlib import resources

# A published version never changes: another wording is another file and another version.
INSTRUCTIONS_VERSION = "1"


def _read_instructions() -> tuple[str, ...]:
    text = resources.files(__package__).joinpath(f"instructions_v{INSTRUCTIONS_VERSION}.txt").read_text("utf-8")
    return tuple(text.splitlines())


INSTRUCTIONS: tuple[str, ...] = _read_instructions()

# What is asked for a file that belongs to no corpus, when the user gives no prompt.
DEFAULT_INSTRUCTION: str = INSTRUCTIONS[0]


def instruction_for(record_id: str) -> str:
    """The prompt for one record: SHA-256 of its id, modulo the number of prompts.

    Python's own `hash` is salted per process, so it would draw another prompt in every run.
    """
    digest = hashlib.sha256(record_id.encode("utf-8")).digest()
    return INSTRUCTIONS[int.from_bytes(digest[:8], "big") % len(INSTRUCTIONS)]
