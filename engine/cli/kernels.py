"""Where a command that scores or forecasts finds its compiled kernels."""

import os


def prepare_kernel_cache() -> None:
    """Tell numba, before it is imported, where kernels of this user are kept: those of `trimtab up`, too."""
    from trimtab.engine.platform.kernel_warmup import prepare_environment
    from trimtab.engine.settings import General

    prepare_environment(General().data_dir.expanduser(), os.environ)
