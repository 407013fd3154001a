"""The two ways in which building goes wrong: for a whole build, and for one record."""


class DatasetBuildError(ValueError):
    """The build cannot go on: a table, a folder or an option is not what it must be."""


class RecordError(ValueError):
    """One record cannot be used; `reason` groups such records, the message says what was found."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(detail)
        self.reason = reason
