"""Has podman run our hook when it starts a container.

Podman has no daemon through which all its clients come. But each reads `containers.conf`, which
names directories of OCI hooks; a hook for the stage `precreate` may change a container's
configuration. So containers are measured whoever calls podman, also those of pods and of
`podman kube play`. The session's `containers.conf` is the user's with one directory more.

With `--remote`, podman asks a service instead, by podman's own API or docker's. The service may be
older than the run, so its clients come through a door like docker's.

Formats: containers.conf(5), oci-hooks(5) and the OCI runtime specification.
"""

from __future__ import annotations

import glob
import json
import os
import shutil
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hcoverage import DATA_DIR_VARIABLE, SESSION_VARIABLE
from hdocker._door.connection import answers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

_VARIABLE: Final = "CONTAINERS_CONF"
_HOST: Final = "CONTAINER_HOST"
_CONNECTION: Final = "CONTAINER_CONNECTION"
_UNIX: Final = "unix://"
# The files that podman reads by default; a later one takes precedence.
_SYSTEM: Final = ("/usr/share/containers/containers.conf", "/etc/containers/containers.conf")
_USUAL_HOOKS: Final = ("/usr/share/containers/oci/hooks.d", "/etc/containers/oci/hooks.d")
_HOOK: Final = Path(os.path.abspath(__file__)).with_name("podman_hook.py")  # noqa: PTH100


def podman_measured(
    environment: Mapping[str, str], door_to: Callable[[str, str], str]
) -> dict[str, str]:
    """Have podman run our hook, whoever calls podman.

    Args:
        environment: The whole environment for the command, with the session's variables.
        door_to: Opens a door to a service, and returns its address. It takes the path of the
            service's socket, and that of podman.

    Returns:
        The environment that makes podman do so; the same if there is no podman.

    Raises:
        OSError: The configuration cannot be written.
    """
    client = podman_in(environment)
    if not client or not sys.executable:
        return dict(environment)
    try:
        settings = _users_settings(environment)
    except (OSError, ValueError):
        return dict(environment)  # Podman itself will report what is wrong.
    directory = Path(environment[SESSION_VARIABLE]).with_name("podman")
    hooks = directory / "hooks.d"
    hooks.mkdir(parents=True, exist_ok=True)
    (hooks / "hcoverage.json").write_text(json.dumps(_hook(client, environment)), "utf-8")
    engine = settings.setdefault("engine", {})
    usual = [each for each in _USUAL_HOOKS if os.path.isdir(each)]  # noqa: PTH112
    engine["hooks_dir"] = [*engine.get("hooks_dir", usual), str(hooks)]
    led = _led(environment, engine, lambda service: door_to(service, client))
    configuration = directory / "containers.conf"
    configuration.write_text(_rendered(settings), encoding="utf-8")
    return {**environment, **led, _VARIABLE: str(configuration)}


def podman_in(environment: Mapping[str, str]) -> str:
    """Return the path of podman; empty if there is none."""
    found = shutil.which("podman", path=environment.get("PATH"))
    return os.path.abspath(found) if found else ""  # noqa: PTH100


def _led(
    environment: Mapping[str, str], engine: dict[str, Any], door_to: Callable[[str], str]
) -> dict[str, str]:
    """If a service listens on a socket here, lead podman's remote clients to a door.

    Returns:
        The variables that lead them; none if the configuration does, which is changed then.
    """
    host = environment.get(_HOST)
    if host:
        service = _answering(host)
        return {_HOST: door_to(service)} if service else {}
    name = environment.get(_CONNECTION) or engine.get("active_service") or ""
    destinations = engine.setdefault("service_destinations", {})
    service = _answering(str(destinations.get(name, {}).get("uri", _usual_service(environment))))
    if service:
        name = name or "hcoverage"
        destinations[name] = {**destinations.get(name, {}), "uri": door_to(service)}
        engine.setdefault("active_service", name)
    return {}


def _usual_service(environment: Mapping[str, str]) -> str:
    own = environment.get("XDG_RUNTIME_DIR", "")
    directory = own if os.geteuid() and own else "/run"
    return f"{_UNIX}{directory}/podman/podman.sock"


def _answering(address: str) -> str:
    """Return the path of a service's socket; empty if none answers here."""
    path = address.removeprefix(_UNIX) if address.startswith(_UNIX) else ""
    return path if path and answers(path) else ""


def _hook(client: str, environment: Mapping[str, str]) -> dict[str, Any]:
    package = str(_HOOK.parents[1])
    told = (environment[SESSION_VARIABLE], environment[DATA_DIR_VARIABLE], str(os.getpid()), client)
    command = [sys.executable, "-I", "-S", str(_HOOK), package, *told]
    # The environment without the hook, since the hook itself calls podman to look into the image.
    variables = [f"{name}={value}" for name, value in environment.items()]
    return {
        "version": "1.0.0",
        "hook": {"path": sys.executable, "args": command, "env": variables},
        "when": {"always": True},
        "stages": ["precreate"],
    }


def _users_settings(environment: Mapping[str, str]) -> dict[str, Any]:
    """Read the configuration that podman would read.

    Raises:
        OSError, ValueError: Some of it cannot be read.
    """
    settings: dict[str, Any] = {}
    for file in _files(environment):
        with open(file, "rb") as content:  # noqa: PTH123
            _merge(settings, tomllib.load(content))
    return settings


def _files(environment: Mapping[str, str]) -> Iterator[str]:
    named = environment.get(_VARIABLE)
    if named:
        yield named
        return
    home = environment.get("HOME") or os.path.expanduser("~")  # noqa: PTH111
    own = environment.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")  # noqa: PTH118
    for file in (*_SYSTEM, os.path.join(own, "containers", "containers.conf")):  # noqa: PTH118
        if os.path.isfile(file):  # noqa: PTH113
            yield file
        yield from sorted(glob.glob(f"{glob.escape(file)}.d/*.conf"))  # noqa: PTH207


def _merge(settings: dict[str, Any], more: Mapping[str, Any]) -> None:
    for name, value in more.items():
        known = settings.get(name)
        if isinstance(known, dict) and isinstance(value, dict):
            _merge(known, value)
        else:
            settings[name] = value


def _rendered(settings: Mapping[str, Any]) -> str:
    """Return settings as TOML."""
    parts = []
    for name, value in settings.items():
        if isinstance(value, dict):
            lines = (f"{_text(key)} = {_value(each)}" for key, each in value.items())
            parts.append(f"[{_text(name)}]\n" + "".join(f"{line}\n" for line in lines))
        else:
            parts.insert(0, f"{_text(name)} = {_value(value)}\n")
    return "\n".join(parts)


def _value(value: object) -> str:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, dict):
        return f"{{{_joined(f'{_text(key)} = {_value(each)}' for key, each in value.items())}}}"
    if isinstance(value, list):
        return f"[{_joined(map(_value, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)  # Python writes numbers and times as TOML does.


def _joined(items: Iterable[str]) -> str:
    return ", ".join(items)


def _text(text: str) -> str:
    # TOML has JSON's escapes, but no pairs of surrogates.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
