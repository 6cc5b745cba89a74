"""Whole command lines, as articles print them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.errors import UsageError
from supervisor.profile.launch_texts import read_launch


@pytest.mark.parametrize(
    ("text", "program", "words"),
    [
        ("llama-server -m x.gguf -fa", "llama-server", "-m|x.gguf|-fa"),
        ("  $ ./build/bin/llama-server -m x  # fast", "./build/bin/llama-server", "-m|x"),
        ("llama-server \\\n  -m x \\\n  -c 4096\n", "llama-server", "-m|x|-c|4096"),
        ("$ llama-server \\\r\n> -m x \\\r\n> -c 4096\r\n", "llama-server", "-m|x|-c|4096"),
        ("llama-server \\ \n -m x \\  # the model\n # how much\n -c 1", "llama-server", "-m|x|-c|1"),
        ("llama-server -m My\\ Model.gguf", "llama-server", "-m|My Model.gguf"),
        ("llama-server -m 'a b' --alias \"c d\"'e'", "llama-server", "-m|a b|--alias|c de"),
        ("llama-server --alias \u201ca b\u201d -m \u2018c d\u2019", "llama-server", "--alias|a b|-m|c d"),
        ("llama-server --alias it\u2019s", "llama-server", "--alias|it\u2019s"),
        ("llama-server --alias ''", "llama-server", "--alias|"),
        ("llama-server -ot 'blk\\.[0-9]=CPU'", "llama-server", "-ot|blk\\.[0-9]=CPU"),
        (
            'llama-server --chat-template-kwargs "{\\"a\\": 1}"',
            "llama-server",
            '--chat-template-kwargs|{"a": 1}',
        ),
        ("sudo -E nohup ./llama-server -m x > log 2>&1 &", "./llama-server", "-m|x"),
        ("llama-server -m x 2>&1 | tee log", "llama-server", "-m|x"),
        ("cd ~/llama-server && ./llama-server -m x;", "./llama-server", "-m|x"),
        ("cmake --build build --target llama-server\nllama-server -m x", "llama-server", "-m|x"),
        ("llama serve -m x", "llama", "-m|x"),
        ("user@box:~/llama.cpp$ llama-server -m x", "llama-server", "-m|x"),
        ("(venv) $ llama-server -m x", "llama-server", "-m|x"),
        ("```bash\nllama-server -m a\\ b\n```", "llama-server", "-m|a b"),
        ("`llama-server -m x`", "llama-server", "-m|x"),
        ("llama-server -m <path> --samplers top_k;min_p", "llama-server", "-m|<path>|--samplers|top_k;min_p"),
        ("\ufeffllama-server\u00a0-m x", "llama-server", "-m|x"),
        ("llama-server -m https://x/y#z", "llama-server", "-m|https://x/y#z"),
    ],
)
def test_sh_command_lines(text, program, words):
    command = read_launch(text)
    assert (command.program, "|".join(command.words)) == (program, words)


@pytest.mark.parametrize(
    ("text", "program", "words"),
    [
        ("llama-server -m C:\\models\\x.gguf", "llama-server", "-m|C:\\models\\x.gguf"),
        (".\\llama-server.exe -m models\\x.gguf", ".\\llama-server.exe", "-m|models\\x.gguf"),
        ("C:\\Users\\me>llama-server.exe -m x ^\r\n -c 1 ^\r\n -fa", "llama-server.exe", "-m|x|-c|1|-fa"),
        ("PS C:\\llama> .\\llama-server.exe `\n -m x `\n -c 1", ".\\llama-server.exe", "-m|x|-c|1"),
        (
            '& "C:\\Program Files\\llama\\llama-server.exe" -m "D:\\my models\\x.gguf"',
            "C:\\Program Files\\llama\\llama-server.exe",
            "-m|D:\\my models\\x.gguf",
        ),
        ("llama-server -m C:\\m\\x.gguf \\\n -c 1", "llama-server", "-m|C:\\m\\x.gguf|-c|1"),
        (
            'llama-server.exe --chat-template-kwargs "{\\"a\\":1}"',
            "llama-server.exe",
            '--chat-template-kwargs|{"a":1}',
        ),
        ("C:\\l\\LLAMA-SERVER.EXE -m a > log.txt", "C:\\l\\LLAMA-SERVER.EXE", "-m|a"),
        ("REM starts llama-server\nllama-server -m C:\\x", "llama-server", "-m|C:\\x"),
    ],
)
def test_windows_command_lines(text, program, words):
    command = read_launch(text)
    assert (command.program, "|".join(command.words)) == (program, words)


@pytest.mark.parametrize(
    ("text", "env"),
    [
        (
            "CUDA_VISIBLE_DEVICES=0 GGML_X='a b' llama-server -m x",
            {"CUDA_VISIBLE_DEVICES": "0", "GGML_X": "a b"},
        ),
        ("export A=1 B=2\nllama-server -m x", {"A": "1", "B": "2"}),
        ("A=1\nllama-server -m x", {"A": "1"}),
        ("sudo A=1 llama-server -m x", {"A": "1"}),
        ("env A=1 llama-server -m x", {"A": "1"}),
        ("set A=b c\nllama-server -m C:\\x", {"A": "b c"}),
        ('set "A=b c"\nllama-server -m C:\\x', {"A": "b c"}),
        ('$env:A = "b"\nllama-server -m x', {"A": "b"}),
        ('$env:A="b"; .\\llama-server -m x', {"A": "b"}),
        ("llama-server -ot exps=CPU", {}),
        ("echo A=1\nllama-server -m x", {}),
    ],
)
def test_what_is_set_for_the_server_is_kept(text, env):
    assert read_launch(text).env == env


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no llama-server command"),
        ("vi run.sh", "no llama-server command"),
        ("cd llama-server", "no llama-server command"),
        ("# llama-server -m x", "no llama-server command"),
        ("llama-server -m a\nllama-server -m b", "2 llama-server commands"),
        ("llama-server -m 'abc", "quote ' in line 1"),
        ('llama-server \\\n --alias "abc', 'quote " in line 2'),
    ],
)
def test_what_is_wrong_is_said(text, message):
    with pytest.raises(UsageError, match=message) as caught:
        read_launch(text)
    assert caught.value.hint


@given(st.text(alphabet="ab -\\'\"`^#;&|>$\n\t\u201c\u2019", max_size=40))
def test_no_text_makes_it_fail_otherwise(text):
    try:
        program = read_launch("llama-server " + text).program
    except UsageError:
        program = "llama-server"  # refused in words, which is as good
    assert program == "llama-server"
