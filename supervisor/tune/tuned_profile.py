"""Writes what `tune` found as a profile that extends the one that was tuned: NAME-tuned.yaml."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..errors import UsageError
from ..profile.definition import Profile, Tuned
from ..profile.drafts import commented, lay_schema
from ..profile.fields import BY_KEY
from ..profile.jsonschema import FIRST_LINE
from ..profile.load_layers import load, overrides_layer, read_bytes
from ..profile.resolve import config_error, resolve_layer
from ..profile.store import ProfileStore, valid_name, write_atomically
from ..profile.yaml_nodes import write_value
from ..profile.yaml_text import YamlLine, in_order, render, rows_of_values
from .search_values import Found

SUFFIX = "-tuned"


@dataclass(frozen=True, slots=True)
class TunedResult:
    """
    What there is to write: of ``found`` the best candidate, of which ``effects`` has the measured effect by
    its keys (``+12 % (9 to 15) generation``).  ``tuned`` is the fingerprint with goal and date.
    """

    found: Found
    tuned: Tuned
    effects: Mapping[str, str] = field(default_factory=dict)


def tuned_name(profile: str) -> str:
    return f"{profile}{SUFFIX}"


def demand_tunable(profile: Profile) -> None:
    """Raises UsageError for a profile that `tune` itself wrote: its result would extend a result."""
    written = [origin for key, origin in profile.origins.items() if key.startswith("tuned.")]
    if written and written[0].profile == profile.name and len(profile.lineage) > 1:
        base = profile.lineage[1].profile
        raise UsageError(
            f"{profile.name} is the result of a tune of {base}.", hint=f"goss-supervisor tune {base}"
        )


def write_tuned(profile: str, result: TunedResult, store: ProfileStore) -> tuple[Path, Path | None]:
    """
    The file, and where the one is kept that was there before and said something else.

    Nothing is written that does not load: raises ConfigError.
    """
    name = valid_name(tuned_name(profile))
    path, text = store.user_dir / f"{name}.yaml", tuned_text(profile, result)
    resolve_layer(load(text.encode(), name, str(path)), store)
    kept = _keep(path, text)
    store.save(name, text)
    lay_schema(store)
    return path, kept


def _keep(path: Path, text: str) -> Path | None:
    """A copy under a name that is free: people may have edited it, and no earlier copy is lost either."""
    if not path.exists() or (before := read_bytes(path).decode(errors="replace")) == text:
        return None
    copies = (path.with_name(f"{path.name}.bak{number or ''}") for number in itertools.count())
    copy = next(each for each in copies if not each.exists())
    write_atomically(copy, before)
    return copy


def tuned_text(profile: str, result: TunedResult) -> str:
    """The YAML.  Raises ConfigError for a candidate with keys or values that no profile has."""
    about = commented(_about(profile, result))
    description = write_value(f"{profile}, tuned for {result.tuned.goal} on this machine")
    head = (*about, f"description: {description}", f"extends: {profile}")
    return "".join(
        (
            FIRST_LINE,
            *(f"{line}\n" for line in head),
            render(rows_of_values(dict(_said(result.tuned)))),
            render(in_order(_rows(tuned_name(profile), result))),
        )
    )


def _about(profile: str, result: TunedResult) -> str:
    found = result.found
    return (
        f"Written by `goss-supervisor tune {profile}`: {found.ratio:.2f} times as fast as {profile} on this "
        f"machine (95 %: {found.ratio_low:.2f} to {found.ratio_high:.2f}). It has only what tune changed; "
        f"behind each value is what it does. The next tune writes this file anew, so put your own changes "
        f"into a profile that extends it."
    )


def _said(tuned: Tuned) -> Iterator[tuple[str, object]]:
    """By the names of the keys, in their order; nothing that is unknown."""
    for each in BY_KEY.values():
        if each.section == "tuned" and (value := getattr(tuned, each.attribute)):
            yield each.key, value


def _rows(name: str, result: TunedResult) -> Iterator[YamlLine]:
    """A line for each change; ``null`` takes a value of the profile back."""
    for key, value in result.found.best:
        layer = overrides_layer(name, {key: value})
        if layer.problems:
            raise config_error(layer.problems)
        rows = [*rows_of_values({each: said.value for each, said in layer.values.items()})]
        rows += [YamlLine(each, "null") for each in sorted(layer.cleared)]
        for row in rows:
            yield replace(row, comment=result.effects.get(key, ""))
