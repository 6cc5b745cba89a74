"""Every form in which people keep a launch of llama-server means the profile that it should."""

from __future__ import annotations

import json
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from supervisor.errors import ConfigError, UsageError
from supervisor.profile.importer import import_command
from supervisor.profile.launch_texts import read_launch
from supervisor.profile.load_layers import load
from supervisor.profile.resolve import resolve_layer
from supervisor.profile.store import ProfileStore

NOWHERE = ProfileStore(Path("/nonexistent"), Path("/nonexistent"))
CASES = Path(__file__).parent / "import_cases"


def imported(text):
    """The profile and all notes about it."""
    found = import_command(text, NOWHERE)
    profile = resolve_layer(load(found.text.encode(), found.name, "x.yaml"), NOWHERE)
    return profile, "\n".join(found.notes), found.text


def imported_or_refused(text):
    """The same, or no profile and the error."""
    try:
        return imported(text)
    except (ConfigError, UsageError) as error:
        return None, str(error), ""


def meaning(value):
    try:
        read = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value
    return read if isinstance(read, dict) else value


def check(text, expected):
    refused = expected.get("refused_or_named")
    profile, notes, written = imported(text) if refused is None else imported_or_refused(text)
    for word in refused or expected.get("says", ()):
        assert word in notes, notes
    values = "\n".join(line for line in written.splitlines() if not line.startswith("#"))
    for word in expected.get("never_stored", ()):
        assert word not in values
    if refused:
        return
    got = {
        "model": profile.model.path,
        "repo": profile.model.repo,
        "quant": profile.model.quant,
        "file": profile.model.file,
        "host": profile.listen.host,
        "port": profile.listen.port,
        "env": dict(profile.env),
        "projector": str(profile.model.projector_path),
        "draft": [getattr(profile.model, f"draft_{part}") for part in ("repo", "file", "quant", "type")],
    }
    if expected.get("model"):
        expected = {**expected, "model": Path(expected["model"])}
    for key in got.keys() & expected.keys():
        assert got[key] == expected[key], (key, notes)
    assert "env" in expected or not profile.env
    options = {name: meaning(value) for name, value in profile.server.items()}
    for name, value in expected.get("options", {}).items():
        assert options.get(name) == value, (name, options, notes)


@pytest.mark.parametrize("name", sorted(path.stem for path in CASES.glob("*.txt")))
def test_a_case(name):
    check((CASES / f"{name}.txt").read_text(), json.loads((CASES / f"{name}.json").read_text()))


def case(name, text, **expected):
    return pytest.param(text, expected, id=name)


C4K = {"ctx-size": 4096}
M = "/m/chat.gguf"

FORMS = [
    # shells
    case("nohup", f"nohup ./llama-server -m {M} -c 4096 > log 2>&1 &", model=M, options=C4K),
    case("log in front", f"llama-server > log 2>&1 -m {M} -c 4096", model=M, options=C4K),
    case("tee", f"llama-server -m {M} -c 4096 2>&1 | tee -a log.txt", model=M, options=C4K, says=["tee -a log.txt"]),
    case("tee glued", f"llama-server -m {M} -c 4096 2>&1|tee log.txt", model=M, options=C4K),
    case("substitution", f"llama-server -m {M} -c 4096 > >(tee log) 2> >(tee err >&2)", model=M, options=C4K),
    case("input", f"llama-server -m {M} -c 4096 </dev/null &>/dev/null & disown", model=M, options=C4K),
    case("bash -lc", f"bash -lc 'exec llama-server -m {M} -c 4096'", model=M, options=C4K),
    case("sh -c", f'sh -c "cd /x && llama-server -m {M} -c 4096"', model=M, options=C4K),
    case("env -i", f"env -i PATH=/bin A=b llama-server -m {M}", model=M, env={"A": "b"}, says=["PATH"]),
    case("sudo -u", f"sudo -u llama A=b /usr/bin/llama-server -m {M} -c 4096", options=C4K, env={"A": "b"}),
    case("numactl", f"numactl --cpunodebind=0 -m 0 llama-server -m {M} -c 4096", model=M, says=["numactl"]),
    case("taskset", f"taskset -c 0-7 nice -n 5 ionice -c 2 -n 0 llama-server -m {M}", model=M, says=["taskset"]),
    case("tmux", f"tmux new -d -s llm 'llama-server -m {M} -c 4096'", model=M, options=C4K),
    case("tmux words", f"tmux new-session -d -s llm llama-server -m {M} -c 4096", model=M, options=C4K),
    case("tmux keys", f'tmux send-keys -t llm "llama-server -m {M} -c 4096" C-m', model=M, options=C4K),
    case("ssh", f"ssh box 'llama-server -m {M} -c 4096'", model=M, options=C4K),
    case("alias", f"alias llm='llama-server -m {M} -c 4096'", model=M, options=C4K),
    case("subshell", f"(cd /srv && llama-server -m {M} -c 4096)", model=M, options=C4K),
    case("function", f'llm() {{\n  llama-server -m {M} -c 4096 "$@"\n}}\n', model=M, options=C4K, says=["$@"]),
    case("loop", f"while true; do\n  llama-server -m {M} -c 4096\n  sleep 5\ndone", model=M, options=C4K),
    case(
        "if",
        f"if ! command -v llama-server >/dev/null; then exit 1; fi\nexec llama-server -m {M} -c 4096",
        model=M,
        options=C4K,
    ),
    case("version first", f"llama-server --version && llama-server -m {M} -c 4096", model=M, options=C4K),
    case("heredoc", f"cat > run.sh <<'EOF'\n#!/bin/sh\nllama-server -m {M} -c 4096\nEOF\nchmod +x run.sh", model=M),
    case("default", f"llama-server -m {M} -c ${{CTX:-4096}} --port ${{PORT:-9000}}", options=C4K, port=9000),
    case("default overruled", f"CTX=8192\nllama-server -m {M} -c ${{CTX:-4096}}", options={"ctx-size": 8192}),
    case(
        "nested variables",
        'DIR=/srv\nMODEL=$DIR/models/a.gguf\nOPTS="-c 4096 -ngl 99"\nllama-server -m "$MODEL" $OPTS',
        model="/srv/models/a.gguf",
        options={"ctx-size": 4096, "gpu-layers": 99},
    ),
    case(
        "growing list",
        'args=(-m /m/a.gguf)\nargs+=(-c 4096) # more\nargs+=(\n  -ngl 99  # all\n)\n\nllama-server "${args[@]}"',
        model="/m/a.gguf",
        options={"ctx-size": 4096, "gpu-layers": 99},
    ),
    case("exported", f"export GGML_X=1\nexport A='b c' D=e\nllama-server -m {M}", env={"GGML_X": "1", "A": "b c", "D": "e"}),
    case("date", f"llama-server -m {M} --log-file /tmp/$(date +%F).log", model=M, says=["$(date +%F)", "--log-file"]),
    case("script folder", 'DIR="$(cd "$(dirname "$0")" && pwd)"\nllama-server -m /m/a.gguf --mmproj "$DIR/p.gguf"', model="/m/a.gguf", projector="p.gguf"),
    case("argument", f"llama-server -m {M} -c $1", model=M, says=["$1"]),
    case("library path", f"LD_LIBRARY_PATH=/opt/lib:$LD_LIBRARY_PATH llama-server -m {M}", env={"LD_LIBRARY_PATH": "/opt/lib"}),
    case("key in quotes", f"llama-server -m {M} --api-key='$KEY'", never_stored=["$KEY"], refused_or_named=["$KEY"]),
    case("key variable", f"LLAMA_API_KEY=$KEY llama-server -m {M}", never_stored=["$KEY"], refused_or_named=["$KEY"]),
    case("token", f"llama-server -m {M} --hf-token ${{HF_TOKEN}}", never_stored=["HF_TOKEN}"], refused_or_named=["${HF_TOKEN}"]),
    case("unknown program", f"$LLAMA_BIN/llama-server -m {M} -c 4096", model=M, options=C4K),
    case("unknown program whole", f"${{LLAMA_SERVER}} -m {M} -c 4096", model=M, options=C4K),
    case("old name", f"./server -m {M} -c 4096", model=M, options=C4K),
    case("fish", f"set -gx CUDA_VISIBLE_DEVICES 1\nset opts -c 4096 -ngl 9\nllama-server -m {M} $opts", model=M, options={"ctx-size": 4096, "gpu-layers": 9}, env={"CUDA_VISIBLE_DEVICES": "1"}),
    case("csh", f"setenv A b\nllama-server -m {M}", env={"A": "b"}),
    case("make", f"MODEL ?= {M}\nCTX := 4096\nserve:\n\t@llama-server -m $(MODEL) \\\n\t\t-c $(CTX)\n", model=M, options=C4K),
    case("just", f'model := "{M}"\n\nserve:\n    llama-server -m {{{{model}}}} -c 4096\n', model=M, options=C4K),
    case("cron", f"@reboot /usr/local/bin/llama-server -m {M} -c 4096 >> /tmp/log 2>&1", model=M, options=C4K),
    case("option per line", f"llama-server\n-m\n{M}\n-c\n4096\n", model=M, options=C4K),
    case("comments between", f"llama-server -m {M}\n  # how much\n  -c 4096\n\n  --port 9000", model=M, options=C4K, port=9000),
    case("lines left out", f"llama-server -m {M} -c 4096\necho ready\ncurl localhost:8080/health", model=M, says=["echo ready", "curl localhost:8080/health"]),
    case("arguments by variables", f"export LLAMA_ARG_MODEL={M}\nexport LLAMA_ARG_CTX_SIZE=4096\nexport LLAMA_ARG_PORT=9001\nllama-server --jinja", model=M, options=C4K, port=9001),
    # Windows
    case("start", 'start "llm" /b /min "C:\\llama\\llama-server.exe" -m D:\\m\\a.gguf -c 4096', model="D:\\m\\a.gguf", options=C4K),
    case("set with quotes", '@echo off\nset "MODEL=D:\\my models\\a.gguf"\nset CTX=4096\n"C:\\llama\\llama-server.exe" -m "%MODEL%" -c %CTX%\npause', model="D:\\my models\\a.gguf", options=C4K),
    case("set options", "set OPTS=-c 4096 -ngl 99\nllama-server.exe -m D:\\a.gguf %OPTS%", model="D:\\a.gguf", options={"ctx-size": 4096, "gpu-layers": 99}),
    case("script's folder", "@echo off\n%~dp0llama-server.exe -m D:\\a.gguf -c 4096", model="D:\\a.gguf", options=C4K),
    case("cmd /c", 'cmd /c "llama-server.exe -m D:\\a.gguf -c 4096"', model="D:\\a.gguf", options=C4K),
    case("cmd /c words", "cmd /c llama-server.exe -m D:\\a.gguf -c 4096", model="D:\\a.gguf", options=C4K),
    case("environment cmd", "set CUDA_VISIBLE_DEVICES=0\nllama-server.exe -m D:\\a.gguf", model="D:\\a.gguf", env={"CUDA_VISIBLE_DEVICES": "0"}),
    case("start-process", "Start-Process -FilePath .\\llama-server.exe -ArgumentList '-m', 'D:\\a.gguf', '-c', '4096' -NoNewWindow -RedirectStandardOutput log.txt", model="D:\\a.gguf", options=C4K, says=["RedirectStandardOutput log.txt"]),
    case("start-process glued", 'Start-Process llama-server.exe -ArgumentList "-m","D:\\a.gguf","-c","4096"', model="D:\\a.gguf", options=C4K),
    case("start-process text", 'Start-Process "C:\\llama\\llama-server.exe" -ArgumentList "-m D:\\a.gguf -c 4096" -WindowStyle Hidden', model="D:\\a.gguf", options=C4K),
    case("start-process list", "Start-Process llama-server.exe -ArgumentList @(\n  '-m', 'D:\\a.gguf'\n  '-c', '4096'\n)", model="D:\\a.gguf", options=C4K),
    case("splat", "$env:CUDA_VISIBLE_DEVICES = '0'\n$model = \"D:\\a.gguf\"\n$opts = @(\n  '-m', $model,\n  '-c', 4096\n)\n& .\\llama-server.exe @opts", model="D:\\a.gguf", options=C4K, env={"CUDA_VISIBLE_DEVICES": "0"}),
    case("list without brackets", "$a = '-m','D:\\a.gguf','-c','4096'\n.\\llama-server.exe $a", model="D:\\a.gguf", options=C4K),
    case("powershell -command", "powershell -NoProfile -Command \"& 'C:\\llama\\llama-server.exe' -m D:\\a.gguf -c 4096\"", model="D:\\a.gguf", options=C4K),
    case("powershell json", "llama-server.exe -m D:\\a.gguf --chat-template-kwargs '{\\\"a\\\": 1}'", options={"chat-template-kwargs": {"a": 1}}),
    case("powershell double", 'llama-server.exe -m D:\\a.gguf --chat-template-kwargs "{`"a`": 1}"', options={"chat-template-kwargs": {"a": 1}}),
    case("home", "llama-server.exe -m $env:USERPROFILE\\models\\a.gguf -c 4096", options=C4K),
    # services
    case("unit", "[Unit]\nDescription=x\n[Service]\nType=simple\nUser=llama\nWorkingDirectory=/srv\nEnvironmentFile=-/etc/llama.env\nEnvironment=A=1 B=2 \"C=d e\"\nEnvironment='F=g'\nExecStartPre=/bin/mkdir -p /run/x\nExecStart=/usr/bin/llama-server \\\n  --model /m/chat.gguf \\\n  # the context\n  --ctx-size 4096 \\\n  --port 9000\nRestart=on-failure\n[Install]\nWantedBy=multi-user.target", model=M, options=C4K, port=9000, env={"A": "1", "B": "2", "C": "d e", "F": "g"}, says=["EnvironmentFile=-/etc/llama.env"]),
    case("unit with variables", '[Service]\nEnvironment=MODEL=/m/chat.gguf\nEnvironment="OPTS=-c 4096 -ngl 9"\nExecStart=/usr/bin/llama-server -m ${MODEL} $OPTS', model=M, options={"ctx-size": 4096, "gpu-layers": 9}, env={"MODEL": M, "OPTS": "-c 4096 -ngl 9"}),
    case("unit of a user", "[Service]\nExecStart=%h/bin/llama-server -m %h/models/a.gguf -c 4096 --alias %i", options=C4K, says=["%i"]),
    case("unit with a shell", "[Service]\nExecStart=/bin/bash -lc 'exec llama-server -m /m/chat.gguf -c 4096 >> /var/log/x 2>&1'", model=M, options=C4K),
    case("unit in a heredoc", "sudo tee /etc/systemd/system/llama.service > /dev/null <<EOF\n[Unit]\nDescription=x\n\n[Service]\nExecStart=/usr/bin/llama-server -m /m/chat.gguf -c 4096\nEnvironment=A=b\nEOF\nsudo systemctl daemon-reload", model=M, options=C4K, env={"A": "b"}),
    case("unit without marks", "[Service]\nExecStart=/usr/bin/llama-server -m /m/chat.gguf\n  -c 4096\n  --port 9000\nRestart=no", model=M, options=C4K, port=9000),
    case("quadlet", "[Unit]\nDescription=llama\n[Container]\nImage=ghcr.io/ggml-org/llama.cpp:server-vulkan\nAddDevice=/dev/dri\nVolume=/srv/models:/models:ro,z\nPublishPort=127.0.0.1:9000:8080\nEnvironment=A=b LLAMA_ARG_CTX_SIZE=4096\nExec=-m /models/chat.gguf --host 0.0.0.0\n[Service]\nRestart=always", model="/srv/models/chat.gguf", port=9000, host="127.0.0.1", options=C4K, env={"A": "b"}, says=["AddDevice=/dev/dri"]),
    case("supervisord", '[program:llama]\ncommand=/usr/bin/llama-server -m /m/chat.gguf -c 4096\nenvironment=A="b",C="d e"\nautostart=true', model=M, options=C4K, env={"A": "b", "C": "d e"}, says=["autostart"]),
    case("openrc", 'name="llama"\ncommand="/usr/bin/llama-server"\ncommand_args="-m /m/chat.gguf\n  -c 4096"\ncommand_background=true', model=M, options=C4K, env={"name": "llama", "command_background": "true"}),
    case("plist", '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">\n<plist version="1.0"><dict>\n<key>Label</key><string>x</string>\n<key>ProgramArguments</key><array><string>/opt/homebrew/bin/llama-server</string><string>-m</string><string>/Users/me/my models/a.gguf</string><string>-c</string><string>4096</string></array>\n<key>EnvironmentVariables</key><dict><key>A</key><string>b</string></dict>\n<key>RunAtLoad</key><true/></dict></plist>', model="/Users/me/my models/a.gguf", options=C4K, env={"A": "b"}, says=["RunAtLoad"]),
    case("plist in part", "<key>ProgramArguments</key>\n<array>\n<string>/bin/sh</string>\n<string>-c</string>\n<string>llama-server -m /m/chat.gguf -c 4096</string>\n</array>", model=M, options=C4K),
    # containers
    case("docker", "docker run -d --name llm --restart unless-stopped --gpus all -v ~/models:/models -p 127.0.0.1:9000:8080 -e A=b --env C=d ghcr.io/ggml-org/llama.cpp:server-cuda -m /models/a.gguf -c 4096 --host 0.0.0.0", port=9000, host="127.0.0.1", options=C4K, env={"A": "b", "C": "d"}, says=["--restart unless-stopped"]),
    case("docker full", "docker run -v /srv:/models ghcr.io/ggml-org/llama.cpp:full --server -m /models/a.gguf -c 4096", model="/srv/a.gguf", options=C4K),
    case("docker mount", "docker run -it --rm --mount type=bind,source=/srv/models,target=/models,readonly -p8081:8080 ggerganov/llama.cpp:server -m /models/a.gguf -c 4096", model="/srv/models/a.gguf", port=8081, options=C4K),
    case("docker entrypoint", "docker run --entrypoint /app/llama-server -v /srv:/m my/image -m /m/a.gguf -c 4096", model="/srv/a.gguf", options=C4K),
    case("docker shell", "docker run -v /srv:/m my/image bash -c 'llama-server -m /m/a.gguf -c 4096'", model="/srv/a.gguf", options=C4K),
    case("docker windows", "docker run -v D:\\models:/models -p 9000:8080 ghcr.io/ggml-org/llama.cpp:server -m /models/a.gguf -c 4096", model="D:\\models\\a.gguf", port=9000, options=C4K),
    case("docker variables", "docker run -v $HOME/models:/models -e LLAMA_ARG_MODEL=/models/a.gguf -e LLAMA_ARG_CTX_SIZE=4096 -e LLAMA_ARG_PORT=8000 -p 9000:8000 ghcr.io/ggml-org/llama.cpp:server", port=9000, options=C4K),
    case("docker lines", "docker run --gpus all\n  -v /srv:/models\n  -p 9000:8080\n  ghcr.io/ggml-org/llama.cpp:server\n  -m /models/a.gguf\n  -c 4096", model="/srv/a.gguf", port=9000, options=C4K),
    case("podman", "podman run --device nvidia.com/gpu=all --security-opt=label=disable --network host -v /srv:/models:Z ghcr.io/ggml-org/llama.cpp:server-cuda --model /models/a.gguf --port 9000 -c 4096", model="/srv/a.gguf", port=9000, options=C4K),
    case("named volume", "docker run -v models:/models ghcr.io/ggml-org/llama.cpp:server -m /models/a.gguf", model="/models/a.gguf", says=["models"]),
    case("compose", 'services:\n  llm:\n    image: ghcr.io/ggml-org/llama.cpp:server-cuda\n    command: -m /models/a.gguf -c 4096 --port 8000\n    ports:\n      - "9000:8000"\n    volumes:\n      - /srv/models:/models\n    environment:\n      - A=b\n    restart: unless-stopped\n', model="/srv/models/a.gguf", port=9000, options=C4K, env={"A": "b"}, says=["restart"]),
    case("compose list", "version: '3'\nservices:\n  web: {image: nginx, command: [nginx, -g, daemon off;]}\n  llm:\n    image: ghcr.io/ggml-org/llama.cpp:server\n    command:\n      - -m\n      - /models/a.gguf\n      - --ctx-size\n      - 4096\n      - --api-key\n      - ${KEY}\n    ports:\n      - target: 8080\n        published: 9000\n    volumes:\n      - type: bind\n        source: /srv\n        target: /models\n    environment:\n      A: b\n      N: 1\n", model="/srv/a.gguf", port=9000, options=C4K, env={"A": "b", "N": "1"}, says=["${KEY}"], never_stored=["KEY"]),
    case("compose folded", "services:\n  llm:\n    image: ghcr.io/ggml-org/llama.cpp:server\n    command: >\n      -m /models/a.gguf\n      --chat-template-kwargs '{\"a\": 1}'\n      -c ${CTX:-4096}\n    volumes: [\"./models:/models\"]\n", options={"ctx-size": 4096, "chat-template-kwargs": {"a": 1}}, model="models/a.gguf"),
    case("compose variables", "services:\n  llm:\n    image: ghcr.io/ggml-org/llama.cpp:server\n    environment:\n      LLAMA_ARG_MODEL: /models/a.gguf\n      LLAMA_ARG_CTX_SIZE: 4096\n      LLAMA_ARG_FLASH_ATTN: \"on\"\n      LLAMA_ARG_HF_REPO: null\n    volumes: [/srv:/models]\n    ports: ['9000:8080']\n", model="/srv/a.gguf", port=9000, options={"ctx-size": 4096, "flash-attn": "on"}),
    case("kubernetes", 'apiVersion: apps/v1\nkind: Deployment\nspec:\n  template:\n    spec:\n      containers:\n        - name: llm\n          image: ghcr.io/ggml-org/llama.cpp:server\n          args: ["-m", "/models/a.gguf", "-c", "4096", "--port", "$(PORT)"]\n          env:\n            - name: A\n              value: b\n            - name: SECRET\n              valueFrom: {secretKeyRef: {name: x, key: y}}\n          ports: [{containerPort: 8080}]\n          volumeMounts: [{name: models, mountPath: /models}]\n', model="/models/a.gguf", options=C4K, env={"A": "b"}, says=["$(PORT)"]),
    case("dockerfile", 'FROM ghcr.io/ggml-org/llama.cpp:server-cuda\nENV A=b\nCOPY a.gguf /models/a.gguf\nENTRYPOINT ["/app/llama-server"]\nCMD ["-m", "/models/a.gguf", "-c", "4096"]\n', model="/models/a.gguf", options=C4K, env={"A": "b"}, says=["COPY a.gguf"]),
    # other programs' files
    case("llama-swap", "macros:\n  bin: /opt/llama-server --port ${PORT}\n  ctx: 4096\nmodels:\n  chat:\n    cmd: |\n      ${bin}\n      -m /m/chat.gguf\n      # not now\n      -c ${ctx}\n    env:\n      - CUDA_VISIBLE_DEVICES=0\n    ttl: 300\n", model=M, options=C4K, env={"CUDA_VISIBLE_DEVICES": "0"}, says=["${PORT}", "ttl"]),
    case("llama-swap folded", "models:\n  chat:\n    cmd: >\n      llama-server --port ${PORT}\n      -m /m/chat.gguf\n      # was 8192\n      -c 4096\n", model=M, says=["# was 8192 -c 4096"]),
    case("cmd in one line", "cmd: llama-server --port ${PORT} -m /m/chat.gguf -c 4096", model=M, options=C4K),
    case("tasks.json", '{"label": "x", "type": "shell", "command": "llama-server", "args": ["-m", "/m/chat.gguf", "-c", "4096"]}', model=M, options=C4K),
    case("list", '["llama-server", "-m", "/m/chat.gguf", "-c", "4096"]', model=M, options=C4K),
    case("python", 'import subprocess\nsubprocess.Popen(["./llama-server", "-m", "/m/chat.gguf",\n  "-c", "4096"])\n', model=M, options=C4K),
    case("compose with anchors", "x-llama: &base\n  image: ghcr.io/ggml-org/llama.cpp:server\n  volumes: [/srv:/models]\nservices:\n  llm:\n    <<: *base\n    command: -m /models/a.gguf -c 4096\n", model="/srv/a.gguf", options=C4K),
    case("splatted table", "$p = @{\n  FilePath = 'C:\\llama\\llama-server.exe'\n  ArgumentList = @('-m', 'D:\\a.gguf',\n    '-c', '4096')\n  NoNewWindow = $true\n}\nStart-Process @p", model="D:\\a.gguf", options=C4K),
    case("conditions", f'if [ -n "$BIG" ]; then\n  CTX=8192\nelse\n  CTX=4096\nfi\nllama-server -m {M} -c $CTX', model=M, options={"ctx-size": 8192}, says=["held: CTX=8192\n", "otherwise: CTX=4096"]),
    case("conditions in one line", f"if nvidia-smi; then NGL=99; else NGL=0; fi\nllama-server -m {M} -ngl $NGL", options={"gpu-layers": 99}, says=["held: NGL=99\n", "otherwise: NGL=0"]),
    case("elif, and nothing", f"if a; then N=9; X='-fa on'\nelif b; then N=8\nelse\n  N=0\n  X=\nfi\nllama-server -m {M} -ngl $N $X", options={"gpu-layers": 9, "flash-attn": "on"}, says=["N=8; N=0; X="]),
    case("an empty variable", f"X=\nllama-server -m {M} $X -c 4096", model=M, options=C4K),
    case("only in the else branch", f'if [ -z "$1" ]; then\n  echo usage; exit 1\nelse\n  CTX=4096\n  llama-server -m {M} -c $CTX\nfi', model=M, options=C4K),
    case("case", f'case "$1" in\n  big) CTX=4096 ;;\n  small)\n    CTX=1024 ;;\nesac\nllama-server -m {M} -c $CTX', model=M, options=C4K, says=["otherwise: CTX=1024"]),
    case("else of cmd", "if exist x (\n  set CTX=4096\n) else (\n  set CTX=1024\n)\nllama-server.exe -m D:\\a.gguf -c %CTX%", model="D:\\a.gguf", options=C4K, says=["otherwise: set CTX=1024"]),
    case("else of powershell", "if (Test-Path x) {\n  $ctx = 4096\n}\nelse {\n  $ctx = 1024\n}\nllama-server.exe -m D:\\a.gguf -c $ctx", model="D:\\a.gguf", options=C4K, says=["otherwise: $ctx = 1024"]),
    case("or", f"[ -f big ] && CTX=4096 || CTX=1024\nllama-server -m {M} -c $CTX", model=M, options=C4K, says=["otherwise: CTX=1024"]),
    case("or a default", f'CTX=$1\n[ -n "$CTX" ] || CTX=4096\nllama-server -m {M} -c $CTX', model=M, options=C4K, says=["held: CTX=4096"]),
    case("systemd-run", f"systemd-run --user --unit=llm -p MemoryMax=20G -E A=b llama-server -m {M} -c 4096", model=M, options=C4K, env={"A": "b"}, says=["MemoryMax=20G"]),
    case("a name with a blank", f"llama-server -m {M} -c 4096 --alias 'my model,other'", model=M, options=C4K, says=["'my model'"]),
    case("only a variable", 'llama-server -m "$MODEL" -c 4096', model=None, options=C4K, says=["$MODEL", "no model was named"]),
    case("a default of an argument", f"llama-server -m {M} -c 4096 --port ${{1:-9000}}", model=M, options=C4K, port=9000),
    case("a prompt's text", f"Here is what I run:\n\n    llama-server -m {M} -c 4096\n\nIt gives me 20 t/s.", model=M, options=C4K, says=["It gives me 20 t/s."]),
    case("its output", f"$ llama-server -m {M} -c 4096\nmain: server is listening on http://127.0.0.1:8080\n", model=M, options=C4K, says=["main: server"]),
    case("started process", 'Start-Sleep 1\n$p = Start-Process -PassThru llama-server.exe -ArgumentList "-m","D:\\a.gguf","-c 4096"', model="D:\\a.gguf", options=C4K),
    case("backslash at the end", 'llama-server.exe -m D:\\a.gguf --slot-save-path "C:\\my slots\\\\" -c 4096', model="D:\\a.gguf", options={"ctx-size": 4096, "slot-save-path": "C:\\my slots\\"}),
    case("growing text", 'args="-m /m/chat.gguf"\nargs="$args -c 4096"\nargs+=" -ngl 9"\neval llama-server $args', model=M, options={"ctx-size": 4096, "gpu-layers": 9}),
    case("plist's dict", "<dict>\n<key>ProgramArguments</key><array><string>llama-server</string><string>-m</string><string>/m/chat.gguf</string></array>\n<key>KeepAlive</key><dict><key>Crashed</key><true/></dict>\n</dict>", model=M, says=["KeepAlive"]),
    case("compose folded over a comment", "services:\n  llm:\n    image: ghcr.io/ggml-org/llama.cpp:server\n    command: >\n      -m /m/chat.gguf\n      # --mlock\n      -c 4096\n", model=M, says=["# --mlock -c 4096"]),
    case("compose shell", "services:\n  llm:\n    build: .\n    command: [sh, -c, exec /app/llama-server -m /m/$$MODEL -c 4096]\n    environment: {MODEL: chat.gguf}\n", model=M, options=C4K, env={"MODEL": "chat.gguf"}),
    case("kubernetes variable", "containers:\n- image: ghcr.io/ggml-org/llama.cpp:server\n  args: [-m, $(MODEL), -c, '4096']\n  env: [{name: MODEL, value: /m/chat.gguf}]\n", model=M, options=C4K, env={"MODEL": M}),
    case("script's parameters", 'param(\n  [string]$Model = "D:\\a.gguf",\n  [int]$Ctx = 4096\n)\n& "$PSScriptRoot\\llama-server.exe" --model $Model --ctx-size $Ctx', model="D:\\a.gguf", options=C4K),
    case("Windows in JSON", '{"command": "C:\\\\llama\\\\llama-server.exe", "args": ["-m", "D:\\\\a.gguf", "-c", "4096"]}', model="D:\\a.gguf", options=C4K),
    case("nothing but variables", "llama-server -m $MODEL -c $CTX", refused_or_named=["Nothing of this launch", "$MODEL", "$CTX"]),
    case("compose in a heredoc", "docker compose -f - up <<EOF\nservices:\n  llm:\n    image: ghcr.io/ggml-org/llama.cpp:server\n    command: -m /m/chat.gguf -c 4096\nEOF\n", model=M, options=C4K),
    # the hub
    case("hub", "llama-server -hf ggml-org/gemma-3-4b-it-GGUF -c 4096", repo="ggml-org/gemma-3-4b-it-GGUF", quant=None, options=C4K),
    case("hub quant", "llama-server --hf-repo=unsloth/Qwen3-8B-GGUF:UD-Q4_K_XL", repo="unsloth/Qwen3-8B-GGUF", quant="UD-Q4_K_XL"),
    case("hub file", "llama-server -hf a/b-GGUF:Q8_0 -hff b-F16.gguf", repo="a/b-GGUF", quant=None, file="b-F16.gguf", says=["Q8_0"]),
    case("address", "llama-server -m https://huggingface.co/owner/repo/resolve/main/x.gguf -c 4096", model=None, repo="owner/repo", file="x.gguf", options=C4K),
    case("address of a page", "llama-server -mu https://hf.co/owner/repo/blob/main/sub/x.gguf?download=true", model=None, repo="owner/repo", file="sub/x.gguf"),
    case("address of a repository", "llama-server -hf https://huggingface.co/owner/repo", repo="owner/repo", quant=None),
    case("preset", "llama-server --gpt-oss-20b-default -c 4096", model=None, repo="ggml-org/gpt-oss-20b-GGUF", file="gpt-oss-20b-mxfp4.gguf", port=8013, options={"ctx-size": 4096, "batch-size": 32768, "min-p": 0.01}, says=["what the preset sets", "262144 is dropped"]),
    case("toml", '[[servers]]\nname = "x"\ncommand = "llama-server"\nargs = [\n  "-m", "/m/chat.gguf",\n  "-c", "4096",\n]\nenv = {A = "b"}\n', model=M, options=C4K, env={"A": "b"}),
    case("a parameter of just", f'serve port="9000" *more:\n    llama-server -m {M} --port {{{{port}}}} -c 4096\n', model=M, port=9000, options=C4K),
    # wrong
    case("presets of a router", "[*]\nc = 4096\n\n[gpt]\nmodel = /m/x.gguf\nn-gpu-layers = 99\n", refused_or_named=["a section for each model"]),
    case("address elsewhere", "llama-server -m https://example.com/x.gguf", refused_or_named=["download https://example.com/x.gguf"]),
    case("address of a projector", "llama-server -m x.gguf --mmproj https://lan.example/p.gguf", refused_or_named=["only models on Hugging Face are fetched"]),
    case("a draft of the hub", "llama-server -m x.gguf -hfd o/r:Q8_0 --spec-type ngram-mod,draft-simple", draft=["o/r", None, "Q8_0", "simple"], options={"spec-type": "ngram-mod"}),
    case("every unknown", "llama-server -m x -foo 1 --bar-baz 2 -rtr -ctx 5", refused_or_named=["-foo", "--bar-baz", "-rtr", "-ctx"]),
    case("json eaten", "llama-server -m x --chat-template-kwargs {enable_thinking:false}", refused_or_named=["chat-template-kwargs", '{"enable_thinking":false}']),
    case("modelfile", "FROM ./a.gguf\nPARAMETER num_ctx 4096\nSYSTEM You are nice\n", refused_or_named=["Ollama"]),
    case("ollama", "ollama run gpt-oss:20b", refused_or_named=["Ollama"]),
    case("lms", "lms load gpt-oss-20b --gpu max", refused_or_named=["LM Studio"]),
    case("llama-cli", "llama-cli -m x.gguf -c 4096", refused_or_named=["llama-server"]),
    case("two", "llama-server -m a.gguf\nllama-server -m b.gguf", refused_or_named=["2 llama-server commands", "b.gguf"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), FORMS)
def test_a_form(text, expected):
    check(text, expected)


def test_nothing_of_a_text_is_run(tmp_path):
    trap = tmp_path / "trap"
    read_launch(f"X=$(touch {trap})\n`touch {trap}`\nllama-server -m x.gguf --alias $X <(touch {trap})")
    assert not trap.exists()


@given(
    st.text(alphabet="ab -\\'\"`^#;&|>$(){}[]<:=\n\t%@,", max_size=60),
    st.sampled_from(
        [
            "",
            "cmd: ",
            "[Service]\nExecStart=",
            "<key>ProgramArguments</key>",
            "- ",
            "services:\n a:\n  command: ",
        ]
    ),
)
@example("()", "[Service]\nExecStart=")  # an array without words
def test_no_text_makes_it_fail_otherwise_than_in_words(text, lead):
    for launch in (f"{lead}llama-server {text}", f"{lead}{text}"):
        with suppress(UsageError):
            assert all(isinstance(word, str) for word in read_launch(launch).words)


@pytest.mark.parametrize("text", ["a=(" * 2000, "$(" * 9000, "x" * 70_000, "if [ " * 3000, "[" * 3000])
def test_what_is_no_launch_is_refused_soon(text):
    with pytest.raises(UsageError):
        read_launch(text)


def test_aliases_of_yaml_do_not_grow():
    bomb = "a: &a [x, x]\n" + "".join(
        f"{n}: &{n} [*{m}, *{m}, *{m}, *{m}]\n" for m, n in pairwise("abcdefghijklmnopqrst")
    )
    assert read_launch(f"{bomb}cmd: llama-server -m /m/chat.gguf").words == ("-m", "/m/chat.gguf")
