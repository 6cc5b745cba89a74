"""
The life of one request, as a table from (state, event) to (state, commands).  Pure.

- It has at most one connection at a time, which is dropped before the request waits again: what waits is
  never sent.
- While the client has received nothing, a server that is lost costs time and not the request: it is sent
  again, once.
- A kept connection that closes just as it is used again says nothing about the server: the request goes out
  on a new one.  If none can be opened, the server was dying, and the request counts as sent.
- A server that was not reached has not had the request: it waits again, within its limit.  So does one that a
  peer has refused, until it has been everywhere.
- It ends once, and nothing happens afterwards.
- A pair that is not in the table is an error of this program: `IllegalExchangeEvent`, and nothing changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class ExchangeState(StrEnum):
    HELD = "held"  # the queue has it
    CONNECTING = "connecting"
    SENT = "sent"  # the server has it, and the client has nothing of an answer
    BEGUN = "begun"  # the client has some of the answer
    OVER = "over"


class ExchangeEvent(StrEnum):
    GO = "let go"
    CONNECTED = "connected"
    UNREACHABLE = "no connection"
    STALE = "closed as it was used again"
    REFUSED = "not answered here"  # a peer would not, and another place may
    LOST = "server lost"  # its connection broke, or the server is being taken away
    BEGUN = "answer begun"
    ANSWERED = "answered"
    FAILED = "failed"  # the gateway gives it up
    LEFT = "client left"
    HANDED_ON = "handed on"  # to the daemon that has taken the place of this one


class ExchangeDo(StrEnum):
    """Commands to the shell."""

    CONNECT = "connect"  # or take a connection that was kept
    RECONNECT = "reconnect"  # not with one that was kept
    SEND = "send"
    DROP = "drop"  # the connection, or the attempt at one
    WAIT = "wait"  # in the queue again
    REPLAY = "replay"  # the same, and the server had it: forget what it said
    TELL = "tell"  # the client why it gets no answer, or no more of it
    END = "end"


Row = tuple[ExchangeState, tuple[ExchangeDo, ...]]
_ENDS: dict[ExchangeEvent, Row] = {
    ExchangeEvent.FAILED: (ExchangeState.OVER, (ExchangeDo.DROP, ExchangeDo.TELL, ExchangeDo.END)),
    ExchangeEvent.LEFT: (ExchangeState.OVER, (ExchangeDo.DROP, ExchangeDo.END)),
}
_LOST: Row = (ExchangeState.HELD, (ExchangeDo.DROP, ExchangeDo.REPLAY))
_ANSWERED: Row = (ExchangeState.OVER, (ExchangeDo.END,))

EXCHANGE_TABLE: Mapping[ExchangeState, Mapping[ExchangeEvent, Row]] = {
    ExchangeState.HELD: {
        ExchangeEvent.GO: (ExchangeState.CONNECTING, (ExchangeDo.CONNECT,)),
        ExchangeEvent.FAILED: (ExchangeState.OVER, (ExchangeDo.TELL, ExchangeDo.END)),
        ExchangeEvent.LEFT: (ExchangeState.OVER, (ExchangeDo.END,)),
        ExchangeEvent.HANDED_ON: (ExchangeState.OVER, ()),
    },
    ExchangeState.CONNECTING: {
        **_ENDS,
        ExchangeEvent.CONNECTED: (ExchangeState.SENT, (ExchangeDo.SEND,)),
        ExchangeEvent.UNREACHABLE: (ExchangeState.HELD, (ExchangeDo.DROP, ExchangeDo.WAIT)),
        ExchangeEvent.LOST: _LOST,
    },
    ExchangeState.SENT: {
        **_ENDS,
        ExchangeEvent.STALE: (ExchangeState.CONNECTING, (ExchangeDo.DROP, ExchangeDo.RECONNECT)),
        ExchangeEvent.REFUSED: (ExchangeState.HELD, (ExchangeDo.DROP, ExchangeDo.WAIT)),
        ExchangeEvent.LOST: _LOST,
        ExchangeEvent.BEGUN: (ExchangeState.BEGUN, ()),
        ExchangeEvent.ANSWERED: _ANSWERED,
    },
    ExchangeState.BEGUN: {**_ENDS, ExchangeEvent.ANSWERED: _ANSWERED},
    ExchangeState.OVER: {},
}


class IllegalExchangeEvent(AssertionError):
    """The table has no row for this event in this state."""


class ExchangeLife:
    """Where one request is.  ``was_replayed``: it has had its one second chance."""

    __slots__ = ("_was_resent", "state", "was_replayed")

    def __init__(self) -> None:
        self.state = ExchangeState.HELD
        self.was_replayed = self._was_resent = False

    def handle(self, event: ExchangeEvent, *, replays: bool = False) -> tuple[ExchangeDo, ...]:
        """
        What is to be done now, in this order.

        ``replays`` is whether a server that was lost may get a request again at all.  Only the last command
        may bring about the next event at once.  Raises IllegalExchangeEvent.
        """
        if event is ExchangeEvent.LOST or event is ExchangeEvent.UNREACHABLE:
            event = self._judge(event, replays=replays)
        row = EXCHANGE_TABLE[self.state].get(event)
        if row is None:
            raise IllegalExchangeEvent(f"{event.value!r} while {self.state.value}")
        self.state, todo = row
        self.was_replayed |= event is ExchangeEvent.LOST
        self._was_resent = event is ExchangeEvent.STALE
        return todo

    def _judge(self, event: ExchangeEvent, *, replays: bool) -> ExchangeEvent:
        """Whether the server has had the request, and may get it again."""
        match self.state, event:
            case ExchangeState.CONNECTING, ExchangeEvent.UNREACHABLE | ExchangeEvent.LOST:
                if not self._was_resent:
                    return ExchangeEvent.UNREACHABLE
            case ExchangeState.SENT | ExchangeState.BEGUN, ExchangeEvent.LOST:
                pass
            case _:
                return event
        can_again = replays and not self.was_replayed and self.state is not ExchangeState.BEGUN
        return ExchangeEvent.LOST if can_again else ExchangeEvent.FAILED
