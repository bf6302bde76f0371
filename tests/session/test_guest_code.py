"""What is compiled for measured processes is kept, and read only where nobody else can write."""

from __future__ import annotations

import marshal
import os
from typing import TYPE_CHECKING, Final

import pytest

from hcoverage._session import guest_code

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SOURCES: Final = {
    "one.py": b'"""Words."""\ndef f(x: int) -> int:\n    """More."""\n    return x + 1\n'
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "hcoverage"


def answer() -> int:
    module: dict[str, Callable[[int], int]] = {}
    exec(marshal.loads(guest_code.compiled(SOURCES)["one.py"]), module)  # noqa: S102, S302 - our own
    assert module["f"].__doc__ is None
    assert module["f"].__annotations__ == {}
    return module["f"](1)


def kept(cache: Path) -> Path:
    (file,) = cache.iterdir()
    return file


def with_another_answer(file: Path) -> None:
    """What somebody else would like to be executed."""
    code = compile("def f(x): return 0\nf.__annotations__ = {}", "one.py", "exec")
    file.write_bytes(marshal.dumps({"one.py": marshal.dumps(code)}))


def test_it_is_compiled_once(cache: Path) -> None:
    assert answer() == 2
    assert cache.stat().st_mode & 0o077 == 0
    with_another_answer(kept(cache))
    assert answer() == 0


def open_the_directory(file: Path) -> None:
    file.parent.chmod(0o777)


def open_the_file(file: Path) -> None:
    file.chmod(0o666)


def link_the_file(file: Path) -> None:
    file.rename(file.with_name("other"))
    file.symlink_to("other")


def link_the_directory(file: Path) -> None:
    directory = file.parent
    directory.rename(directory.with_name("other"))
    directory.symlink_to("other")


def give_the_file_away(file: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can give files away")
    os.chown(file, 65534, 65534)


def cut_the_file_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:20])


@pytest.mark.parametrize(
    "spoil",
    [
        open_the_directory,
        open_the_file,
        link_the_file,
        link_the_directory,
        give_the_file_away,
        cut_the_file_short,
    ],
)
def test_what_others_may_have_written_is_not_run(
    cache: Path, spoil: Callable[[Path], None]
) -> None:
    assert answer() == 2
    file = kept(cache)
    with_another_answer(file)
    spoil(file)
    assert answer() == 2


@pytest.mark.parametrize("place", ["", "relative", "/dev/null", "/proc/1"])
def test_where_nothing_can_be_kept_it_is_compiled_each_time(
    place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/dev/null")
    monkeypatch.setenv("XDG_CACHE_HOME", place)
    assert answer() == 2
    assert list(tmp_path.iterdir()) == []


def test_few_are_kept(cache: Path) -> None:
    for number in range(12):
        guest_code.compiled({"one.py": f"x = {number}\n".encode()})
    assert len(list(cache.iterdir())) <= 8
