"""What is said beside the texts of several clients."""

from __future__ import annotations

from .types import Target

_AGENT_TOKENS = 32_768
"""An agent's own instructions and tools take 10,000 to 25,000 tokens before the first question."""


def key_steps(target: Target, how: str = "") -> tuple[str, ...]:
    """Where the key is; ``how`` is what this client wants beside that."""
    if target.key_env is None:
        return ()
    return (where_the_key_is(target.key_env), how) if how else (where_the_key_is(target.key_env),)


def where_the_key_is(key_env: str) -> str:
    made = "goss-supervisor key add NAME makes a key, and shows it once"
    return f"{key_env} is the environment variable that holds the key; {made}."


def context_steps(target: Target, *, agent: bool = False) -> tuple[str, ...]:
    """What is unknown of the context, or too little of it."""
    tokens = target.context_tokens
    if tokens is None:
        why = "the profile leaves it to llama-server"
        return (f"The size of the context is not known ({why}) and left out: set ctx-size to have it here.",)
    if agent and tokens < _AGENT_TOKENS:
        few = (
            f"A context of {tokens} tokens is small for an agent, which has 10,000 to 25,000 of its own in it"
        )
        return (f"{few}: set ctx-size to {_AGENT_TOKENS} or more.",)
    return ()
