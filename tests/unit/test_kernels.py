"""Where compiled kernels are kept, and that they can be made apart."""

import tempfile

from trimtab.engine.running.kernels import compile_apart, cpu_kind, prepare_environment


def test_libraries_are_told_where_to_write(tmp_path):
    """Caches go into the data folder, one folder a kind of processor; what is set stays."""
    environ = {"MPLCONFIGDIR": "/mine"}
    folder = prepare_environment(tmp_path, environ)
    assert folder.is_dir()
    assert folder.is_relative_to(tmp_path)
    assert cpu_kind() in folder.name
    assert environ["NUMBA_CACHE_DIR"] == str(folder)
    assert environ["MPLCONFIGDIR"] == "/mine"


async def test_a_failed_compilation_is_no_failure_of_the_engine(tmp_path):
    """Where kernels cannot be compiled apart the engine goes on, and tries again at its next start."""
    await compile_apart(tmp_path, ("no_such_detector",))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_may_not_be_written_is_not_used(tmp_path, monkeypatch):
    """Where the data folder is there, but somebody else's, kernels go to a private folder."""
    prepare_environment(tmp_path / "data", {})

    def refused(**_):
        raise PermissionError("read-only")

    monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    environ = {}
    folder = prepare_environment(tmp_path / "data", environ)
    assert folder.parent == tmp_path
    assert environ["NUMBA_CACHE_DIR"] == str(folder)
