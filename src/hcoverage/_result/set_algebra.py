"""Set algebra on measured data: the difference, the intersection and the union of two results.

The elements are lines or, if branches were measured, arcs of each measured file, by its path on
this machine. They keep their contexts, which play no role in comparing.

Left to others: which lines are statements, since that takes the source, and all output.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hcoverage._errors import HcoverageError
from hcoverage._read.part import Kind, Part, arc_of
from hcoverage._result.target import held
from hcoverage._settings.rcfile import as_rcfile
from hcoverage._sources.roots import outside, reportable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from coverage.config import CoverageConfig

    from hcoverage._settings.rcfile import Rcfile


class SetAlgebraError(HcoverageError):
    """Two results cannot be compared, or one of them cannot be read."""


class Measured(NamedTuple):
    """A set of executed lines or arcs, by measured files and contexts.

    Attributes:
        part: The data.
        name: Its name in messages.
    """

    part: Part
    name: str = "the result"

    @property
    def kind(self) -> Kind:
        """Whether it holds lines or arcs."""
        if self.part.arcs:
            return Kind.ARCS
        return Kind.LINES if self.part.lines else Kind.NOTHING

    @property
    def files(self) -> frozenset[str]:
        """The measured files of which something ran."""
        return frozenset(path for rows in (self.part.lines, self.part.arcs) for path, _ in rows)

    def by_file(self) -> dict[str, frozenset[int]]:
        """Return the lines of each file that ran, in whatever context."""
        found: dict[str, set[int]] = {}
        for path, numbers in _lines_by_file(self.part).items():
            found[path] = _numbers_in(numbers)
        for path, arcs in _arcs_by_file(self.part).items():
            ends = (line for arc in arcs for line in arc_of(arc))
            found.setdefault(path, set()).update(line for line in ends if line > 0)
        return {path: frozenset(lines) for path, lines in found.items()}

    def arcs_by_file(self) -> dict[str, frozenset[tuple[int, int]]]:
        """Return the arcs of each file, in whatever context."""
        return {
            path: frozenset(map(arc_of, arcs)) for path, arcs in _arcs_by_file(self.part).items()
        }

    def minus(self, other: Measured) -> Measured:
        """Return what this has and the other has not.

        Raises:
            SetAlgebraError: One is about lines, the other about branches.
        """
        self._require_same_kind(other)
        lines, arcs = _lines_by_file(other.part), _arcs_by_file(other.part)
        return self._with(
            lambda path, numbers: numbers & ~lines.get(path, 0),
            lambda path, found: found - arcs.get(path, set()),
        )

    def common(self, other: Measured) -> Measured:
        """Return what both have, in the contexts of this one.

        Raises:
            SetAlgebraError: One is about lines, the other about branches.
        """
        self._require_same_kind(other)
        lines, arcs = _lines_by_file(other.part), _arcs_by_file(other.part)
        return self._with(
            lambda path, numbers: numbers & lines.get(path, 0),
            lambda path, found: found & arcs.get(path, set()),
        )

    def union(self, other: Measured) -> Measured:
        """Return what either has.

        Raises:
            SetAlgebraError: One is about lines, the other about branches.
        """
        self._require_same_kind(other)
        both = Part()
        for part in (self.part, other.part):
            both.paths.update(part.paths)
            both.contexts.update(part.contexts)
            for path, tracer in part.tracers.items():
                both.tracers.setdefault(path, tracer)
            for key, numbers in part.lines.items():
                both.lines[key] = both.lines.get(key, 0) | numbers
            for key, arcs in part.arcs.items():
                both.arcs.setdefault(key, set()).update(arcs)
        return Measured(_used(both, both.lines, both.arcs))

    def in_contexts(self, wanted: Iterable[str], name: str = "the result") -> Measured:
        """Return what ran in some of the contexts."""
        part, contexts = self.part, frozenset(wanted)
        lines = {key: value for key, value in part.lines.items() if key[1] in contexts}
        arcs = {key: value for key, value in part.arcs.items() if key[1] in contexts}
        return Measured(_used(part, lines, arcs), name)

    def without_contexts(self) -> Measured:
        """Return the same data, all in coverage.py's empty context."""
        lines = {(path, ""): numbers for path, numbers in _lines_by_file(self.part).items()}
        arcs = {(path, ""): found for path, found in _arcs_by_file(self.part).items()}
        return Measured(_used(self.part, lines, arcs), self.name)

    def write(self, data_file: str | os.PathLike[str]) -> None:
        """Write a data file that coverage.py's reports read; replace any file that is there.

        Raises:
            OSError: It cannot be written.
        """
        from hcoverage._result.merged import write_part  # noqa: PLC0415 - with much of coverage.py

        absolute = Path(os.path.abspath(data_file))  # noqa: PTH100 - a link is replaced
        with held(absolute) as target:
            write_part(self.part, target.result)
            target.put_in_place()

    def _with(
        self,
        lines_of: Callable[[str, int], int],
        arcs_of: Callable[[str, set[int]], set[int]],
    ) -> Measured:
        part = self.part
        lines = {key: lines_of(key[0], numbers) for key, numbers in part.lines.items()}
        arcs = {key: arcs_of(key[0], found) for key, found in part.arcs.items()}
        return Measured(_used(part, lines, arcs))

    def _require_same_kind(self, other: Measured) -> None:
        if {self.kind, other.kind} == {Kind.LINES, Kind.ARCS}:
            raise SetAlgebraError(
                f"{self.name} has {self.kind.value} and {other.name} has {other.kind.value}, which "
                "cannot be compared: measure both with the same `branch` setting"
            )


def read_measured(
    data_file: str | os.PathLike[str], coveragerc: str | os.PathLike[str] | Rcfile | None = None
) -> Measured:
    """Read what ran from a data file, and map it to paths on this machine.

    Files on this machine that are not the project's are left out, as when untrusted data is merged.

    Args:
        data_file: The data file.
        coveragerc: The rcfile with the `[paths]` to map by; by default the one that coverage.py
            finds in the current directory.

    Raises:
        SetAlgebraError: There is no such data file, or it is not one of coverage.py's.
        RcfileError: The rcfile cannot be used.
    """
    from hcoverage._read.data_file_batch import read_batch  # noqa: PLC0415
    from hcoverage._result.merged import Merged, PathMap  # noqa: PLC0415 - with much of coverage.py

    path = Path(data_file).absolute()
    if not path.exists():
        raise SetAlgebraError(f"there is no data file {data_file}: look for a typing error")
    batch = read_batch([str(path)])
    for refusal in batch.refused:
        raise SetAlgebraError(f"{data_file} is not a data file that can be read: {refusal.reason}")
    settings = as_rcfile(coveragerc).settings
    merged = Merged()
    map_path = PathMap(settings)
    for part in batch.parts.values():
        map_path.learn([part])
        merged.add(part, map_path)
    return Measured(merged.part.without(_outside(merged.part, settings)), str(data_file))


def _outside(part: Part, settings: CoverageConfig) -> frozenset[str]:
    here = Path.cwd()
    return outside(part.paths, reportable(settings, here), here)


def _used(
    whole: Part, lines: Mapping[tuple[str, str], int], arcs: Mapping[tuple[str, str], set[int]]
) -> Part:
    """Return a part with only the given rows, and the files and contexts that these mention."""
    lines = {key: numbers for key, numbers in lines.items() if numbers}
    arcs = {key: found for key, found in arcs.items() if found}
    paths = {path for path, _ in (*lines, *arcs)}
    contexts = sorted({context for _, context in (*lines, *arcs)})
    return Part(
        paths={path: place for path, place in whole.paths.items() if path in paths},
        contexts={context: context for context in contexts},
        lines=lines,
        arcs=arcs,
        tracers={path: tracer for path, tracer in whole.tracers.items() if path in paths},
    )


def _lines_by_file(part: Part) -> dict[str, int]:
    found: dict[str, int] = {}
    for (path, _), numbers in part.lines.items():
        found[path] = found.get(path, 0) | numbers
    return found


def _arcs_by_file(part: Part) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for (path, _), arcs in part.arcs.items():
        found.setdefault(path, set()).update(arcs)
    return found


def _numbers_in(numbers: int) -> set[int]:
    """List the bits that are set."""
    digits = f"{numbers:b}"[::-1]
    return {number for number, digit in enumerate(digits) if digit == "1"}
