"""Cache and compilation of kernels; broken kernels are compiled again."""

import asyncio
import os
import subprocess
import sys
import tempfile
import time

import pytest
from structlog.testing import capture_logs

from trimtab.engine.platform import kernel_cache, kernel_warmup
from trimtab.engine.platform.kernel_cache import cpu_fingerprint, is_complete, manifest_path, write_manifest
from trimtab.engine.platform.kernel_warmup import compile_in_subprocess, prepare_environment


def test_cache_folders_of_libraries_are_set(tmp_path):
    """Kernels go into the user's cache, one folder per processor type; variables that are set stay."""
    environ = {"MPLCONFIGDIR": "/mine", "XDG_CACHE_HOME": str(tmp_path / "c")}
    folder = prepare_environment(tmp_path / "data", environ)
    assert folder.is_dir()
    assert folder.is_relative_to(tmp_path / "c" / "trimtab" / "kernels")
    assert cpu_fingerprint() in folder.name
    assert environ["NUMBA_CACHE_DIR"] == str(folder)
    assert environ["MPLCONFIGDIR"] == "/mine"
    assert prepare_environment(tmp_path / "other", environ | {"XDG_CACHE_HOME": "/else"}) == folder


def test_data_folders_of_a_user_share_kernels(tmp_path):
    """Engines of one user share kernels, whatever their data folders."""
    environ = {"HOME": str(tmp_path)}
    first, second = (prepare_environment(tmp_path / name, dict(environ)) for name in "ab")
    assert first == second
    assert first.is_relative_to(tmp_path / ".cache")


@pytest.mark.parametrize("environ", [{}, {"XDG_CACHE_HOME": "relative"}, {"HOME": "/proc/nobody"}])
def test_without_a_user_cache_the_data_folder_is_used(tmp_path, environ):
    """Without a usable home, as in a service, kernels go into the data folder."""
    assert prepare_environment(tmp_path, dict(environ)).is_relative_to(tmp_path / "cache")


def test_a_folder_writable_by_others_is_not_used(tmp_path):
    """A folder that others may write to is not used, because its files are executed."""
    environ = {"XDG_CACHE_HOME": str(tmp_path / "c")}
    prepare_environment(tmp_path / "data", dict(environ)).chmod(0o777)
    assert prepare_environment(tmp_path / "data", dict(environ)).is_relative_to(tmp_path / "data")


def test_without_a_writable_folder_a_temporary_one_is_used(tmp_path, monkeypatch):
    """If neither cache nor data folder is writable, kernels go into a private temporary folder."""

    def refused(**_):
        raise PermissionError("read-only")

    monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    environ = {}
    folder = prepare_environment(tmp_path / "data", environ)
    assert folder.parent == tmp_path
    assert environ["NUMBA_CACHE_DIR"] == str(folder)


def test_only_folders_unused_for_long_are_removed(tmp_path):
    """Folders of other versions are removed only when unused for a month."""
    environ = {"XDG_CACHE_HOME": str(tmp_path)}
    folder = prepare_environment(tmp_path / "data", dict(environ))
    for name, days in (("in-use", 1), ("old", 31)):
        other = folder.parent / name
        other.mkdir()
        (other / "used").touch()
        then = time.time() - days * 86_400
        os.utime(other / "used", (then, then))
    prepare_environment(tmp_path / "data", dict(environ))
    assert sorted(path.name for path in folder.parent.iterdir()) == sorted([folder.name, "in-use"])


def test_siblings_of_a_chosen_folder_are_kept(tmp_path):
    """Nothing next to NUMBA_CACHE_DIR is removed, however old."""
    other = tmp_path / "photographs"
    other.mkdir()
    then = time.time() - 400 * 86_400
    os.utime(other, (then, then))
    named = tmp_path / "numba"
    assert prepare_environment(tmp_path / "data", {"NUMBA_CACHE_DIR": str(named)}) == named
    assert other.is_dir()


async def test_a_failed_compilation_is_logged_only(tmp_path):
    """A failed compilation is a warning, and no manifest is written."""
    with capture_logs() as lines:
        await compile_in_subprocess(tmp_path, ("no_such_detector",))
    assert [line["log_level"] for line in lines] == ["info", "warning"]
    assert list(tmp_path.glob("compiled-*")) == []


@pytest.fixture
def compiler_errors(monkeypatch):
    """Errors of the next compiler runs, in order; a run without an error writes a file and the manifest."""
    errors = []

    async def in_a_process(folder, detectors):
        why = errors.pop(0)
        (folder / "a.nbc").write_bytes(b"machine code")
        if not why:
            write_manifest(manifest_path(folder, detectors))
        return why

    monkeypatch.setattr(kernel_warmup, "_run_compiler", in_a_process)
    return errors


@pytest.mark.parametrize("damage", ["cut", "gone", "mark"])
async def test_an_incomplete_cache_is_compiled_again(tmp_path, compiler_errors, damage):
    """A complete cache is not compiled again; a truncated or missing file, or a broken manifest, is."""
    compiler_errors[:] = ["", ""]
    await compile_in_subprocess(tmp_path, ("default",))
    await compile_in_subprocess(tmp_path, ("default",))
    assert len(compiler_errors) == 1
    mark = manifest_path(tmp_path, ("default",))
    {
        "cut": lambda: (tmp_path / "a.nbc").write_bytes(b"mach"),
        "gone": (tmp_path / "a.nbc").unlink,
        "mark": lambda: mark.write_bytes(b"{"),
    }[damage]()
    await compile_in_subprocess(tmp_path, ("default",))
    assert compiler_errors == []
    assert is_complete(mark)


async def test_unusable_kernels_are_deleted_and_compiled_again(tmp_path, compiler_errors):
    """A cache that the compiler cannot read costs one more compilation and a warning."""
    (tmp_path / "b.nbi").write_bytes(b"broken")
    compiler_errors[:] = ["UnpicklingError", ""]
    with capture_logs() as lines:
        await compile_in_subprocess(tmp_path, ("default",))
    assert not (tmp_path / "b.nbi").exists()
    assert [line["reason"] for line in lines if line["log_level"] == "warning"] == ["UnpicklingError"]
    assert is_complete(manifest_path(tmp_path, ("default",)))


async def test_a_second_compiler_waits_for_the_first(tmp_path, monkeypatch):
    """Two engines that start at the same time compile once."""
    compiled = []

    def warm(detectors):
        compiled.append(detectors)
        (tmp_path / "a.nbc").write_bytes(b"machine code")
        return 0.0

    monkeypatch.setattr(kernel_warmup, "warm_kernels", warm)
    with kernel_cache.lock_folder(tmp_path):
        both = [asyncio.to_thread(kernel_warmup.compile_and_mark, tmp_path, ("default",)) for _ in range(2)]
        compilations = asyncio.gather(*both)
        done, _ = await asyncio.wait({compilations}, timeout=0.2)
        assert not done
        assert compiled == []
    await compilations
    assert compiled == [("default",)]


def test_changed_machine_code_is_deleted(tmp_path, monkeypatch):
    """Machine code that differs from the manifest is deleted; an index that has grown stays."""
    mark = manifest_path(tmp_path, ("default",))
    (tmp_path / "a.nbc").write_bytes(b"machine code")
    (tmp_path / "a.nbi").write_bytes(b"index")
    write_manifest(mark)
    (tmp_path / "a.nbc").write_bytes(b"machine cod\0")
    (tmp_path / "a.nbi").write_bytes(b"index of more")
    existing = []
    monkeypatch.setattr(
        kernel_warmup, "warm_kernels", lambda _: existing.extend(p.name for p in tmp_path.glob("a.*"))
    )
    kernel_warmup.compile_and_mark(tmp_path, ("default",))
    assert existing == ["a.nbi"]


def test_importing_the_engine_does_not_import_numba():
    """Importing the engine does not import numba, which reads its cache folder at import."""
    heavy = "{'numba', 'pandas', 'mlflow'}"
    code = f"import sys, trimtab.engine.runtime.app; print(sorted({heavy} & set(sys.modules)))"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[]"
