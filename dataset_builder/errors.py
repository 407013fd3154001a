"""The ways in which building goes wrong: for a whole build, and for one record."""

_MAX_DETAIL = 500  # characters


class DatasetBuildError(ValueError):
    """The build cannot go on: a table, a folder or an option is not what it must be."""


class NoUsableRecord(DatasetBuildError):
    """The build went through, and not one record is left to be written."""


class RecordError(ValueError):
    """One record cannot be used; `reason` groups such records, the message says what was found.

    It becomes part of a build report, so a message that quotes half a table is cut.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(detail if len(detail) <= _MAX_DETAIL else f"{detail[:_MAX_DETAIL]}...")
        self.reason = reason
