"""For how long a host wants not to be asked, from the headers of its answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime

_UNTIL_RESET = re.compile(r";\s*t=(\d+)")


def wait_seconds(headers: Mapping[str, str], now: datetime) -> float | None:
    """
    From Retry-After, else from RateLimit; None where neither says anything.  Names in lower case.

    Retry-After holds seconds or a date (RFC 9110, 10.2.3).  RateLimit is how the Hugging Face hub tells when
    a window ends: ``"resolvers";r=0;t=140`` (https://huggingface.co/docs/hub/rate-limits).
    """
    after = headers.get("retry-after", "")
    if after.isdigit():
        return float(after)
    try:
        return max(0.0, (parsedate_to_datetime(after) - now).total_seconds())
    except (ValueError, TypeError):
        reset = _UNTIL_RESET.search(headers.get("ratelimit", ""))
        return float(reset[1]) if reset else None
