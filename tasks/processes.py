"""The processes that `accelerate launch` started, or the one that there is without it."""

from collections.abc import Sequence
from datetime import timedelta
from typing import TypeVar

import torch
from accelerate import PartialState

Item = TypeVar("Item")
# The main process scores, and asks a judge, while the others wait for it; by default they give up within minutes.
_LONGEST_WAIT = timedelta(days=7)


class Processes:
    """Which of how many processes this is, and how they share work."""

    def __init__(self) -> None:
        # Without an accelerator, processes find each other only where they are told that they are on CPUs.
        self._state = PartialState(cpu=not torch.accelerator.is_available(), timeout=_LONGEST_WAIT)
        self.number, self.count = self._state.process_index, self._state.num_processes
        self.is_main = self._state.is_main_process
        # Each process has an accelerator of its own; alone, the choice is the caller's.
        self.device = str(self._state.device) if self.count > 1 else None

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """This process' part of the same list."""
        return items[self.number :: self.count]

    def wait(self) -> None:
        """Go on when every process is here."""
        self._state.wait_for_everyone()

    def part(self) -> None:
        """Leave together: a process that ends while another still listens may take it down."""
        self.wait()
        self._state.destroy_process_group()
