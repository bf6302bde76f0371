"""The hook that podman runs when it starts a container: adds our mounts and variables.

Podman runs it as a program (see `podman`), with the container's OCI configuration on stdin, and
takes the new one from stdout. Podman waits, so the package is loaded without its `__init__`. If
anything goes wrong, the container starts unchanged, and the run tells that.
"""

import os
import sys


def main() -> None:
    """Answer podman.

    The arguments are the directory of the package, the session's startup directory, its data
    directory, the id of the process that has the session, and the path of podman.
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
    # Where hcoverage and this package are.
    sys.path.append(os.path.dirname(package))
    from hdocker._door.oci import measured
    from hdocker._door.quick_json import read, written

    changed = measured(read(said), *told)
    return None if changed is None else written(changed)


if __name__ == "__main__":
    main()
