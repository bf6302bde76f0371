"""The proxy's process: waits for the first client, and has a child serve it and all others.

Run as a program by `opening`, beside the measured command, in a session of its own: what a terminal
sends is not for it. Until a client comes it has loaded next to nothing. The child does the work;
should it end before the run does, what its clients lost is told, and the next one gets a new child.
"""

import os
import select
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def main() -> None:
    """Wait for clients until the run ends.

    The arguments are the descriptors of the listening socket and of a pipe that can be read when
    the run ends, the directory of the package, and what `Door.of_words` takes.
    """
    listener, ending, package, *words = sys.argv[1:]
    waiting = select.poll()
    waiting.register(int(listener), select.POLLIN)
    waiting.register(int(ending), select.POLLIN)
    while int(ending) not in [descriptor for descriptor, _ in waiting.poll()]:
        child = os.fork()
        if not child:
            _proxy(package).serve(int(listener), int(ending), words)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        if status and not _has_ended(int(ending)):
            _proxy(package).tell_end(status, words)


def _has_ended(ending: int) -> bool:
    return bool(select.select([ending], [], [], 0)[0])


def _proxy(package: str) -> "Any":  # noqa: ANN401 - a module
    """Load it without the package's `__init__`, which takes longer than a container to be made."""
    if "hdocker" not in sys.modules:
        parent = type(sys)("hdocker")
        parent.__path__ = [package]
        sys.modules["hdocker"] = parent
        # What hcoverage and this package are found by.
        sys.path.append(os.path.dirname(package))
    from hdocker._door import proxy

    return proxy


if __name__ == "__main__":
    main()
