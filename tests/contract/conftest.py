"""What several of these files need."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor.service.systemctl import Systemd, found

from ..fakes import systemd_tools


@pytest.fixture
def played(tmp_path, monkeypatch) -> systemd_tools.Played:
    """systemd's tools, played by scripts on PATH."""
    tools = systemd_tools.install(tmp_path / "tools")
    monkeypatch.setenv("PATH", f"{tools.folder}:/usr/bin:/bin")
    return tools


@pytest.fixture
def manager(played, tmp_path) -> Systemd:
    """systemd as it is played, with units below the test's own folder."""
    there = found({"XDG_CONFIG_HOME": str(tmp_path / "config")})
    return replace(there, system_folder=tmp_path / "etc")
