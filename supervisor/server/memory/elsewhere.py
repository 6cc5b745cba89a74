"""The figures of macOS and Windows, by psutil, imported when first needed."""

from __future__ import annotations

from ..memory_sample import Group, Held, Room
from ..process import family


class PsutilSource:
    """
    Windows counts as anonymous what it has promised a process (private bytes), touched or not.  macOS tells
    it only by a walk over all pages, so there it is not known.
    """

    def held(self, pid: int) -> Held | None:
        found = [held for member in family(pid) if (held := _held(member))]
        if not found:
            return None
        anonymous = [each.anonymous_bytes for each in found if each.anonymous_bytes is not None]
        return Held(sum(each.rss_bytes for each in found), sum(anonymous) if anonymous else None)

    def room(self) -> Room:
        import psutil  # noqa: PLC0415 - see above

        try:
            memory = psutil.virtual_memory()
        except (psutil.Error, OSError):
            return Room()
        return Room(memory.total, memory.available)

    def group(self, pid: int) -> Group | None:  # noqa: ARG002 - there are none
        return None


def _held(pid: int) -> Held | None:
    import psutil  # noqa: PLC0415 - see above

    try:
        memory = psutil.Process(pid).memory_info()
    except psutil.Error:
        return None
    return Held(memory.rss, getattr(memory, "private", None))
