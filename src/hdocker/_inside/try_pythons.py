"""Runs in an image's own Python: tries whether the image's Pythons are measured.

`_doctor` passes this file's source to a container, so it stands alone: the standard library only,
nothing newer than Python 3.8, and only the answer on stdout, as JSON in the last line.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

_VERSION = "import sys; print('%d.%d' % sys.version_info[:2])"
_MOST = 10
_PATIENCE = 30  # seconds


def main(directory: str, *others: str) -> None:
    """Run the file `{number}-{way}.py` with each Python, in each way.

    Args:
        directory: The directory of the files.
        others: Known Pythons beside those on PATH.
    """
    tried = []
    for number, python in enumerate(_find(others)[:_MOST]):
        tried.append({"path": python, "version": _output([python, "-I", "-S", "-c", _VERSION])})
        probes = [str(Path(directory, f"{number}-{way}.py")) for way in range(4)]
        # The ways of hcoverage's `proof`, in its order.
        _run([python, probes[0]])
        _run([python, "-I", probes[1]])
        _run([python, probes[2]], is_emptied=True)
        _run([python, probes[3]], is_killed=True)
    sys.stdout.write(json.dumps(tried))


def _find(others: "tuple[str, ...]") -> "list[str]":
    found: dict[str, str] = {}
    for entry in map(Path, os.environ.get("PATH", os.defpath).split(os.pathsep)):
        for path in sorted(entry.glob("python*")):
            if re.match(r"python(3(\.[0-9]+)?)?$", path.name) and os.access(path, os.X_OK):
                # In a virtual environment, a link is another Python than its target.
                is_own = (entry.parent / "pyvenv.cfg").exists()
                found.setdefault(str(entry if is_own else path.resolve()), str(path))
    for path in map(Path, others):
        found.setdefault(str(path.resolve()), str(path))
    return list(found.values())


def _run(argv: "list[str]", *, is_emptied: bool = False, is_killed: bool = False) -> None:
    # If this fails, no lines come back, and that is reported.
    with (
        contextlib.suppress(OSError, subprocess.TimeoutExpired),
        subprocess.Popen(
            argv,
            env={} if is_emptied else None,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as process,
    ):
        if is_killed and process.stdout is not None and process.stdout.readline():
            # coverage.py's data is first saved after a tenth of a second, the recorder's at
            # once; nothing here can see that.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1)
            process.kill()
        process.communicate(b"\n", timeout=_PATIENCE)


def _output(argv: "list[str]") -> str:
    try:
        return subprocess.check_output(argv, stderr=subprocess.DEVNULL).decode().strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


if __name__ == "__main__":
    main(*sys.argv[1:])
