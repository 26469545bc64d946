"""Where a command that scores or forecasts finds its compiled kernels."""

import os


def prepare_kernel_cache() -> None:
    """Set numba's cache folder, shared with `trimtab up`, before numba is imported."""
    from trimtab.engine.platform.kernel_warmup import prepare_environment
    from trimtab.engine.settings import General

    prepare_environment(General().data_dir.expanduser(), os.environ)
