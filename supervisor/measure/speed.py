"""
How fast a running server generates: the short built-in benchmark.

Two builds are compared by it, so both must do the same work: the prompt is a list of token ids, hence equally
long in every model's vocabulary; its cache is off, sampling is greedy, and the end of the answer is ignored.
"""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, urlsplit

from ..errors import NetworkError

SLOWER_BELOW = 0.9
RUNS = 3  # at least; the best one counts, since whatever else the machine does only ever slows it down
LEAST_SECONDS = 1.5  # a tiny model ends three runs within a blink, and a blink may be a bad one
AIM_SECONDS = 15.0
LIMIT_SECONDS = 60.0  # for the load that another build did within the aim
CONNECT_SECONDS = 5.0
_LEAST_ANSWER_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Load:
    """One request: tokens to read, and tokens to generate."""

    prompt_tokens: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens per second, as the server itself counts them, and the load that they were measured with."""

    generated_per_second: float
    prompt_per_second: float
    load: Load


_WARM_UP = Load(32, 8)
_LOADS = (Load(256, 128), Load(256, 64), Load(128, 32), Load(64, 16))


def measure(
    url: str, key: str, model: str = "", load: Load | None = None, *, limit_seconds: float = LIMIT_SECONDS
) -> Speed:
    """
    The best of several runs, after a warm-up; some 2 s, up to 20 s on a slow machine.

    ``model`` is the name of the profile, where more than one answers at this address.  ``load`` is that of
    another measurement to compare with; without one the largest is taken whose runs fit into the time.
    Raises NetworkError for a server that does not answer, not in time, or not like llama-server's
    ``/completion``.
    """
    server = _Server(urlsplit(url), key, model, limit_seconds)
    server.run(_WARM_UP)
    load = load or _load_for(server.run(_WARM_UP))
    began, runs = time.monotonic(), [server.run(load)]
    while len(runs) < RUNS or time.monotonic() - began < LEAST_SECONDS:
        runs.append(server.run(load))
    return best(*runs)


def glance(url: str, key: str, model: str = "") -> Speed:
    """One short run; raises as `measure` does."""
    return _Server(urlsplit(url), key, model, LIMIT_SECONDS).run(_WARM_UP)


def best(*measured: Speed) -> Speed:
    """Of measurements of the same server."""
    return max(measured, key=lambda speed: speed.generated_per_second)


def is_slower(new: Speed, old: Speed) -> bool:
    """Whether a build lost more than a tenth of the tokens per second that another one generates."""
    return new.generated_per_second < SLOWER_BELOW * old.generated_per_second


def comparison(new: Speed, old: Speed, old_tag: str) -> str:
    """``31.2 tokens/s, 68 % of the 45.9 that b11429 gave``."""
    share = 100 * new.generated_per_second / old.generated_per_second
    return (
        f"{new.generated_per_second:.1f} tokens/s, {share:.0f} % of the {old.generated_per_second:.1f}"
        f" that {old_tag} gave"
    )


def _load_for(look: Speed) -> Load:
    def seconds(load: Load) -> float:
        return load.prompt_tokens / look.prompt_per_second + load.tokens / look.generated_per_second

    return next((load for load in _LOADS if RUNS * seconds(load) <= AIM_SECONDS), _LOADS[-1])


@dataclass(frozen=True, slots=True)
class _Server:
    """No proxy, and no check of a certificate: it is our own child, on this machine."""

    url: SplitResult
    key: str
    model: str
    limit_seconds: float
    began: float = field(default_factory=time.monotonic)

    def run(self, load: Load) -> Speed:
        body = {
            "prompt": [32 + number % 96 for number in range(load.prompt_tokens)],  # bytes in all vocabularies
            "n_predict": load.tokens,
            "cache_prompt": False,
            "ignore_eos": True,
            "temperature": 0,
            **({"model": self.model} if self.model else {}),
        }
        timings = self._post("/completion", body).get("timings") or {}
        try:
            return Speed(float(timings["predicted_per_second"]), float(timings["prompt_per_second"]), load)
        except (KeyError, TypeError, ValueError) as error:
            raise NetworkError(f"{self.url.netloc} tells no timings.") from error

    def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        connection = self._connection()
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        try:
            connection.connect()
            assert connection.sock is not None
            left = self.began + self.limit_seconds - time.monotonic()
            connection.sock.settimeout(max(left, _LEAST_ANSWER_SECONDS))
            connection.request("POST", f"{self.url.path}{path}", json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read()
            document = json.loads(text) if answer.status == http.HTTPStatus.OK else None
        except TimeoutError as error:
            raise NetworkError(f"The measurement did not end within {self.limit_seconds:g} s.") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise NetworkError(f"{self.url.netloc} broke off the measurement: {error}.") from error
        finally:
            connection.close()
        if not isinstance(document, dict):
            raise NetworkError(f"{self.url.netloc} answered {answer.status}: {_first_line(text)}")
        return document

    def _connection(self) -> http.client.HTTPConnection:
        host, port = self.url.hostname or "", self.url.port
        if self.url.scheme == "https":
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            return http.client.HTTPSConnection(host, port, timeout=CONNECT_SECONDS, context=context)
        return http.client.HTTPConnection(host, port, timeout=CONNECT_SECONDS)


def _first_line(body: bytes) -> str:
    return (body.decode("utf-8", "replace").strip().splitlines() or ["nothing"])[0][:200]
