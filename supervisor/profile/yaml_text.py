"""Writes a profile as YAML, the way a person would."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ..options.meanings import SECRETS
from .definition import Profile
from .field_kinds import size
from .fields import BY_KEY, FIELDS, MEMORY, PARAMETERS, READY, RECORDS
from .yaml_nodes import write_value

_COMMENT_COLUMN = 44
_STARS = "***"
_ORDER = (
    *("description", "extends", "tuned", "match", "engine", "model", "server", "env"),
    *("listen", "lend", "gateway", "restart", "health", "stop", "aliases", "role"),
    *("workers", "without-worker", "placement", "guardrails", "orphan"),
)


@dataclass(frozen=True, slots=True)
class YamlLine:
    """One line: a dotted key, its value as YAML, and a comment behind it."""

    key: str
    text: str
    comment: str = ""


def render(rows: Iterable[YamlLine]) -> str:
    """Nested YAML; rows of one section must be together."""
    lines: list[str] = []
    above: tuple[str, ...] = ()
    for row in rows:
        *sections, name = _path(row.key)
        shared = _shared(above, sections)
        lines += ["  " * depth + sections[depth] + ":" for depth in range(shared, len(sections))]
        line = f"{'  ' * len(sections)}{write_value(name)}: {row.text}"
        lines.append(f"{line:<{_COMMENT_COLUMN}}  # {row.comment}" if row.comment else line)
        above = tuple(sections)
    return "".join(line + "\n" for line in lines)


def _path(key: str) -> list[str]:
    """The names of parameters may have dots in them: ``speculative.n_max``."""
    if key.startswith(f"{PARAMETERS}."):
        return [*PARAMETERS.split("."), key.removeprefix(f"{PARAMETERS}.")]
    return key.split(".")


def _shared(above: Sequence[str], sections: Sequence[str]) -> int:
    pairs = list(zip(above, sections, strict=False))
    return next((index for index, (one, other) in enumerate(pairs) if one != other), len(pairs))


def rows_of_values(values: Mapping[str, object]) -> list[YamlLine]:
    """The values of one layer, in the order that people expect; without defaults."""
    return in_order(_row(key, value) for key, value in values.items())


def in_order(rows: Iterable[YamlLine]) -> list[YamlLine]:
    """By section, as people expect them."""
    return sorted(rows, key=lambda row: _ORDER.index(row.key.partition(".")[0]))


def _row(key: str, value: object) -> YamlLine:
    if key == "model.demo":
        return YamlLine("model", "demo")
    if key.startswith(f"{MEMORY}."):
        return YamlLine(key, size().write(value))
    return YamlLine(key, BY_KEY[key].kind.write(value) if key in BY_KEY else write_value(value))


def rows_of_profile(profile: Profile, *, defaults: bool = True) -> list[YamlLine]:
    """
    Everything that holds, or only what some file says; each comment says where the value comes from.  No
    secrets.
    """
    values = {**_declared(profile), **_free(redacted(profile))}
    if not defaults:
        values = {key: value for key, value in values.items() if key in profile.origins}
    return [replace(row, comment=_origin(profile, row.key)) for row in rows_of_values(values)]


def redacted(profile: Profile) -> Profile:
    """The same with stars for keys and tokens: people paste what is shown into bug reports."""
    return replace(
        profile,
        server={name: _STARS if name in SECRETS else value for name, value in profile.server.items()},
        env={name: _STARS if name in SECRETS.values() else value for name, value in profile.env.items()},
    )


def _declared(profile: Profile) -> dict[str, object]:
    records = {"": profile, **{section: getattr(profile, section) for section in RECORDS}}
    hidden = () if profile.engine.command else (f"{READY}.",)
    declared = (field for field in FIELDS if field.attribute and not field.key.startswith(hidden))
    values = {field.key: getattr(records[field.section], field.attribute) for field in declared}
    return {key: value for key, value in values.items() if value not in (None, (), "")}


def _free(profile: Profile) -> dict[str, object]:
    demo = {"model.demo": True} if profile.model.demo else {}
    free: dict[str, Mapping[str, object]] = {
        "server": profile.server,
        "env": profile.env,
        PARAMETERS: profile.gateway.set_params,
        MEMORY: profile.engine.memory,
    }
    return demo | {
        f"{section}.{name}": value for section, each in free.items() for name, value in sorted(each.items())
    }


def _origin(profile: Profile, key: str) -> str:
    origin = profile.origins.get("model.demo" if key == "model" else key)
    return origin.short if origin else "default"
