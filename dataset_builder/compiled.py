"""Loops that numba compiles, where numpy would walk through the samples several times."""

from collections.abc import Callable

import numba


def compiled(function: Callable) -> Callable:
    """Compile a function when it is first called, and keep the result for other processes where there is a place."""
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # neither beside the code nor in the user's cache folder may be written: a container
        return numba.njit(nogil=True)(function)
