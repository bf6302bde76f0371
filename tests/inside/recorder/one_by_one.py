"""What coverage.py data single recordings make, each record read with care and by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coverage.numbits import numbits_to_nums

from hcoverage._combine.recorded_part import Group, Selected, select
from hcoverage._read.part import Kind, Part, arc_of
from hcoverage._read.recording_batch import RanSource

if TYPE_CHECKING:
    from collections.abc import Iterable

    from coverage import CoverageData
    from coverage.config import CoverageConfig

    from hcoverage._read.recording_files import Recording


def add_to_data(
    recordings: Iterable[Recording],
    data: CoverageData,
    config: CoverageConfig,
) -> Selected:
    """Add what single recordings hold to coverage.py data."""
    groups = [
        Group(recording.process, tuple(map(RanSource.of, recording.sources)))
        for recording in recordings
    ]
    selected = select(groups, config)
    if selected.part is not None:
        put_into(data, selected.part)
    return selected


def put_into(data: CoverageData, part: Part) -> None:
    """Write a part, by coverage.py itself."""
    for path, context in sorted({*part.lines, *part.arcs}):
        data.set_context(context)
        if part.kind is Kind.ARCS:
            data.add_arcs({path: [arc_of(arc) for arc in part.arcs[path, context]]})
        else:
            bits = part.lines[path, context]
            numbits = bits.to_bytes((bits.bit_length() + 7) // 8, "little")
            data.add_lines({path: numbits_to_nums(numbits)})
