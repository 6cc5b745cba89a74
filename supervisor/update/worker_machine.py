"""A worker's own goss-supervisor, asked over HTTP: what its worker is, and to run another build."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ..errors import NetworkError, PermissionDenied, StartFailed, SupervisorError
from ..profile.worker_address import Worker

if TYPE_CHECKING:
    import requests

_TIMEOUT_SECONDS: Final = 5.0, 30.0  # to connect, and between two lines: one comes every two seconds
_READY_SECONDS: Final = 60.0  # from the end of a restart to the answer of its RPC server
_PAUSE_SECONDS: Final = 0.2
_REFUSED: Final = {401, 403}


@dataclass(frozen=True, slots=True)
class WorkerMachine:
    """
    Its methods raise NetworkError where it does not answer, PermissionDenied for a key that it refuses, and
    SupervisorError for what it refuses itself; each is a sentence that names the worker.
    """

    worker: Worker

    @property
    def name(self) -> str:
        return str(self.worker.address)

    def build(self) -> str:
        """What it runs now."""
        return str(self._seen()["build"])

    def take(self, tag: str) -> None:
        """Have it on disk there, tested and chosen; what runs goes on running."""
        self._run("engine-use", {"tag": tag})

    def restart(self) -> None:
        """Have it run what is chosen there."""
        self._run("restart", {})

    def prove(self, tag: str, protocol: str) -> None:
        """It must be ready with this build, and speak this RPC version; "" for one that nobody knows."""
        deadline = time.monotonic() + _READY_SECONDS
        seen = self._seen()
        while (seen["state"] != "ready" or not seen["rpc_protocol"]) and time.monotonic() < deadline:
            time.sleep(_PAUSE_SECONDS)
            seen = self._seen()
        if seen["state"] != "ready":
            raise StartFailed(f"The worker {self.name} is {seen['state']}: {seen.get('why') or 'unknown'}.")
        if seen["build"] != tag:
            raise StartFailed(f"The worker {self.name} runs {seen['build']}, not {tag}.")
        if protocol and seen["rpc_protocol"] != protocol:
            theirs = seen["rpc_protocol"] or "an unknown version"
            raise StartFailed(
                f"The worker {self.name} speaks RPC {theirs} with {tag}, and this computer RPC {protocol}."
            )

    def _seen(self) -> dict[str, Any]:
        with self._answer("GET", "worker", None) as answer, self._troubles():
            found = answer.json()
            if not (isinstance(found, dict) and {"build", "state", "rpc_protocol"} <= found.keys()):
                raise ValueError("no worker")
            return found

    def _run(self, command: str, arguments: Mapping[str, str]) -> None:
        """One of its jobs, to its end."""
        order = {"op": "run", "command": command, "arguments": arguments}
        last: dict[str, Any] = {}
        with self._answer("POST", "control", order) as answer, self._troubles():
            for line in answer.iter_lines():
                last = json.loads(line)
        if not last.get("final") or "job" not in last:
            why = str(last.get("error") or "it hung up in the middle").rstrip(".")
            raise SupervisorError(
                f"The worker {self.name}: {command}: {why}.", hint=str(last.get("hint") or "")
            )
        job = last["job"]
        if job["error"] or job["exit_code"] or job["superseded"]:
            why = str(job["error"] or _why(last.get("result")) or f"it ended with {job['exit_code']}")
            raise SupervisorError(
                f"The worker {self.name}: {job['words']}: {why.rstrip('.')}.", hint=str(job["hint"])
            )

    def _answer(self, method: str, path: str, order: Mapping[str, Any] | None) -> requests.Response:
        """A stream.  No proxy and no .netrc has a say: it is a machine of the same network."""
        import requests  # noqa: PLC0415 - most updates have no workers

        url = f"{self.worker.supervisor.rstrip('/')}/supervisor/{path}"
        variable = self.worker.api_key_env
        key = os.environ.get(variable, "").strip() if variable else ""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        with self._troubles(), requests.Session() as session:
            session.trust_env = False
            answer = session.request(
                method,
                url,
                json=order,
                headers=headers,
                timeout=_TIMEOUT_SECONDS,
                stream=True,
                allow_redirects=False,
            )
        if answer.ok:
            return answer
        answer.close()
        if answer.status_code in _REFUSED:
            given = f"the key in {variable}" if key else "requests without a key"
            unset = f"{variable} is not set here. " if variable and not key else ""
            hint = (
                f"{unset}On that machine: goss-supervisor key add NAME --scope admin; api-key-env names it."
            )
            raise PermissionDenied(f"The supervisor of the worker {self.name} refuses {given}.", hint=hint)
        raise self._no_worker(f"it answers {answer.status_code}")

    @contextmanager
    def _troubles(self) -> Iterator[None]:
        """What goes wrong on the way, as errors of ours."""
        import requests  # noqa: PLC0415

        try:
            yield
        except (requests.exceptions.JSONDecodeError, requests.exceptions.InvalidURL) as error:
            raise self._no_worker("its answer is none of ours") from error
        except requests.RequestException as error:
            raise NetworkError(
                f"The supervisor of the worker {self.name} ({self.worker.supervisor}) "
                "cannot be reached, or stopped to answer.",
                hint="Is that machine on, and does its gateway listen on that address (listen.host)?",
            ) from error
        except (ValueError, LookupError, TypeError) as error:
            raise self._no_worker("its answer is none of ours") from error

    def _no_worker(self, why: str) -> NetworkError:
        return NetworkError(
            f"{self.worker.supervisor} is no supervisor of the worker {self.name}: {why}.",
            hint="Correct supervisor: in the entry of the worker.",
        )


def _why(result: object) -> str:
    """Of an outcome that is no error by itself, such as a rollback."""
    with suppress(TypeError, LookupError):
        return str(result["outcome"]["why"])  # type: ignore[index]
    return ""
