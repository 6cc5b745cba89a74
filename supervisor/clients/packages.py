"""The Python packages of OpenAI and Anthropic: a program that runs as it stands."""

from __future__ import annotations

from .steps import key_steps
from .types import Recipe, Snippet, Target, quoted


def openai_python(target: Target) -> Recipe:
    """``openai``: its base URL has the ``/v1``, and it wants a key even where nobody looks at it."""
    text = f"""\
{_imports("from openai import OpenAI", target)}
client = OpenAI(base_url={quoted(target.api)}, api_key={_key(target)})
answer = client.chat.completions.create(
    model={quoted(target.model)},
    messages=[{{"role": "user", "content": "Say hello."}}],
)
print(answer.choices[0].message.content)
"""
    return Recipe((Snippet("hello.py", "python", text),), (_install("openai"), *key_steps(target)))


def anthropic_python(target: Target) -> Recipe:
    """``anthropic``: adds ``/v1`` itself.  A model that reasons answers with a block of thoughts first."""
    text = f"""\
{_imports("from anthropic import Anthropic", target)}
client = Anthropic(base_url={quoted(target.url)}, api_key={_key(target)})
answer = client.messages.create(
    model={quoted(target.model)},
    max_tokens=1024,
    messages=[{{"role": "user", "content": "Say hello."}}],
)
print("".join(block.text for block in answer.content if block.type == "text"))
"""
    return Recipe((Snippet("hello.py", "python", text),), (_install("anthropic"), *key_steps(target)))


def _imports(package: str, target: Target) -> str:
    return f"import os\n\n{package}\n" if target.key_env else f"{package}\n"


def _key(target: Target) -> str:
    return f"os.environ[{quoted(target.key_env)}]" if target.key_env else quoted("none")


def _install(package: str) -> str:
    return f"pip install {package}, then python hello.py."
