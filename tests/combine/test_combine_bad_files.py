"""One bad file in the data directory is set aside and told, and never costs the others."""

from __future__ import annotations

import os
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from coverage import CoverageData

import hcoverage

if TYPE_CHECKING:
    from collections.abc import Callable

RCFILE: Final = "[run]\nparallel = True\n[paths]\napp =\n    .\n    /app\n"


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data directory of a project, which is the current directory."""
    project = tmp_path / "p"
    data = project / "coverage_data"
    data.mkdir(parents=True)
    data.chmod(0o777)
    (project / ".coveragerc").write_text(RCFILE)
    (project / "one.py").write_text("a = 1\nb = 2\nc = 3\n")
    monkeypatch.chdir(project)
    return data


def data_file(path: Path, *lines: int) -> Path:
    data = CoverageData(basename=str(path))
    data.add_lines({"/app/one.py": lines})
    data.write()
    data.close()
    return path


def merged_lines() -> list[int]:
    data = CoverageData(basename=".coverage")
    data.read()
    return sorted(data.lines(str(Path("one.py").absolute())) or [])


def cut_off(path: Path) -> None:
    whole = data_file(path, 1, 2).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def cut_off_in_the_header(path: Path) -> None:
    path.write_bytes(data_file(path, 1, 2).read_bytes()[:50])


def zeroed_pages(path: Path) -> None:
    whole = bytearray(data_file(path, 1, 2).read_bytes())
    page = int.from_bytes(whole[16:18], "big")
    whole[page:] = bytes(len(whole) - page)
    path.write_bytes(whole)


def other_version(path: Path) -> None:
    data_file(path, 1)
    with sqlite3.connect(path) as database:
        database.execute("UPDATE coverage_schema SET version = 8")
    database.close()


def other_database(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE cookies (name text)")
    database.close()


def unix_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        # Its name may have no more than 108 bytes.
        here = Path.cwd()
        os.chdir(path.parent)
        try:
            server.bind(path.name)
        finally:
            os.chdir(here)


def device(path: Path) -> None:
    if os.geteuid() == 0:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero: it never ends
    else:
        path.symlink_to("/dev/zero")


BAD: Final[dict[str, Callable[[Path], object]]] = {
    "zero bytes": lambda path: path.touch(),
    "random bytes": lambda path: path.write_bytes(os.urandom(5000)),
    "random bytes after SQLite's magic": lambda path: path.write_bytes(
        b"SQLite format 3\0" + os.urandom(9000)
    ),
    "cut off": cut_off,
    "cut off in the header": cut_off_in_the_header,
    "zeroed pages": zeroed_pages,
    "directory": lambda path: path.mkdir(),
    "fifo": os.mkfifo,
    "socket": unix_socket,
    "device": device,
    "another schema version": other_version,
    "another database": other_database,
}


def begun(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE coverage_schema ( version integer )")
    database.close()


# What coverage.py's own saving leaves where the process is killed in the middle of it.
CUT_SHORT: Final[dict[str, Callable[[Path], object]]] = {
    "zero bytes": BAD["zero bytes"],
    "cut off": cut_off,
    "tables without a version": begun,
}


def hcov_combine(*arguments: str, user: int | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hcov", "combine", *arguments],
        capture_output=True,
        text=True,
        check=False,
        user=user,
        env=hcoverage.unmeasured_environment(os.environ),
    )


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [
        *((".Xb", kind) for kind in BAD),
        # A recording of zero bytes was only begun, which is no fault; see below.
        *((".hcrec", kind) for kind in BAD if kind != "zero bytes"),
    ],
)
def test_a_bad_file_is_named_and_kept_and_the_others_are_merged(
    data: Path, suffix: str, kind: str
) -> None:
    data_file(data / ".coverage.h.pid1.Xa", 1)
    bad = data / (".coverage.h.pid2.Xb" if suffix == ".Xb" else "h.2.0123456789abcdef-1.hcrec")
    BAD[kind](bad)
    data_file(data / ".coverage.h.pid3.Xc", 3)
    result = hcoverage.combine([data])
    assert merged_lines() == [1, 3]
    assert [item.path for item in result.set_aside] == [bad]
    assert result.set_aside[0].reason
    assert os.path.lexists(bad)


@pytest.mark.parametrize("kind", CUT_SHORT)
def test_a_file_cut_short_gives_way_to_what_its_process_saved_before(data: Path, kind: str) -> None:
    data_file(data / ".coverage.h.pid1.Xaaaaaax", 1)
    CUT_SHORT[kind](data / ".coverage.h.pid1.Xbbbbbbx")
    result = hcoverage.combine([data])
    assert merged_lines() == [1]
    assert result.set_aside == ()
    assert list(data.iterdir()) == []


@pytest.mark.parametrize("kind", ["random bytes", "another schema version", "another database"])
def test_a_file_that_is_bad_otherwise_does_not(data: Path, kind: str) -> None:
    data_file(data / ".coverage.h.pid1.Xaaaaaax", 1)
    bad = data / ".coverage.h.pid1.Xbbbbbbx"
    BAD[kind](bad)
    result = hcoverage.combine([data])
    assert merged_lines() == [1]
    assert [item.path for item in result.set_aside] == [bad]
    assert bad.exists()


def test_a_file_cut_short_in_another_directory_is_of_another_process(
    data: Path, tmp_path: Path
) -> None:
    data_file(data / ".coverage.h.pid1.Xaaaaaax", 1)
    shard = tmp_path / "shard"
    shard.mkdir()
    bad = shard / ".coverage.h.pid1.Xbbbbbbx"
    bad.touch()
    assert [item.path for item in hcoverage.combine([data, shard]).set_aside] == [bad]


def test_the_command_names_what_is_bad_and_exits_with_3(data: Path) -> None:
    data_file(data / ".coverage.h.pid1.Xa", 1)
    bad = data / ".coverage.h.pid2.Xb"
    bad.touch()
    done = hcov_combine("coverage_data")
    assert done.returncode == 3
    assert f"not merged: coverage_data/{bad.name}: it is empty" in done.stderr
    assert bad.exists()
    assert merged_lines() == [1]


def test_an_unreadable_file_says_how_to_take_it_over(data: Path) -> None:
    data_file(data / ".coverage.h.pid1.Xa", 1)
    bad = data_file(data / ".coverage.h.pid2.Xb", 2)
    bad.chmod(0)
    if os.geteuid() == 0:
        # Root reads everything, so it takes somebody else to see it.
        program = (
            "import os; from hcoverage._read.data_file_batch import read_batch\n"
            "fd = os.open('coverage_data', os.O_RDONLY); os.fchdir(fd); os.setuid(65534)\n"
            "print(read_batch(['.coverage.h.pid2.Xb']).refused[0].reason)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        )
        assert "sudo chown" in done.stdout
    else:
        (item,) = hcoverage.combine([data]).set_aside
        assert "sudo chown" in item.reason
    assert bad.exists()


def test_files_that_vanish_while_they_are_listed_cost_nothing(data: Path) -> None:
    for number in range(20):
        data_file(data / f".coverage.h.pid{number}.Xa", number + 1)

    def remove_the_next(done: int, _total: int) -> None:
        if done == 5:
            (data / ".coverage.h.pid9.Xa").unlink(missing_ok=True)

    hcoverage.combine([data], on_progress=remove_the_next)
    assert {1, 2, 3, 20} <= set(merged_lines())


def test_a_file_that_is_still_being_written_is_waited_for(data: Path) -> None:
    data_file(data / ".coverage.h.pid1.Xa", 1)
    whole = data_file(data / "elsewhere", 2).read_bytes()
    late = data / ".coverage.h.pid2.Xb"
    late.write_bytes(whole[:100])
    writing: list[threading.Thread] = []

    def finish(_done: int, _total: int) -> None:
        if not writing:
            writing.append(threading.Thread(target=late.write_bytes, args=(whole,)))
            writing[0].start()

    result = hcoverage.combine([data], on_progress=finish)
    writing[0].join()
    assert result.set_aside == ()
    assert merged_lines() == [1, 2]


class SavedBefore(Executor):
    """Reads files, but first lets a process save its data and remove its recording."""

    def __init__(self, save: Callable[[], None]) -> None:
        self._save = save

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:  # noqa: ANN401
        self._save()
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


@pytest.mark.parametrize("saved", [".coverage.my_host.pid7.Xb", ".coverage.my_host.pid8.Xb"])
def test_what_a_process_saves_late_takes_the_place_of_its_recording(data: Path, saved: str) -> None:
    data_file(data / ".coverage.h.pid1.Xa", 1)
    recording = data / "my.host.7.0123456789abcdef.1.hcrec"
    recording.write_bytes(bytes(8192))

    def save() -> None:
        if recording.exists():
            data_file(data / saved, 2)
            recording.unlink()

    result = hcoverage.combine([data], executor=SavedBefore(save))
    assert [item.path for item in result.set_aside] == [recording] * ("pid7" not in saved)
    assert merged_lines() == [1, 2]
    assert list(data.iterdir()) == []


@pytest.mark.parametrize("left", [b"", bytes(8192), bytes(4) + b"\x03" * 60 + bytes(4096)])
def test_a_recording_that_a_kill_left_only_begun_is_no_fault(data: Path, left: bytes) -> None:
    (data / f"{os.uname().nodename}.7.0123456789abcdef.1.hcrec").write_bytes(left)
    data_file(data / ".coverage.h.pid1.Xabcdefx", 1)
    done = hcov_combine()
    assert done.returncode == 0, done.stderr
    assert "not merged" not in done.stderr
    assert merged_lines() == [1]
    assert not list(data.glob("*.hcrec"))
