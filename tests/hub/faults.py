"""What a test lets go wrong on the Hub."""

import re
import threading
from dataclasses import dataclass, field
from typing import Literal


@dataclass
class Fault:
    """Something that happens to requests, each seen as "METHOD /path", that a pattern is found in.

    Attributes:
        pattern: regular expression.
        kind: "fail" answers with `status`; "cut" ends the connection half-way through the request's body or, where it
            has none, through the answer's; "hold" answers nothing until the fault is released.
        status: of "fail".
        times: how many more requests it happens to; None is every one.
        reached: set when it has happened.
        released: of "hold".
    """

    pattern: str
    kind: Literal["fail", "cut", "hold"]
    status: int = 500
    times: int | None = None
    reached: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    def happens_to(self, request: str) -> bool:
        """Whether it happens to this request; counts it."""
        if self.times == 0 or not re.search(self.pattern, request):
            return False
        if self.times is not None:
            self.times -= 1
        self.reached.set()
        return True
