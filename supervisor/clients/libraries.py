"""Recipes for those who write programs or use a shell: packages for Python and Node, curl, llm.  Pure."""

from __future__ import annotations

import json

from .client_endpoint import ClientApp, ClientEndpoint, Recipe, Snippet, key_steps, quoted

_QUESTION = "Say hello."


def openai_python(endpoint: ClientEndpoint) -> Recipe:
    """``openai``: its base URL has the ``/v1``, and it wants a key even where nobody looks at it."""
    text = f"""\
{_python_imports("from openai import OpenAI", endpoint)}
client = OpenAI(base_url={quoted(endpoint.api)}, api_key={_python_key(endpoint)})
answer = client.chat.completions.create(
    model={quoted(endpoint.model)},
    messages=[{{"role": "user", "content": "Say hello."}}],
)
print(answer.choices[0].message.content)
"""
    return _python_recipe("openai", text, endpoint)


def anthropic_python(endpoint: ClientEndpoint) -> Recipe:
    """``anthropic``: adds ``/v1`` itself.  A model that reasons answers with a block of thoughts first."""
    text = f"""\
{_python_imports("from anthropic import Anthropic", endpoint)}
client = Anthropic(base_url={quoted(endpoint.url)}, api_key={_python_key(endpoint)})
answer = client.messages.create(
    model={quoted(endpoint.model)},
    max_tokens=1024,
    messages=[{{"role": "user", "content": "Say hello."}}],
)
print("".join(block.text for block in answer.content if block.type == "text"))
"""
    return _python_recipe("anthropic", text, endpoint)


def _python_imports(package: str, endpoint: ClientEndpoint) -> str:
    return f"import os\n\n{package}\n" if endpoint.key_env else f"{package}\n"


def _python_key(endpoint: ClientEndpoint) -> str:
    return f"os.environ[{quoted(endpoint.key_env)}]" if endpoint.key_env else quoted("none")


def _python_recipe(package: str, text: str, endpoint: ClientEndpoint) -> Recipe:
    steps = f"pip install {package}, then python hello.py."
    return _recipe(Snippet("hello.py", "python", text), steps, endpoint)


def _recipe(snippet: Snippet, how: str, endpoint: ClientEndpoint) -> Recipe:
    return Recipe((snippet,), (how, *key_steps(endpoint)))


def langchain(endpoint: ClientEndpoint) -> Recipe:
    """LangChain by its package for OpenAI's API."""
    text = f"""\
{_python_imports("from langchain_openai import ChatOpenAI", endpoint)}
model = ChatOpenAI(
    base_url={quoted(endpoint.api)},
    api_key={_python_key(endpoint)},
    model={quoted(endpoint.model)},
)
print(model.invoke({quoted(_QUESTION)}).content)
"""
    return _python_recipe("langchain-openai", text, endpoint)


def litellm(endpoint: ClientEndpoint) -> Recipe:
    """LiteLLM, to which ``openai/`` is the API and no part of the model's name."""
    text = f"""\
{_python_imports("import litellm", endpoint)}
answer = litellm.completion(
    model={quoted("openai/" + endpoint.model)},
    api_base={quoted(endpoint.api)},
    api_key={_python_key(endpoint)},
    messages=[{{"role": "user", "content": {quoted(_QUESTION)}}}],
)
print(answer.choices[0].message.content)
"""
    return _python_recipe("litellm", text, endpoint)


def openai_node(endpoint: ClientEndpoint) -> Recipe:
    """``openai`` for Node."""
    text = f"""\
import OpenAI from "openai";

const client = new OpenAI({{ baseURL: {quoted(endpoint.api)}, apiKey: {_node_key(endpoint)} }});
const answer = await client.chat.completions.create({{
  model: {quoted(endpoint.model)},
  messages: [{{ role: "user", content: {quoted(_QUESTION)} }}],
}});
console.log(answer.choices[0].message.content);
"""
    return _node_recipe("openai", text, endpoint)


def vercel_ai(endpoint: ClientEndpoint) -> Recipe:
    """Vercel's AI SDK, by its provider for servers that are compatible with OpenAI's API."""
    text = f"""\
import {{ createOpenAICompatible }} from "@ai-sdk/openai-compatible";
import {{ generateText }} from "ai";

const goss = createOpenAICompatible({{
  name: "goss",
  baseURL: {quoted(endpoint.api)},
  apiKey: {_node_key(endpoint)},
}});
const {{ text }} = await generateText({{
  model: goss({quoted(endpoint.model)}),
  prompt: {quoted(_QUESTION)},
}});
console.log(text);
"""
    return _node_recipe("ai @ai-sdk/openai-compatible", text, endpoint)


def _node_key(endpoint: ClientEndpoint) -> str:
    return f"process.env.{endpoint.key_env}" if endpoint.key_env else quoted("none")


def _node_recipe(packages: str, text: str, endpoint: ClientEndpoint) -> Recipe:
    steps = f"npm install {packages}, then node hello.mjs."
    return _recipe(Snippet("hello.mjs", "javascript", text), steps, endpoint)


def curl(endpoint: ClientEndpoint) -> Recipe:
    """The command."""
    body = {"model": endpoint.model, "messages": [{"role": "user", "content": _QUESTION}]}
    document = json.dumps(body, ensure_ascii=False).replace("'", "\\u0027")  # the shell's own quotes
    lines = (
        f"curl {endpoint.api}/chat/completions",
        *((f'-H "Authorization: Bearer ${endpoint.key_env}"',) if endpoint.key_env else ()),
        "-H 'Content-Type: application/json'",
        f"-d '{document}'",
    )
    text = " \\\n  ".join(lines) + "\n"
    steps = (
        'With "stream": true the answer comes in pieces; curl -N shows each at once.',
        *key_steps(endpoint),
    )
    return Recipe((Snippet("A shell", "sh", text),), steps)


def llm(endpoint: ClientEndpoint) -> Recipe:
    """``llm`` by Simon Willison, which keeps keys by name in a file of its own."""
    key = "  api_key_name: goss\n" if endpoint.key_env else ""
    text = f"""\
- model_id: {quoted(endpoint.model)}
  model_name: {quoted(endpoint.model)}
  api_base: {quoted(endpoint.api)}
{key}"""
    steps = (
        f"uv tool install llm, then llm -m {endpoint.model} {quoted(_QUESTION)}",
        'Where the file lies: dirname "$(llm logs path)".',
        *key_steps(endpoint, f'Once: llm keys set goss --value "${endpoint.key_env}"'),
    )
    where = "~/.config/io.datasette.llm/extra-openai-models.yaml"
    return Recipe((Snippet(where, "yaml", text),), steps)


LIBRARIES: tuple[ClientApp, ...] = (
    ClientApp("curl", "curl", curl),
    ClientApp("llm", "llm, on the command line", llm),
    ClientApp("openai-python", "openai, the Python package", openai_python),
    ClientApp("anthropic-python", "anthropic, the Python package", anthropic_python),
    ClientApp("langchain", "LangChain, for Python", langchain),
    ClientApp("litellm", "LiteLLM, for Python", litellm),
    ClientApp("openai-node", "openai, the Node package", openai_node),
    ClientApp("vercel-ai", "Vercel's AI SDK, for Node", vercel_ai),
)
