"""Memory that is free inside this process, given back to the system."""

import ctypes
import gc
import sys


def give_back() -> None:
    """After something large was let go: the C library keeps what is free unless it is told."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:  # musl has none
            trim(0)
