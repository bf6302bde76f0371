"""What the door costs: docker's client through the proxy, beside the engine itself.

    python benchmarks/door_speed.py [ROUNDS]

It needs an engine, which `make bench` finds or starts. Each command is run in turn with the engine
and through the door, and `docker run` with what is injected as options by hand, so that whatever
else the machine does falls on all; told are medians and ratios. The exit status is 1 where one
is above what is promised: 1.05 beside the same by hand, and 1.1 for what is copied.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Final

import hcoverage
import hdocker

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROUNDS: Final = 40
COPY_ROUNDS: Final = 10
LARGE: Final = 150_000_000  # bytes
PROMISE: Final = 1.05
COPY_PROMISE: Final = 1.1
DEV: Final = Path(__file__).parents[1] / "dev"
SERVICE: Final = "  service-{}: {{image: {}, command: sleep 600, init: true}}\n"


def seconds(command: str, environment: Mapping[str, str]) -> float:
    """Time a command to its end."""
    before = time.perf_counter()
    subprocess.run(
        ["sh", "-c", command],
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return time.perf_counter() - before


def compare(
    name: str,
    ways: Mapping[str, tuple[str, Mapping[str, str]]],
    rounds: int,
    promise: float,
    after: str = "true",
) -> bool:
    """Run a command each way in turn, and print how long that takes.

    Args:
        name: What to call it.
        ways: The command and its environment by the way's name; the last two are compared.
        rounds: How often.
        promise: How many times as long as the last but one the last may take.
        after: What makes it possible again, which is not timed.

    Returns:
        Whether the promise holds.
    """
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, (command, environment) in ways.items():
            times[way].append(seconds(command, environment))
            seconds(after, environment)
    found = {way: statistics.median(each) for way, each in times.items()}
    plain, ours = list(found.values())[-2:]
    told = ", ".join(f"{way} {median * 1000:.0f} ms" for way, median in found.items())
    print(f"{name}: {told}; {ours / plain:.3f} times", flush=True)
    return ours / plain <= promise


@contextlib.contextmanager
def running(image: str, environment: Mapping[str, str]) -> Iterator[str]:
    """Have a container that runs."""
    name = f"hcoverage-bench-{uuid.uuid4().hex[:8]}"
    seconds(f"docker run --detach --init --name {name} {image} sleep 6000", environment)
    yield name
    seconds(f"docker rm --force {name}", environment)


def image_with_python() -> str:
    """Give the name of an image, which is made if it is not there."""
    made = subprocess.run([DEV / "python-image"], stdout=subprocess.PIPE, text=True, check=True)
    return made.stdout.splitlines()[-1]


def lay_out(project: Path, image: str) -> None:
    """Write what the commands work on."""
    services = "".join(SERVICE.format(number, image) for number in range(3))
    (project / "compose.yaml").write_text(f"services:\n{services}")
    (project / "context").mkdir()
    (project / "context" / "large").write_bytes(os.urandom(LARGE))
    (project / "context" / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")


def main() -> None:
    """Print medians; exit with 1 where a promise does not hold."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    if subprocess.run(["docker", "version"], capture_output=True, check=False).returncode:
        sys.exit('no engine answers; make engine, then: eval "$(dev/engine env)"')
    image = image_with_python()
    with contextlib.ExitStack() as undo:
        project = Path(undo.enter_context(tempfile.TemporaryDirectory()))
        undo.enter_context(contextlib.chdir(project))
        lay_out(project, image)
        session = undo.enter_context(hcoverage.open_session())
        direct = session.environment
        door = undo.enter_context(hdocker.containers_measured(direct))
        undo.enter_context(hcoverage.joined(door, measured=False))
        options = shlex.join(hdocker.injection_for(image).run_options())
        run = f"docker run --rm {image} true"
        seconds(run, door)  # the image is met

        def both(command: str) -> dict[str, tuple[str, Mapping[str, str]]]:
            return {"direct": (command, direct), "door": (command, door)}

        by_hand = (run.replace("--rm", f"--rm {options}"), direct)
        ways = {"direct": (run, direct), "by hand": by_hand, "door": (run, door)}
        kept = [compare("docker run", ways, rounds, PROMISE)]
        if not subprocess.run(["docker", "compose", "version"], check=False).returncode:
            up, down = "docker compose up --detach", "docker compose down --timeout 0"
            kept.append(compare("compose up of three", both(up), rounds, PROMISE, down))
        name = undo.enter_context(running(image, direct))
        copies = min(rounds, COPY_ROUNDS)
        for title, command in {
            "docker cp, in": f"docker cp context/large {name}:/large",
            "docker cp, out": f"docker cp {name}:/large copied",
            "docker build": "docker build --no-cache --quiet context",
        }.items():
            kept.append(compare(title, both(command), copies, COPY_PROMISE))
    print(f"the promises {'hold' if all(kept) else 'FAIL'}")
    sys.exit(0 if all(kept) else 1)


if __name__ == "__main__":
    main()
