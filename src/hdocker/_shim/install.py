"""The shims: a `docker` and a `podman` first on the measured command's PATH.

So tests that start containers themselves, whatever the image, have them measured. A shim is a few
lines of `sh`, which become the real client at once but for the commands that start a container;
what it does for those is `_shim`'s business.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hcoverage import CONTAINERS_VARIABLE, DATA_DIR_VARIABLE, SESSION_VARIABLE
from hdocker._engine.engine import ENGINES
from hdocker._shim.main import SUBCOMMANDS, write_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

# The word after an option may be its value or the subcommand; `_shim` knows which. What a client
# is called with beyond its subcommand is not looked at. A variable of the user's may have any name,
# and would be changed for the client. An empty session is nobody's, so that the shim itself is not
# missed in the report.
_TEXT: Final = """\
#!/bin/sh
# Made by hcoverage for the length of `hcov run`; `hcov run --no-containers` does without.
_hcov_session={session}
if [ "${{{containers}-1}}" != 0 ] && [ -x {python} ] &&
    [ "${{{session_variable}-$_hcov_session}}" = "$_hcov_session" ]
then
    _hcov_option=
    for _hcov_word do
        case $_hcov_word in
            {subcommands})
                [ "$_hcov_word" != "$1" ] || [ "${{DOCKER_HOST:-none}}" != {door} ] || break
                _hcov_set="${{{session_variable}+session}} ${{LC_CTYPE+locale}}"
                {session_variable}=; export {session_variable}
                exec {python} -I -S -c {start} {client} {session} "$_hcov_set" "$@" ;;
            -* | container) _hcov_option=yes ;;
            *) [ "$_hcov_option" ] || break; _hcov_option= ;;
        esac
    done
fi
exec {client} "$@"
"""
_PACKAGE: Final = str(Path(os.path.abspath(__file__)).parents[1])  # noqa: PTH100
# The package without its `__init__`, which takes longer to load than a container to be made.
_START: Final = """\
import sys
package = type(sys)("hdocker")
package.__path__ = [{package!r}]
sys.modules["hdocker"] = package
from hdocker._shim.main import main
main()
"""


def measure_containers(
    environment: Mapping[str, str], *, engine: str = "", door: str = ""
) -> dict[str, str]:
    """Have the containers measured that clients on PATH start, called by their names.

    Args:
        environment: The whole environment for the command, as the session has it.
        engine: The path of the socket of the engine that has a door.
        door: The address of the door, which shims lead to instead of measuring by themselves.

    Returns:
        The environment, with the shims first on PATH if there is a client on it.

    Raises:
        OSError: The shims cannot be written.
    """
    session = environment[SESSION_VARIABLE]
    directory = Path(session).with_name("bin")
    search_path = environment.get("PATH", os.defpath)
    clients = {name: shutil.which(name, path=search_path) for name in ENGINES}
    found = {name: os.path.abspath(path) for name, path in clients.items() if path}  # noqa: PTH100
    here = [os.path.abspath(entry) for entry in sys.path]  # noqa: PTH100
    known = {"path": here, "data_dir": environment[DATA_DIR_VARIABLE]}
    write_settings(session, {**known, "engine": engine, "door": door})
    if not found:
        return dict(environment)
    directory.mkdir(mode=0o755, exist_ok=True)
    for name, client in found.items():
        shim = directory / name
        shim.write_text(_text(client, session, door), encoding="utf-8")
        shim.chmod(0o755)
    return {**environment, "PATH": f"{directory}{os.pathsep}{search_path}"}


def _text(client: str, session: str, door: str) -> str:
    words = {
        "client": client,
        "session": session,
        "door": door if os.path.basename(client) == "docker" else "",  # noqa: PTH119
        "python": sys.executable,
        "start": _START.format(package=_PACKAGE),
    }
    return _TEXT.format(
        containers=CONTAINERS_VARIABLE,
        session_variable=SESSION_VARIABLE,
        subcommands=" | ".join(SUBCOMMANDS),
        **{name: shlex.quote(word) for name, word in words.items()},
    )
