"""Who reads the data when there is much of it: processes of our own, or a caller's executor."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from coverage import CoverageData

import hcoverage
from hcoverage._combine import gathering
from hcoverage._read.batches import run_batches
from hcoverage._read.worker_pool import WorkerDiedError, WorkerPool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(2) as pool:
        yield pool


def data_files(directory: Path, count: int) -> list[Path]:
    directory.mkdir()
    files = []
    for number in range(count):
        file = directory / f".coverage.h.pid{number}.Xabcdefx"
        data = CoverageData(basename=str(file))
        data.add_lines({"/x/a.py": [number + 1]})
        data.close(force=True)
        files.append(file)
    return files


def lines_in(path: Path) -> list[int]:
    data = CoverageData(basename=str(path))
    data.read()
    lines = sorted(data.lines("/x/a.py") or [])
    data.close(force=True)
    return lines


class TestPool:
    def test_calls_in_other_processes_and_gives_what_they_give(self, pool: WorkerPool) -> None:
        futures = [pool.submit(os.getpid) for _ in range(20)]
        found = {future.result() for future in futures}
        assert os.getpid() not in found
        assert 1 <= len(found) <= 2
        assert pool.submit(int, "7f", base=16).result() == 127

    def test_what_is_raised_there_is_raised_here(self, pool: WorkerPool) -> None:
        with pytest.raises(ZeroDivisionError):
            pool.submit(divmod, 1, 0).result()
        assert pool.submit(abs, -1).result() == 1

    def test_a_worker_that_dies_costs_its_own_call_alone(self, pool: WorkerPool) -> None:
        with pytest.raises(WorkerDiedError, match="-9"):
            pool.submit(signal.raise_signal, signal.SIGKILL).result()
        assert [pool.submit(abs, -n).result() for n in range(5)] == list(range(5))

    def test_an_item_that_ends_its_process_does_not_cost_the_others(self, pool: WorkerPool) -> None:
        lost: list[str] = []
        programs = ["1", "__import__('os')._exit(3)", "2", "3", "4"]
        found = run_batches(Evaluate(), programs, pool, lost.append)
        assert sorted(each for batch in found for each in batch) == ["1", "2", "3", "4"]
        assert lost == ["__import__('os')._exit(3)"]

    def test_its_processes_end_with_it(self) -> None:
        with WorkerPool(1) as pool:
            pid = pool.submit(os.getpid).result()
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


class Evaluate:
    """Pickled as what it stands for, so that a worker needs nothing of these tests."""

    def __reduce__(self) -> tuple[object, ...]:
        return eval, ("lambda programs: [str(eval(each)) for each in programs]",)

    def __call__(self, programs: Sequence[str]) -> list[str]:
        raise NotImplementedError(programs)


@pytest.mark.parametrize("kind", ["threads", "processes", "ours"])
def test_any_executor_merges_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    files = data_files(tmp_path / "data", 50)
    files[7].write_bytes(b"bad")
    executors: dict[str, Callable[[], concurrent.futures.Executor]] = {
        "threads": lambda: concurrent.futures.ThreadPoolExecutor(2),
        "processes": lambda: concurrent.futures.ProcessPoolExecutor(
            2, mp_context=multiprocessing.get_context("spawn")
        ),
        "ours": lambda: WorkerPool(2),
    }
    with executors[kind]() as executor:
        result = hcoverage.combine(["data"], executor=executor)
    assert lines_in(tmp_path / ".coverage") == [n for n in range(1, 51) if n != 8]
    assert [item.path for item in result.set_aside] == [files[7]]
    assert len(result.merged) == 49


def test_an_executor_that_fails_removes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files = data_files(tmp_path / "data", 3)
    executor = concurrent.futures.ThreadPoolExecutor(1)
    executor.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        hcoverage.combine(["data"], executor=executor)
    assert all(file.exists() for file in files)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


@pytest.mark.thorough
def test_much_data_is_merged_by_processes_that_nothing_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data_files(tmp_path / "data", 40)
    (tmp_path / "measured").mkdir()
    rcfile = tmp_path / "measured.rc"
    rcfile.write_text(f"[run]\nparallel = True\ndata_file = {tmp_path}/measured/.coverage\n")
    # A session around it would measure every Python that is started with its variables.
    monkeypatch.setenv("COVERAGE_PROCESS_START", str(rcfile))
    monkeypatch.setattr(gathering, "_WORTH_PROCESSES", 1)
    monkeypatch.setattr("hcoverage._read.batches._cpus", lambda: 2)
    result = hcoverage.combine(["data"])
    assert len(result.merged) == 40
    assert lines_in(tmp_path / ".coverage") == list(range(1, 41))
    assert list((tmp_path / "measured").iterdir()) == []


def test_a_script_without_a_guard_may_combine_much(tmp_path: Path) -> None:
    data_files(tmp_path / "data", 40)
    script = tmp_path / "script.py"
    script.write_text(
        "import hcoverage, hcoverage._combine.gathering\n"
        "hcoverage._combine.gathering._WORTH_PROCESSES = 1\n"
        "print(len(hcoverage.combine(['data']).merged))\n"
    )
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("40\n", "")
