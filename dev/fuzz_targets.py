"""What `dev/fuzz` runs: each target reads one hostile input, and may only refuse it."""

from __future__ import annotations

import contextlib
import sqlite3
import sys
import tempfile
from pathlib import Path
from typing import Final

import atheris

with atheris.instrument_imports(include=["hcoverage", "zipfile", "tarfile"]):
    from hcoverage._combine import archives
    from hcoverage._read import recording_format
    from hcoverage._untrusted import database as _untrusted_database
    from hcoverage._untrusted.file import UntrustedDataError

from coverage import CoverageData

_MOST_LINES: Final = 1 << 20
_TABLES: Final = ("file", "context", "line_bits", "arc", "tracer", "meta")


def recording(content: bytes) -> None:
    """Read a recording; checksums are behind the fuzzer's back, so records are read as well."""
    with contextlib.suppress(recording_format.RecordingError):
        segment = recording_format.parse_segment(Path("x.hcrec"), content)
        if any(len(source.lines) > _MOST_LINES for source in segment.sources):
            raise AssertionError("more lines than any file has")
    damage: list[str] = []
    for kind in (b"LINE", b"CODE", b"BRCH", b"ARCS"):
        recording_format.parse_record(kind + content.ljust(64, b"\0"), 0, len(content), damage)


def data_file(content: bytes) -> None:
    """Read a data file."""
    with contextlib.closing(sqlite3.connect(":memory:")) as database:
        try:
            _untrusted_database.load(database, content)
            _untrusted_database.refuse_excess(database)
            for table in _TABLES:
                database.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608
        except (UntrustedDataError, sqlite3.Error, UnicodeDecodeError):
            return


def archive(content: bytes) -> None:
    """Unpack an archive; nothing may appear but in the directory that is meant for it."""
    for suffix in (".zip", ".tar"):
        with tempfile.TemporaryDirectory() as directory:
            inside = Path(directory, "inside")
            inside.mkdir()
            packed = Path(directory, f"x{suffix}")
            packed.write_bytes(content)
            archives.unpack(packed, inside)
            if {path.name for path in Path(directory).iterdir()} != {"inside", packed.name}:
                raise AssertionError("something was written elsewhere")


def _seeds(target: str) -> list[bytes]:
    if target != "data_file":
        return []
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "seed")
        data = CoverageData(basename=str(file))
        data.add_lines({"/app/one.py": [1, 2, 3]})
        data.write()
        data.close()
        return [file.read_bytes()]


if __name__ == "__main__":
    name = sys.argv.pop(1)
    for number, seed in enumerate(_seeds(name)):
        Path("corpus", f"seed-{number}").write_bytes(seed)
    atheris.Setup(sys.argv, {f.__name__: f for f in (recording, data_file, archive)}[name])
    atheris.Fuzz()
