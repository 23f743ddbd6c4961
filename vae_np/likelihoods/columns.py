"""Which family each column of a table has, by name: read from a file or a mapping, and never guessed silently. [D66]

A column is written as a tuple of words, its name, its family, and its levels where it has some: that is what TOML, JSON
and a checkpoint can hold, and what comes back from them the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vae_np._types import Array
from vae_np.errors import DataError, InputError, MissingFileError, did_you_mean

# (name, family, *levels)
Column = tuple[str, ...]
Columns = tuple[Column, ...]
# What stands in a text for a cell without a value.
MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?", "-"})
# A column of whole numbers with no more different ones than this may be a category.
_FEW = 12
_MOST_LEVELS = 65536
_SHOWN = 6


def canonical(given: Any, families: Mapping[str, int | None]) -> Columns:
    """Columns as tuples of words, from a mapping of names to families, or from what this returned once.

    `families` has each family's default number of levels: 0 where it has none, None where they must be named. A family
    is its name, or a mapping with `family` and `levels`: a number of them, or their names. Raises InputError for a
    family that is not known, for levels where there are none and none where there have to be, and for a column that is
    named twice.
    """
    if isinstance(given, Mapping):
        pairs: Iterable[tuple[Any, Any]] = given.items()
    elif isinstance(given, list | tuple):
        pairs = []
        for each in given:
            if not isinstance(each, list | tuple) or len(each) < 2 or not all(isinstance(word, str) for word in each):
                raise InputError(
                    f"columns: got {_shown(each)}, expected the name of a column, its family and its levels"
                )
            pairs.append((each[0], {"family": each[1], **({"levels": list(each[2:])} if len(each) > 2 else {})}))
    else:
        remedy = "; vae_np.likelihoods.read_columns reads one from a file" if isinstance(given, str) else ""
        expected = f"a mapping of columns' names to their families{remedy}"
        raise InputError(f"columns: got {_shown(given)}, expected {expected}")
    found: list[Column] = []
    for name, how in pairs:
        if any(name == column[0] for column in found):
            raise InputError(f"columns: {name!r} is named twice, expected each column once")
        found.append(_column(name, how, families))
    if not found:
        raise InputError("columns: got no column, expected at least one")
    return tuple(found)


def _column(name: Any, how: Any, families: Mapping[str, int | None]) -> Column:
    settings = {"family": how} if isinstance(how, str) else how
    if not isinstance(name, str) or not isinstance(settings, Mapping):
        raise InputError(f"columns: got {_shown({name: how})}, expected a name and one family")
    unknown = [key for key in settings if key not in ("family", "levels")]
    if unknown:
        meant = did_you_mean(unknown[0], ("family", "levels"))
        raise InputError(f"columns: {name!r} has the setting {_shown(unknown[0])}, expected family or levels{meant}")
    family = settings.get("family")
    if not isinstance(family, str) or family not in families:
        raise InputError(
            f"columns: {name!r} has the family {_shown(family)}, expected one of {', '.join(families)}"
            f"{did_you_mean(family, tuple(families))}"
        )
    levels = settings.get("levels", families[family])
    if levels is None:
        raise InputError(f"columns: {name!r} is {family}, which needs its levels: a number of them, or their names")
    if families[family] == 0:
        if levels:
            raise InputError(f"columns: {name!r} is {family} and has levels, expected none")
        return (name, family)
    return (name, family, *_levels(name, levels, named=families[family] is None))


def _levels(name: str, levels: Any, named: bool) -> tuple[str, ...]:
    if isinstance(levels, list | tuple) and len(levels) == 1 and not named:
        levels = int(levels[0]) if str(levels[0]).isdecimal() else levels[0]
    if isinstance(levels, int) and not isinstance(levels, bool):
        if not 2 <= levels <= _MOST_LEVELS:
            raise InputError(f"columns: {name!r} has {levels} levels, expected from 2 to {_MOST_LEVELS}")
        return tuple(map(str, range(levels))) if named else (str(levels),)
    if not named or not isinstance(levels, list | tuple) or len(levels) < 2:
        raise InputError(f"columns: {name!r} has the levels {_shown(levels)}, expected two or more, or their number")
    words = tuple(_word(level) for level in levels)
    if len(set(words)) < len(words):
        twice = next(word for word in words if words.count(word) > 1)
        raise InputError(f"columns: {name!r} has the level {twice!r} twice, expected each once")
    return words


def read_file(path: str, families: Mapping[str, int | None]) -> Columns:
    """The columns that a TOML or JSON file names; raises MissingFileError or InputError, with the file's name."""
    import tomllib

    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise MissingFileError(f"columns: got {path!r}, expected an existing TOML or JSON file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"columns: {path}: cannot be read ({error})") from None
    try:
        held = json.loads(text, object_pairs_hook=_once) if file.suffix == ".json" else tomllib.loads(text)
    except ValueError as error:
        raise InputError(f"columns: {path}: is not {'JSON' if file.suffix == '.json' else 'TOML'} ({error})") from None
    try:
        return canonical(held, families)
    except InputError as error:
        raise InputError(f"{error} (in {path})") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON would keep the last of two equal names and say nothing."""
    for place, (name, _) in enumerate(pairs):
        if name in [other for other, _ in pairs[:place]]:
            raise ValueError(f"{name!r} is named twice")
    return dict(pairs)


def places_of(columns: Columns, names: Sequence[str], what: str) -> list[int]:
    """Where each column stands among a table's; raises DataError where one is missing, named twice or left over."""
    listed = list(names)
    for name in listed:
        if listed.count(name) > 1:
            raise DataError(f"columns: {what} has {listed.count(name)} columns {name!r}, expected one")
    for name, *_ in columns:
        if name not in listed:
            had = ", ".join(map(repr, listed[:_SHOWN])) + (", ..." if len(listed) > _SHOWN else "")
            meant = did_you_mean(name, tuple(listed))
            raise DataError(f"columns: {name!r} is not in {what}, which has {had}{meant}")
    for name in listed:
        if all(name != column[0] for column in columns):
            raise DataError(
                f"columns: {what} has the column {name!r}, for which no family is named; name one, or leave it out"
            )
    return [listed.index(column[0]) for column in columns]


def numbers(column: Column, cells: Any, what: str) -> Array:
    """One column's cells, text or numbers, as float64 (N,): a category's level as its place, no value as NaN.

    Numbers of a category whose levels are words are their places already. Raises DataError, with the row, for a
    category that is not among the levels, and for text that is no number.
    """
    name, family, *levels = column
    held = np.asarray(cells) if isinstance(cells, np.ndarray) else None
    if held is not None and held.dtype.kind in "biuf":
        values = held.astype(np.float64)
        return _places(name, levels, values, what) if family == "categorical" and _are_numbers(levels) else values
    result = np.full(len(cells), np.nan)
    places = {level: place for place, level in enumerate(levels)} if family == "categorical" else None
    for row, cell in enumerate(cells):
        word = _word(cell)
        if word.lower() in MISSING:
            continue
        if places is not None:
            if word not in places:
                raise _unseen(name, levels, word, row, what)
            result[row] = places[word]
            continue
        try:
            result[row] = float(word)
        except ValueError:
            raise DataError(
                f"{what}: column {name!r} has {word!r} in row {row} (counted from 0), expected a number"
            ) from None
    return result


def _places(name: str, levels: Sequence[str], values: Array, what: str) -> Array:
    """The places of levels that are numbers, for values (N,)."""
    known = np.array([float(level) for level in levels])
    order = np.argsort(known)
    at = np.minimum(np.searchsorted(known[order], values), len(known) - 1)
    wrong = ~(np.isnan(values) | (known[order][at] == values))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise _unseen(name, levels, f"{values[row]:g}", row, what)
    return np.where(np.isnan(values), np.nan, order[at])


def _unseen(name: str, levels: Sequence[str], word: str, row: int, what: str) -> DataError:
    shown = ", ".join(levels[:_SHOWN]) + (", ..." if len(levels) > _SHOWN else "")
    return DataError(
        f"{what}: column {name!r} has {word!r} in row {row} (counted from 0), expected one of its levels: {shown}"
    )


def _are_numbers(levels: Sequence[str]) -> bool:
    try:
        return all(np.isfinite(float(level)) for level in levels)
    except ValueError:
        return False


def own_numbers(columns: Columns, rows: Array) -> Array:
    """A model's rows (N, D) as the table's own numbers: the levels that are numbers in place of their places."""
    own = rows
    for place, (_, family, *levels) in enumerate(columns):
        known = [float(level) for level in levels] if family == "categorical" and _are_numbers(levels) else []
        if known and known != list(range(len(known))):
            own = own.copy() if own is rows else own
            absent = np.isnan(rows[:, place])
            at = np.where(absent, 0, rows[:, place]).astype(np.int64)
            own[:, place] = np.where(absent, np.nan, np.array(known)[at])
    return own


def words(column: Column, values: Array) -> Array:
    """A column of the table's own numbers (N,) as the table has it: the names of a category's levels, where they are
    words, and None for what is missing; else the numbers."""
    _, family, *levels = column
    if family != "categorical" or _are_numbers(levels):
        return values
    return np.array([None if np.isnan(value) else levels[int(value)] for value in values], dtype=object)


def proposed(names: Sequence[str], cells: Sequence[Sequence[Any]]) -> str:
    """A TOML file to edit: a guess for every column of a table, with what it rests on as a comment. [D66]

    `cells` has the columns, text or numbers. Nothing else in the package uses a guess.
    """
    lines = ["# Families that are guessed from the cells: correct what they mean, then give this file as --columns."]
    for name, column in zip(names, cells, strict=True):
        held = [word for word in map(_word, column) if word.lower() not in MISSING]
        family, levels, why = _guess(held)
        empty = len(column) - len(held)
        said = why + (f", {empty} of {len(column)} cells empty" if empty else "")
        lines += ["", f"[{json.dumps(name, ensure_ascii=False)}]  # {said}", f'family = "{family}"']
        if levels:
            lines.append(f"levels = {json.dumps(levels, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"


def _guess(held: list[str]) -> tuple[str, list[str], str]:
    different = sorted(set(held))
    try:
        values = [float(word) for word in different]
    except ValueError:
        return "categorical", different, f"text, {len(different)} different ones"
    if not values:
        return "normal", [], "no value at all"
    low, high = min(values), max(values)
    whole = all(value == int(value) for value in values)
    span = f"{'whole numbers' if whole else 'numbers'} from {low:g} to {high:g}"
    if whole and set(values) <= {0.0, 1.0}:
        return "bernoulli", [], "0 and 1"
    if whole and len(values) <= _FEW:
        return "categorical", [word for _, word in sorted(zip(values, different, strict=True))], span
    if whole and low >= 0:
        return "negative-binomial", [], span
    return "normal", [], span


def _word(cell: Any) -> str:
    """A cell or a level as a word: whole numbers without a point, so that 2 and 2.0 are the same level."""
    if cell is None:
        return ""
    if isinstance(cell, str):
        text = cell.strip()
        try:
            number = float(text)
        except ValueError:
            return text
        cell = number if any(mark in text.lower() for mark in ".e") else text
        return cell if isinstance(cell, str) else _word(cell)
    if isinstance(cell, bool | np.bool_):
        return str(int(cell))
    if isinstance(cell, float | np.floating):
        return str(int(cell)) if float(cell).is_integer() else repr(float(cell))
    return str(cell)


def _shown(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:57] + "..."
