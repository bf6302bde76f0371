"""What podman runs as it starts a container: adds what measures to what the container is made of.

Run as a program (`podman` says how), with the container's OCI configuration on stdin; what is on
stdout is what the container gets. It waits for this, so the package is loaded without its
`__init__`. Whatever goes wrong, the container starts as it would, and that is told.
"""

import os
import sys


def main() -> None:
    """Answer podman.

    The arguments are the directory of the package, the session's startup directory, its data
    directory, the process id of who has the session, and the client's path.
    """
    said = sys.stdin.buffer.read()
    package, session, data_dir, owner, client = sys.argv[1:]
    changed = None
    if os.path.isdir(session):
        changed = _changed(said, package, session, data_dir, owner, client)
    sys.stdout.buffer.write(said if changed is None else changed)


def _changed(said: bytes, package: str, *told: str) -> "bytes | None":
    parent = type(sys)("hdocker")
    parent.__path__ = [package]
    sys.modules["hdocker"] = parent
    # What hcoverage and this package are found by.
    sys.path.append(os.path.dirname(package))
    from hdocker._door.oci import measured
    from hdocker._door.quick_json import read, written

    changed = measured(read(said), *told)
    return None if changed is None else written(changed)


if __name__ == "__main__":
    main()
