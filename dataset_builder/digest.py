"""What tells one file from another."""

import hashlib
import os


def sha256_of(path: str | os.PathLike) -> str:
    """SHA-256 of a file's content, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
