"""What is compiled for measured processes is kept, and read only where nobody else can write."""

from __future__ import annotations

import marshal
import os
from pathlib import Path
from types import CodeType, ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Final

import pytest

from hcoverage._session import guest_code, startup_directory

if TYPE_CHECKING:
    from collections.abc import Callable

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


def test_functions_that_few_call_are_unpacked_when_one_is_called() -> None:
    sources = {"one.py": b"import sys\ndef bind(x): pass\ndef f(x): return x + sys.a()\n"}
    codes = guest_code.compiled(sources, ["one.py"])
    later, now = (name.format("one.py") for name in (guest_code.LATER, guest_code.NOW))
    code = guest_code.placed(marshal.loads(codes[now]), "file", {later: codes[later]})  # noqa: S302
    module = ModuleType("one")
    exec(code, module.__dict__)  # noqa: S102 - our own
    assert "bind" in module.__dict__
    assert "f" not in module.__dict__
    module.sys = SimpleNamespace(a=lambda: 2)  # type: ignore[attr-defined]
    assert module.f(3) == 5
    assert "f" in module.__dict__


def test_a_setting_may_have_the_name_of_a_piece_of_code() -> None:
    process = marshal.dumps(compile("STARTED = 1", "process", "exec"))
    parts = {"recorder": compile("x = 1", "recorder", "exec")}
    names = f"CONTEXTS = {('process', 'recorder', 'part recorder')}\n"
    told: dict[str, object] = {}
    code = startup_directory._told(process, Path("file"), names, parts)
    exec(marshal.loads(code), told)  # noqa: S102, S302 - our own
    assert told["CONTEXTS"] == ("process", "recorder", "part recorder")
    assert told["STARTED"] == 1
    assert isinstance(told["PARTS"], dict)
    assert isinstance(told["PARTS"]["recorder"], CodeType)
