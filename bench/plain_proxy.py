"""
What most people would write: a pass-through of aiohttp with a pool of kept connections, on the stdlib's loop.

    bench/plain_proxy.py PORT http://127.0.0.1:8080

The yardstick of bench/gateway.py.  It holds, checks, counts and replays nothing.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Mapping

from aiohttp import ClientSession, ClientTimeout, TCPConnector, web

BETWEEN_NEIGHBOURS = {"connection", "keep-alive", "transfer-encoding", "content-length", "host"}
UPSTREAM = web.AppKey("upstream", str)
SESSION = web.AppKey("session", ClientSession)
LARGEST_BODY_BYTES = 64 * 2**20


async def session_of(app: web.Application) -> AsyncIterator[None]:
    connector = TCPConnector(limit=0)
    timeout = ClientTimeout(total=None)
    async with ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as session:
        app[SESSION] = session
        yield


def end_to_end(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in BETWEEN_NEIGHBOURS}


async def relay(request: web.Request) -> web.StreamResponse:
    headers = {
        name: value for name, value in request.headers.items() if name.lower() not in BETWEEN_NEIGHBOURS
    }
    body = await request.read() if request.can_read_body else None
    url = request.app[UPSTREAM] + request.raw_path
    headers, session = end_to_end(request.headers), request.app[SESSION]
    async with session.request(request.method, url, headers=headers, data=body) as upstream:
        kept = {
            name: value for name, value in upstream.headers.items() if name.lower() not in BETWEEN_NEIGHBOURS
        }
        answer = web.StreamResponse(status=upstream.status, headers=kept)
        answer.content_length = upstream.content_length
        await answer.prepare(request)
        async for piece in upstream.content.iter_any():
            await answer.write(piece)
        await answer.write_eof()
        return answer


def main() -> None:
    port, upstream = int(sys.argv[1]), sys.argv[2]
    app = web.Application(client_max_size=LARGEST_BODY_BYTES)
    app[UPSTREAM] = upstream
    app.cleanup_ctx.append(session_of)
    app.router.add_route("*", "/{path:.*}", relay)
    web.run_app(app, host="127.0.0.1", port=port, print=None, access_log=None)


if __name__ == "__main__":
    main()
