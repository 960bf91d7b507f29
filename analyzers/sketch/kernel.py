"""Which of the two kernels runs: the compiled one where it was built, else its specification in NumPy."""

import os
from types import ModuleType

from jaynes_audit.analyzers.sketch import _kernel_numpy


def chosen(*, environment: os._Environ[str] | dict[str, str] = os.environ) -> ModuleType:
    """Give the kernel module, compiled if it can be imported.

    JAYNES_KERNEL=numpy asks for the specification; JAYNES_KERNEL=c asks for the compiled one and fails where it is
    missing, so that a build which promised a compiler cannot fall back unseen.
    """
    wanted = environment.get("JAYNES_KERNEL", "")
    if wanted == "numpy":
        return _kernel_numpy
    try:
        from jaynes_audit.analyzers.sketch import _kernel  # noqa: PLC0415 - its absence is a case, not an error
    except ImportError:
        if wanted == "c":
            raise
        return _kernel_numpy
    return _kernel


KERNEL = chosen()
KERNEL_NAME = "numpy" if KERNEL is _kernel_numpy else "c"
