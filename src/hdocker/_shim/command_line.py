"""A client's command line: where the image is in it, and what it says of mounts and variables.

Which options there are and which take a value is not known here; the client's own help tells, so
that any version of docker and podman is understood. Read at each `docker run` of a measured command
(`_shim`), so it imports nothing but what every Python start has loaded.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# What clients take and their help does not show, all with a value.
_HIDDEN = (
    *("--net", "--net-alias", "--dns-opt"),
    *("--cpu-count", "--cpu-percent", "--io-maxbandwidth", "--io-maxiops"),
)


class UnknownOptionError(Exception):
    """An option that the client's help does not have; whether its value comes next is not known."""


class CommandLine:
    """What is known of the arguments of `docker run` or `docker create`.

    Attributes:
        client_options: The client's own options, before the subcommand.
        options: The subcommand's options, by their long names where they have one, in their order;
            the value of a switch is an empty string.
        insert_at: Where in the arguments further options may be put, as the last ones.
        image: The image, as named; empty where there is none.
    """

    # Not a dataclass, which would take as long to load as all the rest.
    __slots__ = ("client_options", "image", "insert_at", "options")

    def __init__(
        self,
        client_options: Sequence[str],
        options: Sequence[tuple[str, str]],
        insert_at: int,
        image: str,
    ) -> None:
        self.client_options = client_options
        self.options = options
        self.insert_at = insert_at
        self.image = image

    def values(self, *names: str) -> list[str]:
        """List what was given for options, by their long names."""
        return [value for name, value in self.options if name in names]

    def value(self, name: str, default: str = "") -> str:
        """Give what an option that may be given once comes to."""
        return [default, *self.values(name)][-1]

    def mount_targets(self) -> list[str]:
        """List where in the container the user has something mounted."""
        volumes = [[*value.split(":"), ""][:2] for value in self.values("--volume")]
        return [
            *(os.path.normpath(second or first) for first, second in volumes),
            *(os.path.normpath(value.partition(":")[0]) for value in self.values("--tmpfs")),
            *(os.path.normpath(_mount_target(value)) for value in self.values("--mount")),
        ]

    def variables(self, client_environment: Mapping[str, str]) -> dict[str, str | None]:
        """Give the variables that the user sets; None for one that is taken away.

        Args:
            client_environment: Where the value of `-e NAME` comes from.

        Raises:
            OSError: A file of `--env-file` cannot be read.
        """
        found: dict[str, str | None] = {}
        # The client reads files first, wherever they are named.
        settings = [line for path in self.values("--env-file") for line in _lines_of(path)]
        for setting in [*settings, *self.values("--env")]:
            name, equals, value = setting.partition("=")
            found[name] = value if equals else client_environment.get(name)
        return found


def subcommand_at(arguments: Sequence[str], options: Mapping[str, str]) -> int:
    """Find the subcommand behind the client's own options.

    Args:
        arguments: The client's arguments.
        options: The client's own options, as `read_help` gives them.

    Returns:
        The place of its last word, `run` in `container run`; that of the last argument where
        there is none.

    Raises:
        UnknownOptionError: One of the options before it is not among them.
    """
    end, _ = read_options(arguments, 0, options)
    if arguments[end : end + 1] == ["container"]:
        end += 1
    return min(end, len(arguments) - 1)


def read(arguments: list[str], subcommand: int, options: Mapping[str, str]) -> CommandLine:
    """Read the arguments of `run` or `create`.

    Args:
        arguments: The client's arguments.
        subcommand: Where the subcommand is.
        options: The subcommand's options, as `read_help` gives them.

    Raises:
        UnknownOptionError: One of the options before the image is not among them.
    """
    end, found = read_options(arguments, subcommand + 1, options)
    image_at = end + 1 if arguments[end : end + 1] == ["--"] else end
    image = arguments[image_at] if image_at < len(arguments) else ""
    own = arguments[:subcommand]
    if own[-1:] == ["container"]:
        own = own[:-1]
    return CommandLine(own, found, end, image)


def read_options(
    arguments: Sequence[str], start: int, options: Mapping[str, str]
) -> tuple[int, list[tuple[str, str]]]:
    """Read options up to what is none.

    Args:
        arguments: A client's arguments.
        start: Where in them to begin.
        options: The options that may be there, as `read_help` gives them.

    Returns:
        The place of what is none, and the options, as in `CommandLine`.

    Raises:
        UnknownOptionError: One of the options is not among them.
    """
    found: list[tuple[str, str]] = []
    at = start
    while at < len(arguments) and _is_option(arguments[at]):
        argument = arguments[at]
        if argument.startswith("--"):
            name, equals, value = argument.partition("=")
            known = [(_known(options, name), value if equals else None)]
        else:
            known = list(_read_cluster(argument, options))
        at += 1
        for long_name, attached in known:
            if attached is None and long_name.endswith("="):
                found.append((long_name[:-1], arguments[at] if at < len(arguments) else ""))
                at += 1
            else:
                found.append((long_name.rstrip("="), attached or ""))
    return at, found


def read_help(text: str) -> dict[str, str]:
    """Read from the help of a client's command which options there are.

    Returns:
        For each name of an option, `-e` and `--env`, its long name, followed by `=` if a value
        comes with it.
    """
    options = {name: f"{name}=" for name in _HIDDEN}
    for line in text.splitlines():
        # `  -e, --env list      Set environment variables`; the description is set off.
        words = line.strip().partition("  ")[0].replace(",", " ").split()
        names = [word for word in words if word.startswith("-")]
        if not names or words[: len(names)] != names:
            continue
        # `string[="missing"]` may be left out, and then is not the next word.
        takes_value = len(words) > len(names) and "[=" not in words[-1]
        for name in names:
            options[name] = names[-1] + ("=" if takes_value else "")
    return options


def _is_option(argument: str) -> bool:
    return argument.startswith("-") and argument not in {"-", "--"}


def _read_cluster(argument: str, options: Mapping[str, str]) -> Iterator[tuple[str, str | None]]:
    """Read `-it`, `-eA=B`, `-ite A=B`."""
    letters = argument[1:]
    while letters:
        long_name = _known(options, f"-{letters[0]}")
        letters = letters[1:]
        if letters and (letters[0] == "=" or long_name.endswith("=")):
            yield long_name, letters.removeprefix("=")
            return
        yield long_name, None


def _known(options: Mapping[str, str], name: str) -> str:
    try:
        return options[name]
    except KeyError:
        raise UnknownOptionError(
            f"the client's help does not have {name}, so the image cannot be told from its value"
        ) from None


def _mount_target(value: str) -> str:
    # A line of CSV. A comma in quotes makes two fields of one here, and neither is a target.
    for field in value.split(","):
        key, _, target = field.strip('"').partition("=")
        if key.lower() in {"target", "dst", "destination"}:
            return target
    return ""


def _lines_of(path: str) -> list[str]:
    # Universal newlines: as the clients, without a carriage return at the end.
    with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
        lines = [line.lstrip().removesuffix("\n") for line in file]
    return [line for line in lines if line and not line.startswith("#")]
