"""Keeps what is known of tests from run to run, in a directory beside the data file.

The directory has a `.gitignore` of its own. It is not needed to measure: if it is removed, all
tests count as needed. CI keeps it from build to build, like other caches. For each test its last
run is kept, with all that was known then. So a run of some tests leaves the records of the others
as they were.
"""

from __future__ import annotations

import dataclasses
import json
import zlib
from typing import TYPE_CHECKING, Any, Final

from hcoverage._affected.blocks import Block, Shape
from hcoverage._affected.facts import EarlierRun, FileFacts, KnownTest, ProjectState
from hcoverage._affected.state_kept import Handed
from hcoverage._affected.statements import Body, Part
from hcoverage._atomic_write import write_atomically
from hcoverage._errors import HcoverageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

DIRECTORY: Final = ".hcov_cache"
_VERSION: Final = 5
_SUFFIX: Final = ".tests"
_LARGEST: Final = 1 << 30  # bytes, unpacked


class TestRecordError(HcoverageError):
    """The record of earlier runs cannot be read."""


@dataclasses.dataclass(frozen=True)
class KnownRun:
    """An earlier run, and the tests whose last run it is.

    Attributes:
        run: The run.
        latest: The names of these tests.
    """

    run: EarlierRun
    latest: frozenset[str]


def record_path(data_file: Path) -> Path:
    """Return the path of the record that belongs to a data file."""
    return data_file.parent / DIRECTORY / f"{data_file.name}{_SUFFIX}"


def read_record(data_file: Path) -> list[KnownRun]:
    """Read the record that belongs to a data file; return an empty list if there is none.

    Raises:
        TestRecordError: The record is damaged, or of another version.
        OSError: It cannot be opened.
    """
    path = record_path(data_file)
    try:
        packed = path.read_bytes()
    except FileNotFoundError:
        return []
    try:
        unpacker = zlib.decompressobj()
        content = json.loads(unpacker.decompress(packed, _LARGEST))
        if not unpacker.eof or content["version"] != _VERSION:
            raise TestRecordError(f"{path} is of another version of hcov, or cut off")
        shapes = {digest: _shape(facts) for digest, facts in content["shapes"].items()}
        return [_known_run(facts, shapes) for facts in content["runs"]]
    except (zlib.error, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise TestRecordError(f"{path} is damaged: {error}") from error


def add_run(data_file: Path, run: EarlierRun, before: Iterable[KnownRun] = ()) -> Path:
    """Add a run to the record.

    Args:
        data_file: The data file.
        run: The run.
        before: The runs of the record so far.

    Returns:
        The record's path.

    Raises:
        OSError: It cannot be written.
    """
    known = [KnownRun(run, frozenset(run.tests))]
    for earlier in before:
        latest = earlier.latest - run.tests.keys()
        if latest:
            known.append(KnownRun(earlier.run, latest))
    path = record_path(data_file)
    path.parent.mkdir(parents=True, exist_ok=True)
    ignored = path.parent / ".gitignore"
    if not ignored.exists():
        ignored.write_text("# Made by hcov: what it knows of the tests.\n*\n", encoding="utf-8")
    shapes: dict[str, Any] = {}
    runs = [_packed_run(each, shapes) for each in known]
    content = {"version": _VERSION, "shapes": shapes, "runs": runs}
    write_atomically(path, zlib.compress(json.dumps(content).encode(), 1))
    return path


def packed_state(state: ProjectState) -> dict[str, Any]:
    """Return a state in the types of JSON."""
    shapes: dict[str, Any] = {}
    return {"files": _packed_files(state.files, shapes), "shapes": shapes, **_environment(state)}


def unpacked_state(content: Mapping[str, Any]) -> ProjectState:
    """Return the state that `packed_state` has packed."""
    shapes = {digest: _shape(facts) for digest, facts in content["shapes"].items()}
    return ProjectState(dict(content["environment"]), _files(content["files"], shapes))


def _environment(state: ProjectState) -> dict[str, Any]:
    return {"environment": dict(state.environment)}


def _packed_files(files: Mapping[str, FileFacts], shapes: dict[str, Any]) -> dict[str, Any]:
    packed = {}
    for path, facts in files.items():
        key = ""
        if facts.shape is not None:
            key = facts.digest or facts.shape.frame
            if key not in shapes:
                shapes[key] = _packed_shape(facts.shape)
        packed[path] = [facts.digest, key, *filter(None, [facts.manner])]
    return packed


def _files(content: Mapping[str, Any], shapes: Mapping[str, Shape]) -> dict[str, FileFacts]:
    return {
        path: FileFacts(digest, shapes[key] if key else None, *manner)
        for path, (digest, key, *manner) in content.items()
    }


def _packed_shape(shape: Shape) -> list[Any]:
    """Give its fields; `dataclasses.astuple` would copy each text and list in them."""
    return [*{**vars(shape), "blocks": [_packed_block(each) for each in shape.blocks]}.values()]


def _packed_block(block: Block) -> list[Any]:
    parts = [[*vars(part).values()] for part in block.body.parts]
    given = [*vars(block.handed).values()]
    return [*{**vars(block), "handed": given, "body": [block.body.skeleton, parts]}.values()]


def _shape(content: Any) -> Shape:  # noqa: ANN401 - JSON
    frame, blocks, names, calls, bases, plain, ordinary, shared = content
    return Shape(
        frame,
        tuple(map(_block, blocks)),
        tuple(names),
        tuple(calls),
        tuple((name, tuple(of_class)) for name, of_class in bases),
        tuple(plain),
        tuple(ordinary),
        tuple((name, tuple(of_class)) for name, of_class in shared),
    )


def _block(content: Any) -> Block:  # noqa: ANN401 - JSON
    name, first, last, digest, names, calls, keeps, in_self, for_itself, made, given, body = content
    own, taken, gives, changes, passes, lends, sets = given
    of_others = Handed(tuple(own), tuple(taken), gives, changes, tuple(passes), tuple(lends), sets)
    keeping = (keeps, in_self, for_itself, tuple(made), of_others)
    skeleton, parts = body
    split = Body(skeleton, tuple(Part(*part) for part in parts))
    return Block(name, first, last, digest, tuple(names), tuple(calls), *keeping, split)


def _packed_run(known: KnownRun, shapes: dict[str, Any]) -> dict[str, Any]:
    run = known.run
    numbers = {name: number for number, name in enumerate(run.tests)}
    tests = [
        [
            name,
            test.file,
            test.outcome,
            sorted(test.opened),
            test.went_outside,
            test.seen_outside,
            sorted(test.shares),
            name in known.latest,
        ]
        for name, test in run.tests.items()
    ]
    ran = {path: _packed_lines(lines, numbers) for path, lines in run.ran.items()}
    return {
        "began": run.began,
        "files": _packed_files(run.state.files, shapes),
        "tests": tests,
        "ran": ran,
        "opened": sorted(run.opened),
        "doubt": run.doubt,
        "outside": run.went_outside,
        **_environment(run.state),
    }


def _packed_lines(lines: Mapping[str, int], numbers: Mapping[str, int]) -> dict[str, list[int]]:
    """Return the tests for each set of lines: many tests run the same lines of a file."""
    packed: dict[str, list[int]] = {}
    for name, mask in lines.items():
        packed.setdefault(f"{mask:x}", []).append(numbers.get(name, -1))
    return packed


def _known_run(content: Mapping[str, Any], shapes: Mapping[str, Shape]) -> KnownRun:
    tests, latest = {}, []
    for name, file, outcome, opened, outside, seen, shares, is_latest in content["tests"]:
        tests[name] = KnownTest(file, outcome, frozenset(opened), outside, seen, frozenset(shares))
        if is_latest:
            latest.append(name)
    names = [*tests, ""]  # -1 is the last one: no test.
    ran = {
        path: {names[number]: int(mask, 16) for mask, who in lines.items() for number in who}
        for path, lines in content["ran"].items()
    }
    state = ProjectState(dict(content["environment"]), _files(content["files"], shapes))
    run = EarlierRun(
        content["began"],
        state,
        tests,
        ran,
        frozenset(content["opened"]),
        content["doubt"],
        content["outside"],
    )
    return KnownRun(run, frozenset(latest))
