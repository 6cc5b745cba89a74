#!/bin/sh
# Installs clients and lets each ask a question through the gateway, with what client-config prints for it.
#
#   bench/clients.sh [CLIENT]...        all of them, or those; needs bin/goss-supervisor, curl, Python and npm
#
# It starts the demo model at a port of its own, in a home of its own, with a context that agents can use.
# GOSS_CLIENTS keeps the installed clients from run to run, ENGINE is a llama-server to take in place of the
# release.  Prints a line for each client: its name, its version, and "answers" or what went wrong.
set -u

root=$(CDPATH='' cd -P -- "$(dirname -- "$0")/.." && pwd -P)
work=$(mktemp -d)
kept=${GOSS_CLIENTS:-$work/clients}
port=${PORT:-18080}
export GOSS_SUPERVISOR_HOME="$work/goss" HOME="$work/home" CI=1
mkdir -p "$kept" "$HOME"
goss() { "$root/bin/goss-supervisor" "$@"; }
trap 'goss stop --now >/dev/null 2>&1; rm -rf "$work"' EXIT INT TERM

config() { goss client-config "$1" 2>/dev/null; }
of_pip() { # PACKAGE...: into a virtual environment of that name, whose Python is $py
    py=$kept/$1/bin/python
    [ -x "$py" ] || { python3 -m venv "$kept/$1" && "$py" -m pip install -q "$@" >/dev/null 2>&1; }
    version=$("$py" -m pip show "$1" 2>/dev/null | sed -n 's/^Version: //p')
}
of_npm() { # PACKAGE...: into a folder for it, $node
    node=$kept/npm-$(printf %s "$1" | tr -d @ | tr / -)
    [ -d "$node/node_modules" ] || (mkdir -p "$node" && cd "$node" && npm install --silent --no-audit --no-fund "$@" >/dev/null 2>&1)
    version=$(cd "$node" && node -p "JSON.parse(require('fs').readFileSync('node_modules/$1/package.json')).version")
}
python_text() { config "$1" >"$work/hello.py" && "$py" "$work/hello.py"; }
node_text() { config "$1" >"$node/hello.mjs" && (cd "$node" && node hello.mjs); }

ask() { # one client; its answer on stdout
    case $1 in
    curl)
        version=$(curl --version | sed -n '1s/^curl \([^ ]*\).*/\1/p')
        config curl | sh
        ;;
    llm)
        of_pip llm
        mkdir -p "$work/llm" && config llm >"$work/llm/extra-openai-models.yaml"
        LLM_USER_PATH="$work/llm" "$kept/llm/bin/llm" -m gpt-oss-demo 'Say hello.'
        ;;
    openai-python) of_pip openai && python_text "$1" ;;
    anthropic-python) of_pip anthropic && python_text "$1" ;;
    langchain) of_pip langchain-openai && python_text "$1" ;;
    litellm) of_pip litellm && python_text "$1" ;;
    aider)
        of_pip aider-chat
        mkdir -p "$work/aider" && config aider >"$work/aider/.aider.conf.yml"
        (cd "$work/aider" && "$kept/aider-chat/bin/aider" --no-git --yes-always --no-check-update --message 'Say hello.')
        ;;
    openai-node) of_npm openai && node_text "$1" ;;
    vercel-ai) of_npm ai @ai-sdk/openai-compatible && node_text "$1" ;;
    codex)
        of_npm @openai/codex
        mkdir -p "$HOME/.codex" && config codex >"$HOME/.codex/config.toml"
        (cd "$work" && "$node/node_modules/.bin/codex" exec --skip-git-repo-check 'Say hello.')
        ;;
    claude-code)
        of_npm @anthropic-ai/claude-code
        mkdir -p "$HOME/.claude" && config claude-code >"$HOME/.claude/settings.json"
        (cd "$work" && "$node/node_modules/.bin/claude" -p 'Say hello.')
        ;;
    opencode)
        of_npm opencode-ai
        mkdir -p "$HOME/.config/opencode" && config opencode >"$HOME/.config/opencode/opencode.json"
        (cd "$work" && "$node/node_modules/.bin/opencode" run 'Say hello.')
        ;;
    cline-cli)
        of_npm cline
        config cline-cli | PATH="$node/node_modules/.bin:$PATH" sh
        ;;
    cn)
        of_npm @continuedev/cli
        config cn >"$work/continue.yaml"
        (cd "$work" && "$node/node_modules/.bin/cn" --config "$work/continue.yaml" -p 'Say hello.')
        ;;
    *)
        echo "there is no $1 here"
        return 2
        ;;
    esac
}

engine=${ENGINE:+--set engine.source=path --set engine.path=$ENGINE}
clients=$*
all='curl llm openai-python anthropic-python langchain litellm openai-node vercel-ai cn cline-cli codex claude-code opencode aider'
# shellcheck disable=SC2086 # words
goss start demo --detach $engine --set "listen.port=$port" --set ctx-size=131072 >"$work/said" 2>&1 || {
    cat "$work/said"
    exit 1
}
failed=0
for client in ${clients:-$all}; do
    version=unknown
    if ask "$client" >"$work/said" 2>"$work/errors" </dev/null && grep -q 'demo model' "$work/said"; then
        outcome=answers
    else
        outcome="does not: $(tail -n 1 "$work/errors" | cut -c 1-200)"
        failed=1
    fi
    printf '%-18s %-12s %s\n' "$client" "$version" "$outcome"
done
exit $failed
