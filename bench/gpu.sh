#!/bin/sh
# What holds on a machine with an NVIDIA GPU, in at most ten minutes and without a network.
#
#   bench/gpu.sh --engine LLAMA-SERVER [--python PYTHON] [--model FILE.gguf] [--out FOLDER] [--seconds 600]
#                [--only 'CHECK …'] [--dry-run]
#
# LLAMA-SERVER is a CUDA build, PYTHON one that has goss-supervisor (by default the one of .venv).  Without a model
# it makes gpt-oss-20b in its true shape with weights of zero, which takes 9 MB on the disk and loads 12 GB.
# Each check has a time of its own; those that do not fit in what is left are not begun.
#
# Prints a table, and writes it as FOLDER/gpu.json, next to what each check printed.  Exits with 1 where one failed.
# --dry-run prints what would be checked, and for how long at most.
# shellcheck disable=SC2329 # `check` calls the functions by their names
set -u

root=$(CDPATH='' cd -P -- "$(dirname -- "$0")/.." && pwd -P)
engine='' python=$root/.venv/bin/python model='' out='' seconds=600 only='' dry=no
usage() { sed -n '2,12s/^# \{0,1\}//p' "$0" >&2; exit 2; }
while [ $# -gt 0 ]; do
    case $1 in
    --dry-run) dry=yes ;;
    --engine | --python | --model | --out | --seconds | --only)
        [ $# -gt 1 ] || usage
        eval "${1#--}=\$2"
        shift
        ;;
    *) usage ;;
    esac
    shift
done
[ -n "$engine" ] || usage

work=$(mktemp -d)
out=${out:-$work/out}
mkdir -p "$out"
export GOSS_SUPERVISOR_HOME="$work/home" NO_COLOR=1
begun=$(date +%s)
failed=0
: >"$out/rows.tsv"

goss() { # in what is left of the check's time
    left=$((ends - $(date +%s)))
    [ "$left" -gt 0 ] && timeout "$left" "$python" -I -m supervisor "$@"
}
trap 'ends=$(($(date +%s) + 60)); [ $dry = yes ] || goss stop --now >/dev/null 2>&1; rm -rf "$work/home"' EXIT INT TERM

# Of JSON on stdin, what this Python expression says of it as `d`.
of() { "$python" -I -c 'import json, sys; d = json.load(sys.stdin); print(eval(sys.argv[1]))' "$1"; }
smi() { nvidia-smi --query-gpu="$1" --format=csv,noheader,nounits | head -n 1; }
settings() { printf -- '--set engine.source=path --set engine.path=%s --set listen.port=21499' "$engine"; }
row() { # CHECK RESULT TEXT
    printf '%s\t%s\t%s\n' "$1" "$2" "$3" >>"$out/rows.tsv"
    [ "$2" != FAILED ] || failed=1
}
check() { # NAME SECONDS FUNCTION: it prints what was found, and fails where that is wrong
    ends=$(($(date +%s) + $2))
    case " ${only:-$1} " in *" $1 "*) ;; *) return ;; esac
    if [ $dry = yes ]; then
        printf '%-14s %4s s  %s\n' "$1" "$2" "$3"
    elif [ $((ends - begun)) -gt "$seconds" ]; then
        row "$1" 'not run' "only $((seconds - $(date +%s) + begun)) s are left"
    elif said=$($3 2>"$out/$1.err"); then
        row "$1" ok "$said"
    else
        row "$1" FAILED "$said $(tail -n 2 "$out/$1.err" | tr '\n\t' '  ')"
    fi
}

machine() { nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader | head -n 1; }
detected() { # the same name, and a memory within 2 % of what nvidia-smi says
    goss detect --json >"$out/detect.json" || return 1
    name=$(of 'd["gpus"][0]["name"]' <"$out/detect.json") mib=$(of 'd["gpus"][0]["memory_bytes"] >> 20' <"$out/detect.json")
    echo "$name, $mib MiB; nvidia-smi: $(smi name), $(smi memory.total) MiB"
    [ "$name" = "$(smi name)" ] && [ $((mib * 50)) -ge $(($(smi memory.total) * 49)) ] && [ $((mib * 50)) -le $(($(smi memory.total) * 51)) ]
}
listed() { timeout 30 "$engine" --list-devices 2>/dev/null | grep 'CUDA0:'; }
made() {
    [ -n "$model" ] || {
        model=$work/home/data/models/model.gguf
        mkdir -p "${model%/*}"
        (cd "$root" && "$python" -c 'import sys; from pathlib import Path; from tests.fakes.shapes import write_sparse; write_sparse(Path(sys.argv[1]), "20b")' "$model") || return 1
    }
    mkdir -p "$work/home/config/profiles"
    printf 'model: {path: %s}\nserver: {n-gpu-layers: 99, ctx-size: 8192, parallel: 1}\n' "$model" >"$work/home/config/profiles/gpu.yaml"
    printf 'extends: gpu\nenv: {CUDA_VISIBLE_DEVICES: ""}\nserver: {ctx-size: 512}\n' >"$work/home/config/profiles/hidden.yaml"
    du -h --apparent-size "$model" | cut -f 1
}
# shellcheck disable=SC2046 # settings are words
offloaded() {
    smi memory.used >"$work/before"
    goss start --profile gpu --detach $(settings) >&2 || return 1
    goss status --json >"$out/status.json"
    state=$(of 'd["server"]["state"]' <"$out/status.json")
    echo "$state, $(goss logs | grep -o 'offloaded [0-9]*/[0-9]* layers to GPU' | tail -n 1); $(goss ask 'Say hello.' 2>/dev/null | wc -c) bytes of an answer"
    [ "$state" = ready ]
}
memory() { # planned, measured by us, and what nvidia-smi shows more than before; within a tenth of each other
    goss status --json >"$out/status.json" || return 1
    gib='[round(x / 2**30, 2) for m in d["memory"] if m["device"] != "RAM" for s in m["shares"] for x in (s["planned_bytes"] or 0, s["measured_bytes"] or 0)]'
    used=$(($(smi memory.used) - $(cat "$work/before")))
    echo "planned and measured (GiB): $(of "$gib" <"$out/status.json"); nvidia-smi: $used MiB more"
    of "all(abs(x * 1024 - $used) <= 0.1 * $used for x in $gib) and 1" <"$out/status.json" | grep -qx 1
}
# shellcheck disable=SC2046
hidden() { # the CPU takes over, and that is said
    goss switch hidden $(settings) >&2
    goss status --json >"$out/hidden.json"
    of 'd["server"]["state"] + ": " + d["server"]["why"]' <"$out/hidden.json" | tee "$work/said"
    grep -q '^degraded: running on the CPU' "$work/said"
}
# shellcheck disable=SC2046
too_large() { # refused by the account, and diagnosed where that is ignored
    set -- --set server.ctx-size=16777216
    goss stop --now >&2
    goss start --profile gpu --detach "$@" $(settings) >"$out/refused" 2>&1
    refused=$?
    goss start --profile gpu --detach --force "$@" $(settings) >"$out/died" 2>&1
    died=$?
    echo "refused with $refused; with --force it ended with $died: $(grep -i memory "$out/died" | head -n 1)"
    [ "$refused" = 7 ] && [ "$died" = 10 ] && grep -qi 'memory' "$out/died"
}
# shellcheck disable=SC2046
tuned() { # against the sweep of n-cpu-moe: the best that tune found is within 5 % of the best of the sweep
    best=0
    for experts in 0 6 12 24; do
        printf 'extends: gpu\nengine: {source: path, path: %s}\nserver: {n-cpu-moe: %s}\n' "$engine" "$experts" >"$work/home/config/profiles/moe$experts.yaml"
        goss bench "moe$experts" --prompt 512 --answer 64 --seconds 15 --json >"$out/moe$experts.json" 2>/dev/null || continue
        rate=$(of "$rate_of" <"$out/moe$experts.json")
        printf '%s: %s, ' "$experts" "$rate"
        [ "${rate%.*}" -le "${best%.*}" ] || best=$rate
    done
    goss tune moe24 --budget 2m --yes --json >"$out/tune.json" 2>/dev/null || return 1
    goss bench moe24-tuned --prompt 512 --answer 64 --seconds 15 --json >"$out/tuned.json" 2>/dev/null || return 1
    rate=$(of "$rate_of" <"$out/tuned.json")
    echo "tuned: $rate tokens/s, $(of '{s["key"]: s["is"] for s in d["settings"]}' <"$out/tune.json")"
    [ $((${rate%.*} * 100)) -ge $((${best%.*} * 95)) ]
}
rate_of='round(d["results"][0]["rows"][0]["generated_per_second"]["median"], 1)'

check machine 10 machine
check detect 30 detected
check devices 30 listed
check model 60 made
check offload 120 offloaded
check memory 20 memory
check hidden 90 hidden
check too-large 90 too_large
check tune 380 tuned

[ $dry = no ] || exit 0
column -t -s "$(printf '\t')" "$out/rows.tsv" 2>/dev/null || cat "$out/rows.tsv"
"$python" -I -c '
import json, sys
rows = [dict(zip(("check", "result", "found"), line.rstrip("\n").split("\t"))) for line in open(sys.argv[1])]
json.dump({"schema": 1, "seconds": int(sys.argv[2]), "rows": rows}, open(sys.argv[3], "w"), indent=2)
' "$out/rows.tsv" $(($(date +%s) - begun)) "$out/gpu.json"
echo "written: $out/gpu.json"
exit $failed
