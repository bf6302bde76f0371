"""Small programs as they are in other people's hot code: `recorder_speed` runs each by its name.

    python benchmarks/kernels.py NAME

Each takes a quarter of a second, or a little more.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TEXT: Final = "(1 + 23) * (4 - 5) / 67 " * 20


def sieve() -> None:
    """Numbers without divisors."""
    for _ in range(1200):
        prime = [True] * 3000
        for number in range(2, 55):
            if prime[number]:
                for multiple in range(number * number, 3000, number):
                    prime[multiple] = False


def fibonacci(number: int = 31) -> int:
    """Calls of a short function."""
    if number < 2:  # noqa: PLR2004
        return number
    return fibonacci(number - 1) + fibonacci(number - 2)


def collatz() -> None:
    """A loop with two ways, both taken."""
    for start in range(1, 30_000):
        number = start
        while number != 1:
            if number % 2:
                number = 3 * number + 1
            else:
                number //= 2


def insertion_sort() -> None:
    """A loop that ends by one of two conditions."""
    for shift in range(900):
        numbers = [(index * 7919 + shift) % 503 for index in range(120)]
        for index in range(1, len(numbers)):
            number = numbers[index]
            place = index
            while place and numbers[place - 1] > number:
                numbers[place] = numbers[place - 1]
                place -= 1
            numbers[place] = number


def matrix() -> None:
    """Loops in loops, without a branch."""
    size = range(20)
    left = [[row + column for column in size] for row in size]
    for _ in range(300):
        product = [[0] * 20 for _ in size]
        for row in size:
            for column in size:
                total = 0
                for each in size:
                    total += left[row][each] * left[each][column]
                product[row][column] = total


def words() -> None:
    """A dictionary that is filled."""
    for _ in range(5000):
        seen: dict[str, int] = {}
        for word in ("one two three two one " * 40).split():
            if word in seen:
                seen[word] += 1
            else:
                seen[word] = 1


def parse() -> None:
    """A chain of conditions."""
    for _ in range(2200):
        found: list[int | str] = []
        place = 0
        while place < len(TEXT):
            character = TEXT[place]
            if character.isspace():
                place += 1
            elif character.isdigit():
                end = place
                while end < len(TEXT) and TEXT[end].isdigit():
                    end += 1
                found.append(int(TEXT[place:end]))
                place = end
            else:
                found.append(character)
                place += 1


class Place:
    """A place on a line."""

    def __init__(self, where: int) -> None:
        self.where = where

    def moved(self, by: int) -> Place:
        """Return another place, or this."""
        if by:
            return Place(self.where + by)
        return self


def objects() -> None:
    """Methods, and objects that are made."""
    place = Place(0)
    for step in range(1_300_000):
        place = place.moved(step % 3)


def numbers_without_every_third(count: int) -> Iterator[int]:
    """Yield numbers."""
    for number in range(count):
        if number % 3:
            yield number


def generators() -> None:
    """A generator that leaves some out."""
    total = 0
    for number in numbers_without_every_third(2_500_000):
        if number & 1:
            total += number


def exceptions() -> None:
    """Exceptions that are caught where they are raised."""
    known = {1: 1}
    for number in range(1_000_000):
        try:  # noqa: SIM105 - that is measured
            known[number & 3]
        except KeyError:
            pass


def comprehension() -> None:
    """A condition in a comprehension."""
    for _ in range(4000):
        [number * number for number in range(1000) if number % 3]


def queens() -> None:
    """A search that goes back."""

    def solutions(row: int, columns: set[int], sums: set[int], differences: set[int]) -> int:
        if row == 7:  # noqa: PLR2004
            return 1
        count = 0
        for column in range(7):
            if column in columns or row + column in sums or row - column in differences:
                continue
            count += solutions(
                row + 1, columns | {column}, sums | {row + column}, differences | {row - column}
            )
        return count

    for _ in range(400):
        solutions(0, set(), set(), set())


KERNELS: Final[dict[str, Callable[[], object]]] = {
    each.__name__: each
    for each in (
        *(sieve, fibonacci, collatz, insertion_sort, matrix, words),
        *(parse, objects, generators, exceptions, comprehension, queens),
    )
}

if __name__ == "__main__":
    KERNELS[sys.argv[1]]()
