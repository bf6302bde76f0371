"""What combine takes: archives and URLs as well as files, by our rules, and never deleted."""

from __future__ import annotations

import io
import os
import pty
import stat
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path  # noqa: TC003 - fixtures are typed
from typing import TYPE_CHECKING, Final

import pytest
from coverage import CoverageData
from tests import forks

import hcoverage
from hcoverage._combine import archives

if TYPE_CHECKING:
    from collections.abc import Callable

RCFILE: Final = "[run]\nparallel = True\n[paths]\napp =\n    .\n    /app\n"
TAR_MODES: Final = {".tar": "w", ".tar.gz": "w:gz", ".tgz": "w:gz", ".tar.xz": "w:xz"} | {
    ".tar.bz2": "w:bz2"
}
FIRST: Final = "job-1/.coverage.h.pid1.Xa"
SECOND: Final = "job-2/coverage_data/.coverage.h.pid1.Xa"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    project = tmp_path / "project"
    project.mkdir()
    (project / ".coveragerc").write_text(RCFILE)
    (project / "one.py").write_text("a = 1\nb = 2\nc = 3\n")
    monkeypatch.chdir(project)
    return project


def content(tmp_path: Path, *lines: int) -> bytes:
    """A data file of a process that ran some lines of one.py in a container."""
    file = tmp_path / "made"
    data = CoverageData(basename=str(file))
    data.add_lines({"/app/one.py": lines})
    data.write()
    data.close()
    made = file.read_bytes()
    file.unlink()
    return made


def lines_in(path: Path) -> dict[str, list[int]]:
    data = CoverageData(basename=str(path))
    data.read()
    return {name: sorted(data.lines(name) or []) for name in data.measured_files()}


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, inside in members.items():
            archive.writestr(name, inside)
    return path


def tarred(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, inside in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(inside)
            archive.addfile(member, io.BytesIO(inside))
    return path


@pytest.mark.parametrize("suffix", [".zip", *TAR_MODES])
def test_an_archive_is_merged_from_all_its_directories_and_left_alone(
    project: Path, tmp_path: Path, suffix: str
) -> None:
    members = {FIRST: content(tmp_path, 1), SECOND: content(tmp_path, 3), "README": b"hello"}
    archive = tmp_path / f"ci{suffix}"
    if suffix == ".zip":
        zipped(archive, members)
    else:
        tarred(archive, members, TAR_MODES[suffix])
    before = archive.read_bytes()
    result = hcoverage.combine([archive])
    assert lines_in(project / ".coverage") == {str(project / "one.py"): [1, 3]}
    assert result.merged == (archive / FIRST, archive / SECOND)
    assert result.set_aside == ()
    assert archive.read_bytes() == before


def test_a_merged_data_file_in_an_archive_is_data_as_well(project: Path, tmp_path: Path) -> None:
    hcoverage.combine([zipped(tmp_path / "a.zip", {"artifact/.coverage": content(tmp_path, 2)})])
    assert lines_in(project / ".coverage") == {str(project / "one.py"): [2]}


def test_zstandard_is_read_where_python_can_and_told_where_not(tmp_path: Path) -> None:
    plain = tarred(tmp_path / "ci.tar", {FIRST: content(tmp_path, 1)})
    packed = tmp_path / "ci.tar.zst"
    if sys.version_info >= (3, 14):
        from compression import zstd

        packed.write_bytes(zstd.compress(plain.read_bytes()))
        assert hcoverage.combine([packed]).merged == (packed / FIRST,)
    else:
        packed.write_bytes(b"\x28\xb5\x2f\xfd")
        with pytest.raises(hcoverage.CombineError, match=r"ci\.tar\.zst: Python before 3\.14"):
            hcoverage.combine([packed])


def link(name: str, target: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = tarfile.SYMTYPE
    member.linkname = target
    return member


def hard_link(name: str, target: str) -> tarfile.TarInfo:
    member = link(name, target)
    member.type = tarfile.LNKTYPE
    return member


def fifo(name: str, _target: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = tarfile.FIFOTYPE
    return member


@pytest.mark.parametrize("kind", [link, hard_link, fifo])
def test_what_is_no_regular_member_is_refused_and_the_others_are_merged(
    project: Path, tmp_path: Path, kind: Callable[[str, str], tarfile.TarInfo]
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(content(tmp_path, 2))
    archive = tarred(tmp_path / "ci.tar", {FIRST: content(tmp_path, 1)})
    with tarfile.open(archive, "a") as more:
        more.addfile(kind(".coverage.h.pid2.Xb", str(secret)))
    (item,) = hcoverage.combine([archive]).set_aside
    assert item.path == archive / ".coverage.h.pid2.Xb"
    assert "not a regular file" in item.reason
    assert lines_in(project / ".coverage") == {str(project / "one.py"): [1]}


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "ci.zip", {FIRST: content(tmp_path, 1)})
    with zipfile.ZipFile(archive, "a") as more:
        member = zipfile.ZipInfo(".coverage.h.pid2.Xb")
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
        more.writestr(member, "/etc/passwd")
    (item,) = hcoverage.combine([archive]).set_aside
    assert "not a regular file" in item.reason


@pytest.mark.parametrize("name", ["../../.coverage.h.pid2.Xb", "/tmp/.coverage.h.pid2.Xb"])  # noqa: S108 - a name only
@pytest.mark.parametrize("pack", [zipped, tarred])
def test_a_name_that_leads_out_is_refused(
    tmp_path: Path, name: str, pack: Callable[[Path, dict[str, bytes]], Path]
) -> None:
    members = {FIRST: content(tmp_path, 1), name: content(tmp_path, 2)}
    archive = pack(tmp_path / ("ci.zip" if pack is zipped else "ci.tar"), members)
    (item,) = hcoverage.combine([archive]).set_aside
    assert "leads out" in item.reason
    assert not (tmp_path.parent / ".coverage.h.pid2.Xb").exists()


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_a_bomb_is_refused_and_what_came_before_it_is_merged(
    project: Path, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "_LARGEST_TOTAL", 4 << 20)
    good = content(tmp_path, 1)
    archive = tmp_path / f"ci{suffix}"
    if suffix == ".zip":
        zipped(archive, {FIRST: good, ".coverage.h.pid2.Xb": bytes(64 << 20)})
        (item,) = hcoverage.combine([archive]).set_aside
        assert lines_in(project / ".coverage") == {str(project / "one.py"): [1]}
        assert "more room" in item.reason
    else:
        tarred(archive, {FIRST: good, ".coverage.h.pid2.Xb": bytes(64 << 20)}, "w:gz")
        with pytest.raises(hcoverage.CombineError, match="more room"):
            hcoverage.combine([archive])
    assert archive.stat().st_size < 1 << 20


def test_a_header_that_claims_gigabytes_takes_no_memory(tmp_path: Path) -> None:
    archive = tarred(tmp_path / "ci.tar", {})
    member = tarfile.TarInfo("././@LongLink")
    member.type = tarfile.GNUTYPE_LONGNAME
    member.size = 6 << 30
    with archive.open("wb") as file:
        file.write(member.tobuf(tarfile.GNU_FORMAT))
        file.truncate(6 << 30)
    with pytest.raises(hcoverage.CombineError, match=r"ci\.tar: (it claims|unpacked)"):
        hcoverage.combine([archive])


def test_too_many_members_are_refused_after_the_first(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "_MOST_MEMBERS", 3)
    members = {FIRST: content(tmp_path, 1)} | {f"other-{n}": b"" for n in range(10)}
    (item,) = hcoverage.combine([zipped(tmp_path / "ci.zip", members)]).set_aside
    assert item.reason == "only 1 of its files: it has more than 3 members"
    assert lines_in(project / ".coverage") == {str(project / "one.py"): [1]}


@pytest.mark.parametrize("suffix", [".zip", *TAR_MODES])
@pytest.mark.parametrize("damage", ["empty", "random", "cut off", "fifo"])
def test_a_damaged_archive_costs_nothing_else(
    project: Path, tmp_path: Path, suffix: str, damage: str
) -> None:
    good = tmp_path / ".coverage.h.pid1.Xa"
    good.write_bytes(content(tmp_path, 1))
    bad = tmp_path / f"ci{suffix}"
    if damage == "fifo":
        os.mkfifo(bad)
    elif damage == "cut off":
        members = {FIRST: os.urandom(50_000)}
        whole = (
            zipped(bad, members) if suffix == ".zip" else tarred(bad, members, TAR_MODES[suffix])
        )
        bad.write_bytes(whole.read_bytes()[:20_000])
    else:
        bad.write_bytes(b"" if damage == "empty" else bytes(range(1, 256)) * 40)
    result = hcoverage.combine([bad, good])
    assert lines_in(project / ".coverage") == {str(project / "one.py"): [1]}
    assert [item.path for item in result.set_aside if item.path == bad]
    assert os.path.lexists(bad)


def test_the_command_tells_of_a_bad_archive_and_exits_with_3(tmp_path: Path) -> None:
    bad = tmp_path / "bad.zip"
    bad.write_bytes(b"PK\3\4 and no more")
    good = zipped(tmp_path / "good.zip", {FIRST: content(tmp_path, 1)})
    done = hcov("combine", str(good), str(bad))
    assert done.returncode == 3
    assert "bad.zip" in done.stderr
    assert bad.exists()


def hcov(*arguments: str) -> subprocess.CompletedProcess[str]:
    return forks.hcov(*arguments, env=hcoverage.unmeasured_environment(os.environ))


def test_a_url_without_the_extra_names_what_to_install() -> None:
    done = hcov("combine", "s3://bucket/run-42/")
    assert done.returncode == 1
    assert "pip install 'hcoverage[remote]'" in done.stderr


def test_a_url_that_nothing_reads_is_an_error_of_one_line() -> None:
    done = hcov("combine", "nosuch://bucket/run-42/")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1


COUNTED: Final = """\
from hcov._tell import progress_bar as _progress_bar
from hcov._tell.progress_bar import progress_bar
_progress_bar._PATIENCE = {patience}
with progress_bar("merging") as on_progress:
    if on_progress is None:
        raise SystemExit("no bar")
    on_progress(0, 100)
    on_progress(50, 100)
    on_progress(100, 100)
"""


def test_a_terminal_sees_progress_once_it_takes_longer_than_its_patience() -> None:
    assert "50%" in seen_by_terminal(COUNTED.format(patience="-1"))


def test_a_terminal_sees_nothing_of_a_short_one() -> None:
    assert seen_by_terminal(COUNTED.format(patience="float('inf')")) == ""


def test_a_log_sees_no_progress() -> None:
    command = [sys.executable, "-c", COUNTED.format(patience="-1")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "no bar"


def seen_by_terminal(program: str) -> str:
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            stderr=theirs,
            env={**hcoverage.unmeasured_environment(os.environ), "TERM": "xterm"},
        )
        os.close(theirs)
        seen = b""
        try:
            while piece := os.read(ours, 4096):
                seen += piece
        except OSError:
            pass  # how Linux says that the other end is closed
        assert process.wait() == 0
        return seen.decode()
    finally:
        os.close(ours)


def test_progress_is_told_for_each_file_and_never_goes_back(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f".coverage.h.pid{number}.Xa").write_bytes(content(tmp_path, number + 1))
    told: list[tuple[int, int]] = []
    hcoverage.combine([tmp_path], on_progress=lambda done, total: told.append((done, total)))
    assert told == sorted(told)
    assert told[-1] == (5, 5)
