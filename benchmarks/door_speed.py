"""What the door costs: clients of engines through it, beside the same with its mounts by hand.

    python benchmarks/door_speed.py [ROUNDS [LARGE_ROUNDS]]

It needs an engine, which `make bench` finds or starts, and takes six minutes on a quiet machine.
Each command is run in turn with the engine itself, with what is injected added by hand, and
through the door, so that whatever else the machine does falls on all; told are medians, the ratio
of the last to the one before it, and what is promised: 1.05, and 1.1 for what is copied. The exit
status is 1 where one is above that. Compose and podman are measured where they are there:

    export DOCKER_CONFIG=$(dev/docker-plugins)
    dev/podman up; eval "$(dev/podman env)"
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
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

    Environment = Mapping[str, str]
    Ways = Mapping[str, tuple[str, Environment]]

ROUNDS: Final = 40
LARGE_ROUNDS: Final = 15
LARGE: Final = 150_000_000  # bytes
PROMISE: Final = 1.05
COPY_PROMISE: Final = 1.1
DEV: Final = Path(__file__).parents[1] / "dev"


def seconds(command: str, environment: Environment) -> float:
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
    ways: Ways,
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
    kept = ours / plain <= promise
    word = "" if kept else ": FAILS"
    print(f"{name}: {told}; {ours / plain:.3f} times (aim {promise}{word})", flush=True)
    return kept


@contextlib.contextmanager
def running(image: str, environment: Environment) -> Iterator[str]:
    """Have a container that runs."""
    name = f"hcoverage-bench-{uuid.uuid4().hex[:8]}"
    seconds(f"docker run --detach --init --name {name} {image} sleep 6000", environment)
    yield name
    seconds(f"docker rm --force {name}", environment)


def image_with_python() -> str:
    """Give the name of an image, which is made if it is not there."""
    made = subprocess.run([DEV / "python-image"], stdout=subprocess.PIPE, text=True, check=True)
    return made.stdout.splitlines()[-1]


def composed(image: str, injection: hdocker.Injection | None = None) -> str:
    """Render a compose file of three services."""
    service: dict[str, object] = {"image": image, "command": "sleep 600", "init": True}
    if injection:
        service["environment"] = dict(injection.environment)
        service["volumes"] = [
            {
                "type": "bind",
                "source": str(mount.source),
                "target": mount.target,
                "read_only": mount.read_only,
            }
            for mount in injection.mounts
        ]
    # JSON is YAML.
    return json.dumps({"services": {f"service-{number}": service for number in range(3)}})


def lay_out(project: Path, image: str, injection: hdocker.Injection) -> None:
    """Write what the commands work on."""
    (project / "compose.yaml").write_text(composed(image))
    (project / "by-hand.yaml").write_text(composed(image, injection))
    (project / "context").mkdir()
    (project / "context" / "large").write_bytes(os.urandom(LARGE))
    (project / "context" / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")


def runs(
    client: str, image: str, injection: hdocker.Injection, direct: Environment, door: Environment
) -> Ways:
    """Give the three ways to run a container."""
    run = f"{client} run --rm {image} true"
    by_hand = run.replace("--rm", f"--rm {shlex.join(injection.run_options())}")
    return {"direct": (run, direct), "by hand": (by_hand, direct), "through the door": (run, door)}


def compare_docker(
    image: str, direct: Environment, door: Environment, rounds: int, large_rounds: int
) -> list[bool]:
    """Compare all that docker's clients do."""
    injection = hdocker.injection_for(image)
    lay_out(Path.cwd(), image, injection)
    ways = runs("docker", image, injection, direct, door)
    seconds(ways["through the door"][0], door)  # the image is met
    kept = [compare("docker run", ways, rounds, PROMISE)]
    if answers("docker", "compose", "version"):
        up = "docker compose up --detach"
        by_hand = up.replace("compose", "compose --file by-hand.yaml")
        ways = {
            "direct": (up, direct),
            "by hand": (by_hand, direct),
            "through the door": (up, door),
        }
        down = "docker compose down --timeout 0"
        kept.append(compare("compose up of three", ways, rounds, PROMISE, down))
    with running(image, direct) as name:
        for title, command in {
            "docker cp of 150 MB, in": f"docker cp context/large {name}:/large",
            "docker cp of 150 MB, out": f"docker cp {name}:/large copied",
            "a build's context of 150 MB": "docker build --no-cache --quiet context",
        }.items():
            ways = {"direct": (command, direct), "through the door": (command, door)}
            kept.append(compare(title, ways, large_rounds, COPY_PROMISE))
    return kept


def compare_podman(image: str, direct: Environment, door: Environment, rounds: int) -> list[bool]:
    """Compare `podman run`, with an image of docker's.

    The environment has no DOCKER_CONFIG: podman wants a file in it.
    """
    with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as saved:
        load = ["podman", "load", "--quiet"]
        subprocess.run(load, stdin=saved.stdout, check=True, stdout=subprocess.DEVNULL)
    injection = hdocker.injection_for(image, engine="podman")
    ways = runs("podman", image, injection, direct, door)
    seconds(ways["through the door"][0], door)  # the image is met
    return [compare("podman run", ways, rounds, PROMISE)]


def without_config(environment: Environment) -> Environment:
    """Give an environment without docker's configuration."""
    return {name: value for name, value in environment.items() if name != "DOCKER_CONFIG"}


def answers(*command: str) -> bool:
    """Tell whether a command is there, and works."""
    found = shutil.which(command[0])
    return bool(found) and not subprocess.run(command, check=False, capture_output=True).returncode


def main() -> None:
    """Print medians; exit with 1 where a promise does not hold."""
    told = [int(word) for word in sys.argv[1:]]
    rounds, large_rounds = [*told, *(ROUNDS, LARGE_ROUNDS)[len(told) :]]
    if not answers("docker", "version"):
        sys.exit('no engine answers; make engine, then: eval "$(dev/engine env)"')
    image = image_with_python()
    with contextlib.ExitStack() as undo:
        undo.enter_context(contextlib.chdir(undo.enter_context(tempfile.TemporaryDirectory())))
        session = undo.enter_context(hcoverage.open_session())
        direct = session.environment
        door = undo.enter_context(hdocker.containers_measured(direct))
        undo.enter_context(hcoverage.joined(door, measured=False))
        kept = compare_docker(image, direct, door, rounds, large_rounds)
        os.environ.pop("DOCKER_CONFIG", None)
        if answers("podman", "info"):
            kept += compare_podman(image, without_config(direct), without_config(door), rounds)
    print(f"the promises {'hold' if all(kept) else 'FAIL'}")
    sys.exit(0 if all(kept) else 1)


if __name__ == "__main__":
    main()
