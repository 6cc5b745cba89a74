"""The types of an option's value, and of an option rendered for a build."""

from __future__ import annotations

from dataclasses import dataclass

OptionValue = bool | int | float | str | tuple[str, ...]
"""``True`` and ``False`` switch a flag on and off; a tuple is an option that is given several times."""


FOLDERS = ("slot-save-path", "media-path", "path", "models-dir", "video-ffmpeg-dir", "log-prompts-dir")
WRITTEN = ("log-file", "log-prompts-dir", "lookup-cache-dynamic")  # need not be there at a start
SCALED = ("lora-scaled", "control-vector-scaled")  # FNAME:SCALE
FILES = (
    *("mmproj", "spec-draft-model", "chat-template-file", "grammar-file", "json-schema-file"),
    *("lora", "control-vector", *SCALED, "lookup-cache-static", "ui-config-file", "mcp-servers-config"),
    *("api-key-file", "ssl-key-file", "ssl-cert-file", "models-preset", *FOLDERS, *WRITTEN),
)
"""The options that name files or folders. In a profile, a relative one is under the models folder."""


@dataclass(frozen=True, slots=True)
class OptionProblem:
    """Something that a profile asks for and that cannot be; ``option`` is the key as the user wrote it."""

    option: str
    message: str
    suggestion: str = ""


@dataclass(frozen=True, slots=True)
class Translation:
    """A meaning that was rendered otherwise than it was written, and why."""

    option: str
    rendered: tuple[str, ...]
    reason: str
    source: str = ""
