"""The values of options, read leniently: what is wrong with them was said when the profile was read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..options.option_values import OptionValue, words_of


@dataclass(frozen=True, slots=True)
class Reader:
    """A value that makes no sense is as if it had not been given."""

    options: Mapping[str, OptionValue]

    def text(self, name: str, default: str) -> str:
        value = self.options.get(name)
        if isinstance(value, bool):
            return "on" if value else "off"
        return default if value is None else ",".join(words_of(value))

    def integer(self, name: str, default: int) -> int:
        try:
            return int(self.text(name, str(default)))
        except ValueError:
            return default

    def flag(self, name: str, *, default: bool) -> bool:
        return self.text(name, "on" if default else "off") not in {"off", "false", "0"}
