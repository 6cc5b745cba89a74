"""What one file, or ``--set``, says: flat values by dotted key, each with its origin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .kinds import Invalid
from .nodes import Mark, Node, Problem, Scalar
from .schema import BY_KEY
from .types import Origin


@dataclass(frozen=True, slots=True)
class Value:
    value: object
    origin: Origin


@dataclass(frozen=True, slots=True)
class Layer:
    """``cleared`` are keys and sections that take back what is inherited; ``name`` is the profile's."""

    name: str
    file: str
    values: Mapping[str, Value]
    cleared: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def origin(self) -> Origin:
        return Origin(self.name, self.file)


class LayerBuilder:
    """Collects values and problems while one source is read."""

    def __init__(self, name: str, file: str) -> None:
        self._name, self._file = name, file
        self._values: dict[str, Value] = {}
        self._cleared: set[str] = set()
        self._notes: list[str] = []
        self._problems: list[Problem] = []

    def read(self, key: str, node: Node, mark: Mark, written: str = "") -> None:
        """One declared field; ``written`` is what the user called it, where that is another name."""
        try:
            self.put(key, BY_KEY[key].kind.read(node), mark, written)
        except Invalid as invalid:
            self.problem(node.mark, written or key, invalid.message, invalid.suggestion)

    def put(self, key: str, value: object, mark: Mark, written: str = "") -> None:
        before = self._values.get(key)
        if before is not None:
            where = f"on line {before.origin.line}" if before.origin.line else "before"
            meaning = f" (it means {key})" if written and written != key else ""
            self.problem(mark, written or key, f"is given twice{meaning}: {where} already")
            return
        self._values[key] = Value(value, Origin(self._name, self._file, mark.line, mark.column))

    def clear(self, key: str) -> None:
        self._cleared.add(key)

    def note(self, text: str) -> None:
        self._notes.append(text)

    def problem(self, mark: Mark, key: str, message: str, suggestion: str = "") -> None:
        self._problems.append(Problem(self._file, mark, message, key, suggestion))

    def done(self) -> Layer:
        self._one_model()
        problems = sorted(self._problems, key=lambda problem: (problem.mark.line, problem.mark.column))
        return Layer(
            self._name,
            self._file,
            self._values,
            frozenset(self._cleared),
            tuple(self._notes),
            tuple(problems),
        )

    def _one_model(self) -> None:
        given = [key for key in ("model.demo", "model.path", "model.repo") if key in self._values]
        for key in given[1:]:
            origin = self._values[key].origin
            message = f"only one model can be meant; {given[0]} is given too"
            self.problem(Mark(origin.line, origin.column), key, message)


def is_null(node: Node) -> bool:
    return isinstance(node, Scalar) and node.value is None
