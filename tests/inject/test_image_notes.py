"""What is told of images is told of each as it is, whatever the image is called."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

from hcoverage._data_directory.names import pids_of, process_of
from hcoverage._data_directory.notes import is_note, notes, problems
from hdocker._inject.prepared_image import Notes

if TYPE_CHECKING:
    from pathlib import Path

REGISTRIES: Final = ("", "localhost:5000/", "10.0.0.7:443/", "ghcr.io/org/")
NAMES: Final = ("alpine", "a.b", "a_b", "a-b", "a/b", "x" * 250)
TAGS: Final = ("", ":3", ":3.10", ":3-10", ":3_10", ":v1.2.3-rc.4")
DIGESTS: Final = ("", f"@sha256:{'0123456789abcdef' * 4}")
IMAGES: Final = ["".join(each) for each in itertools.product(REGISTRIES, NAMES, TAGS, DIGESTS)]
TEXTS: Final = ("there is no Python in it to measure", "/usr/bin/python2.7 is too old")


def test_what_is_told_of_images_is_told_of_each_as_it_is(tmp_path: Path) -> None:
    told = [*itertools.product(IMAGES, TEXTS)]
    for image, text in told:
        Notes(tmp_path, image).add(text)
        Notes(tmp_path, image).add(text)  # as another process of the session does
    assert sorted(problems(tmp_path)) == sorted(f"image {image}: {text}" for image, text in told)
    names = [note.name for note in notes(tmp_path)]
    assert all(map(is_note, names))
    assert not pids_of(names)
    assert not any(map(process_of, names))
