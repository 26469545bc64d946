"""Where compiled kernels are kept, that they can be made apart, and that what is broken is made anew."""

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


def test_libraries_are_told_where_to_write(tmp_path):
    """Kernels go into the user's cache, one folder a kind of processor; what is set stays."""
    environ = {"MPLCONFIGDIR": "/mine", "XDG_CACHE_HOME": str(tmp_path / "c")}
    folder = prepare_environment(tmp_path / "data", environ)
    assert folder.is_dir()
    assert folder.is_relative_to(tmp_path / "c" / "trimtab" / "kernels")
    assert cpu_fingerprint() in folder.name
    assert environ["NUMBA_CACHE_DIR"] == str(folder)
    assert environ["MPLCONFIGDIR"] == "/mine"
    assert prepare_environment(tmp_path / "other", environ | {"XDG_CACHE_HOME": "/else"}) == folder


def test_every_data_folder_has_the_same_kernels(tmp_path):
    """What one engine of a user has compiled the next one finds, whatever its data folder."""
    environ = {"HOME": str(tmp_path)}
    first, second = (prepare_environment(tmp_path / name, dict(environ)) for name in "ab")
    assert first == second
    assert first.is_relative_to(tmp_path / ".cache")


@pytest.mark.parametrize("environ", [{}, {"XDG_CACHE_HOME": "relative"}, {"HOME": "/proc/nobody"}])
def test_without_a_cache_of_the_user_the_data_folder_serves(tmp_path, environ):
    """Such as a service without a home."""
    assert prepare_environment(tmp_path, dict(environ)).is_relative_to(tmp_path / "cache")


def test_a_folder_that_others_may_write_is_not_used(tmp_path):
    """What stands in it is run as code, so it must be ours alone."""
    environ = {"XDG_CACHE_HOME": str(tmp_path / "c")}
    prepare_environment(tmp_path / "data", dict(environ)).chmod(0o777)
    assert prepare_environment(tmp_path / "data", dict(environ)).is_relative_to(tmp_path / "data")


def test_a_folder_that_may_not_be_written_is_not_used(tmp_path, monkeypatch):
    """Where neither cache nor data folder can be written, kernels go to a private folder."""

    def refused(**_):
        raise PermissionError("read-only")

    monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    environ = {}
    folder = prepare_environment(tmp_path / "data", environ)
    assert folder.parent == tmp_path
    assert environ["NUMBA_CACHE_DIR"] == str(folder)


def test_only_what_nobody_used_for_long_is_removed(tmp_path):
    """Two versions of Trimtab beside each other leave each other's kernels alone."""
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


def test_nothing_is_removed_beside_a_folder_that_a_person_named(tmp_path):
    """What stands beside NUMBA_CACHE_DIR may be anything, as a home: it is left alone, however old."""
    other = tmp_path / "photographs"
    other.mkdir()
    then = time.time() - 400 * 86_400
    os.utime(other, (then, then))
    named = tmp_path / "numba"
    assert prepare_environment(tmp_path / "data", {"NUMBA_CACHE_DIR": str(named)}) == named
    assert other.is_dir()


async def test_a_failed_compilation_is_no_failure_of_the_engine(tmp_path):
    """Where kernels cannot be compiled apart the engine goes on, and tries again at its next start."""
    with capture_logs() as lines:
        await compile_in_subprocess(tmp_path, ("no_such_detector",))
    assert [line["log_level"] for line in lines] == ["info", "warning"]
    assert list(tmp_path.glob("compiled-*")) == []


@pytest.fixture
def runs(monkeypatch):
    """What the compiling process says each time, in turn; it makes a file, and marks it when it ends well."""
    said = []

    async def in_a_process(folder, detectors):
        why = said.pop(0)
        (folder / "a.nbc").write_bytes(b"machine code")
        if not why:
            write_manifest(manifest_path(folder, detectors))
        return why

    monkeypatch.setattr(kernel_warmup, "_run_compiler", in_a_process)
    return said


@pytest.mark.parametrize("harm", ["cut", "gone", "mark"])
async def test_what_is_not_whole_is_looked_at_again(tmp_path, runs, harm):
    """Kernels that are whole are taken as they are; a file that is cut, or a mark that is, is not trusted."""
    runs[:] = ["", ""]
    await compile_in_subprocess(tmp_path, ("default",))
    await compile_in_subprocess(tmp_path, ("default",))
    assert len(runs) == 1
    mark = manifest_path(tmp_path, ("default",))
    {
        "cut": lambda: (tmp_path / "a.nbc").write_bytes(b"mach"),
        "gone": (tmp_path / "a.nbc").unlink,
        "mark": lambda: mark.write_bytes(b"{"),
    }[harm]()
    await compile_in_subprocess(tmp_path, ("default",))
    assert runs == []
    assert is_complete(mark)


async def test_what_cannot_be_used_is_thrown_away_and_made_anew(tmp_path, runs):
    """A cache that the compiler chokes on costs one more compilation, and a warning."""
    (tmp_path / "b.nbi").write_bytes(b"broken")
    runs[:] = ["UnpicklingError", ""]
    with capture_logs() as lines:
        await compile_in_subprocess(tmp_path, ("default",))
    assert not (tmp_path / "b.nbi").exists()
    assert [line["why"] for line in lines if line["log_level"] == "warning"] == ["UnpicklingError"]
    assert is_complete(manifest_path(tmp_path, ("default",)))


async def test_who_comes_second_waits_and_finds_it_done(tmp_path, monkeypatch):
    """Two engines that start at once compile once."""
    made = []

    def warm(detectors):
        made.append(detectors)
        (tmp_path / "a.nbc").write_bytes(b"machine code")
        return 0.0

    monkeypatch.setattr(kernel_warmup, "warm_kernels", warm)
    with kernel_cache.lock_folder(tmp_path):
        both = [asyncio.to_thread(kernel_warmup.compile_and_mark, tmp_path, ("default",)) for _ in range(2)]
        going = asyncio.gather(*both)
        done, _ = await asyncio.wait({going}, timeout=0.2)
        assert not done
        assert made == []
    await going
    assert made == [("default",)]


def test_machine_code_that_changed_is_never_run(tmp_path, monkeypatch):
    """Bits that fell over are made anew; an index that has grown since stays."""
    mark = manifest_path(tmp_path, ("default",))
    (tmp_path / "a.nbc").write_bytes(b"machine code")
    (tmp_path / "a.nbi").write_bytes(b"index")
    write_manifest(mark)
    (tmp_path / "a.nbc").write_bytes(b"machine cod\0")
    (tmp_path / "a.nbi").write_bytes(b"index of more")
    there = []
    monkeypatch.setattr(
        kernel_warmup, "warm_kernels", lambda _: there.extend(p.name for p in tmp_path.glob("a.*"))
    )
    kernel_warmup.compile_and_mark(tmp_path, ("default",))
    assert there == ["a.nbi"]


def test_the_engine_is_imported_without_its_compiler():
    """Numba reads at its import where kernels are kept; the engine says so to it only when it starts."""
    heavy = "{'numba', 'pandas', 'mlflow'}"
    asked = f"import sys, trimtab.engine.runtime.app; print(sorted({heavy} & set(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
