"""coverage.py for the Pythons of images: fetched once, by its hash, for their libc and machine."""

from __future__ import annotations

import shutil
import stat
import zipfile
from typing import TYPE_CHECKING, Final

import pytest

import hcoverage
from hdocker._errors import BundleError
from hdocker._inject.coverage_bundle import coverage_bundle
from hdocker._inject.image_pythons import Interpreter

if TYPE_CHECKING:
    from pathlib import Path

GLIBC: Final = b"libc.so.6\0"
MUSL: Final = b"libc.musl-"
X86_64, AARCH64 = 62, 183  # e_machine in an ELF header
WHEEL: Final = "coverage-7.6.1-cp38-cp38-manylinux2014_x86_64.whl"


def python(version: tuple[int, int], soabi: str, libc: str = "glibc") -> Interpreter:
    return Interpreter("/usr/bin/python3", version, soabi, libc)


OLDEST: Final = python((3, 8), "cpython-38-x86_64-linux-gnu")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache directory, for this test alone."""
    directory = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(directory))
    return directory


@pytest.fixture
def no_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is all that pip may fetch from."""
    directory = tmp_path / "wheels"
    directory.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(directory))
    return directory


@pytest.mark.index
@pytest.mark.parametrize(
    ("wanted", "name", "machine", "libc"),
    [
        # Before 3.11 the two have the same name.
        (OLDEST, "tracer.cpython-38-x86_64-linux-gnu.so", X86_64, GLIBC),
        (
            python((3, 8), "cpython-38-x86_64-linux-gnu", "musl"),
            "tracer.cpython-38-x86_64-linux-gnu.so",
            X86_64,
            MUSL,
        ),
        (
            python((3, 13), "cpython-313-aarch64-linux-musl", "musl"),
            "tracer.cpython-313-aarch64-linux-musl.so",
            AARCH64,
            MUSL,
        ),
    ],
    ids=["glibc", "musl", "musl on aarch64"],
)
def test_has_the_compiled_tracer(wanted: Interpreter, name: str, machine: int, libc: bytes) -> None:
    (tracer,) = coverage_bundle(wanted).glob("tracer*.so")
    content = tracer.read_bytes()
    assert (tracer.name, content[:4]) == (name, b"\x7fELF")
    assert int.from_bytes(content[18:20], "little") == machine
    assert {mark for mark in (GLIBC, MUSL) if mark in content} == {libc}


@pytest.mark.index
def test_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = coverage_bundle(OLDEST)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    assert coverage_bundle(OLDEST) == made
    assert (made / "control.py").exists()


def test_a_wheel_that_was_changed_is_refused_and_not_kept(no_index: Path, cache: Path) -> None:
    with zipfile.ZipFile(no_index / WHEEL, "w") as wheel:
        wheel.writestr("coverage/__init__.py", "print('evil')")
        wheel.writestr(
            "coverage-7.6.1.dist-info/METADATA", "Metadata-Version: 2.1\nName: coverage\n"
        )
    with pytest.raises(BundleError, match=r"(?is)coverage==7\.6\.1 for Python 3\.8: .*hash"):
        coverage_bundle(OLDEST)
    assert list((cache / "hcoverage").iterdir()) == []


@pytest.mark.usefixtures("no_index")
def test_what_cannot_be_fetched_is_told() -> None:
    with pytest.raises(BundleError, match=r"coverage==7\.6\.1 for Python 3\.8: No matching dist"):
        coverage_bundle(OLDEST)


@pytest.mark.parametrize(
    "wanted",
    [
        python((3, 13), "cpython-313t-x86_64-linux-gnu"),  # free-threaded
        python((3, 12), "cpython-312-riscv64-linux-gnu"),
        python((3, 10), "pypy310-pp73-x86_64-linux-gnu"),
        python((3, 7), "cpython-37m-x86_64-linux-gnu"),
    ],
    ids=lambda wanted: wanted.soabi,
)
def test_there_is_no_wheel_for_some(wanted: Interpreter) -> None:
    with pytest.raises(BundleError, match=f"no wheel .* {wanted.soabi}"):
        coverage_bundle(wanted)


def test_a_cache_that_cannot_be_written_is_told(cache: Path) -> None:
    cache.write_text("in the way")
    with pytest.raises(BundleError, match="set XDG_CACHE_HOME"):
        coverage_bundle(OLDEST)


def test_any_user_of_a_container_can_read_the_copy(tmp_path: Path) -> None:
    package = tmp_path / "coverage"
    package.mkdir()
    (package / "control.py").touch(mode=0o600)
    package.chmod(0o700)
    hcoverage.add_coverage_for((3, 8), tmp_path, package)
    copy = tmp_path / "lib-3.8"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (copy, *copy.rglob("*"))}
    assert modes == {"lib-3.8": 0o755, "coverage": 0o755, "control.py": 0o644}


def test_the_coverage_that_runs_here_is_not_for_pythons_before_its_own(tmp_path: Path) -> None:
    hcoverage.add_coverage_for((3, 11), tmp_path)
    assert (tmp_path / "lib-3.11" / "coverage" / "control.py").exists()
    shutil.rmtree(tmp_path / "lib-3.11")
    with pytest.raises(ImportError, match=r"needs Python >= ?3\."):
        hcoverage.add_coverage_for((3, 8), tmp_path)
    assert not list(tmp_path.glob("lib-*"))
