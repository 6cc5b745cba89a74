"""What a page may ask of the daemon: nothing with a plan, no secret, no end of the daemon."""

from __future__ import annotations

import json
from typing import get_args

import pytest

from supervisor.daemon.control_request import Operation
from supervisor.gateway.pages.page_control import checked_request

ALLOWED = {
    "status": {},
    "load": {"server": "chat", "alone": True},
    "unload": {"server": "chat"},
    "stop": {"server": "chat"},
    "pin": {"server": "chat", "pinned": True},
    "run": {"command": "pull", "arguments": {"model": "x"}},
    "cancel": {"job": 3},
    "jobs": {},
}


def asked(op, *, may_edit=False, **fields):
    return checked_request(json.dumps({"op": op, **fields}).encode(), may_edit=may_edit)


@pytest.mark.parametrize("op", [*ALLOWED])
def test_these_operations_are_let_through_with_whether_the_caller_may_edit(op):
    for may_edit in (False, True):
        request = asked(op, may_edit=may_edit, protocol=1, **ALLOWED[op])
        assert request == {"op": op, "protocol": 1, "can_edit": may_edit, **ALLOWED[op]}


@pytest.mark.parametrize("op", sorted({*get_args(Operation), "", "shell"} - ALLOWED.keys()))
def test_all_others_are_refused(op):
    trouble = asked(op)
    assert (trouble.status, trouble.code) == (403, "not_for_pages")
    assert "goss-supervisor" in trouble.hint


@pytest.mark.parametrize("op", [*ALLOWED])
@pytest.mark.parametrize(
    "field", ["plan", "listen", "hold", "replaces", "by_request", "can_edit", "owner", "measures", "x"]
)
def test_no_operation_takes_more_than_its_fields(op, field):
    assert asked(op, **ALLOWED[op], **{field: {}}).status == 403


@pytest.mark.parametrize("server", [None, 7, {}])
def test_the_daemon_is_not_stopped_from_a_page(server):
    assert asked("stop", now=True).status == 403
    assert asked("stop", server=server).status == 403


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"stop"', b"\xff", b"[" * 100_000])
def test_what_is_no_object_is_an_error(body):
    assert checked_request(body, may_edit=True).status == 400


@pytest.mark.parametrize("op", [None, 7, ["status"], {"status": 1}])
def test_an_operation_is_a_word(op):
    assert asked(op).status == 403
