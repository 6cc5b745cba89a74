# shellcheck shell=sh
# Sourced by the commands beside it, which set $self to their own file with links followed.
#
# Sets $root and $python, and defines ready and set_up.  When nothing changed, ready costs one small
# process and no Python: the environment must have been finished for this very folder and for this
# very pyproject.toml.  Everything else is the work of bin/bootstrap/.

: "${self:?}"
root=$(CDPATH='' cd -P -- "${self%/*}/.." && pwd -P)
python=$root/.venv/bin/python

# ready run|dev: whether the environment holds all that is needed.
ready() {
    [ -x "$python" ] && [ -f "$root/.venv/setup/made-for" ] &&
        IFS= read -r made_for <"$root/.venv/setup/made-for" && [ "$made_for" = "$root" ] &&
        cmp -s "$root/pyproject.toml" "$root/.venv/setup/$1.toml" 2>/dev/null
}

# Candidates are run, not only found: a shim of pyenv or the stub of macOS may stand where no Python is.
# The first that could make an environment wins, else the first that is new enough.
find_python() {
    found='' without_pip=''
    for name in python3 python3.14 python3.13 python3.12 python3.11 python; do
        runs_here "$name" || continue
        "$name" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 </dev/null || continue
        if "$name" -I -c 'import ensurepip, venv' >/dev/null 2>&1 </dev/null; then
            found=$name
            return 0
        fi
        without_pip=${without_pip:-$name}
    done
    found=$without_pip
    [ -n "$found" ]
}

# On a Mac without Apple's command line tools, running /usr/bin/python3 opens a dialog.
runs_here() {
    where=$(command -v "$1") || return 1
    [ "$where" != /usr/bin/python3 ] || [ ! -x /usr/bin/xcode-select ] || /usr/bin/xcode-select -p >/dev/null 2>&1
}

complain_about_python() {
    printf '%s\n' >&2 \
        "goss-supervisor: Python 3.11 or newer is needed, and none was found on PATH (${PATH:-})." \
        'Install it, then run this command again:' \
        '  Debian, Ubuntu   sudo apt-get install python3 python3-venv' \
        '                   (Ubuntu 22.04: sudo apt-get install python3.11 python3.11-venv)' \
        '  Fedora           sudo dnf install python3' \
        '  RHEL 9           sudo dnf install python3.12' \
        '  Arch             sudo pacman -S python' \
        '  Alpine           sudo apk add python3' \
        '  macOS            brew install python3' \
        '  anywhere         see https://www.python.org/downloads/'
}

# set_up run|dev [COMMAND…]: makes or repairs the environment, then becomes COMMAND if there is one.
set_up() {
    if ! find_python; then
        complain_about_python
        exit 1
    fi
    if [ $# -gt 1 ]; then
        exec "$found" -I "$root/bin/bootstrap" "$root" "$@"
    fi
    "$found" -I "$root/bin/bootstrap" "$root" "$@"
}
