# shellcheck shell=sh
# Sourced by bin/check and bin/test after bin/bootstrap.sh.
#
# Defines check, page_check and static_checks, which go on after a failure and put its name into $failed.

: "${self:?}" "${python:?}"
failed=''

say() {
    echo "${self##*/}: $*" >&2
}

# check NAME MODULE ARGUMENT…: goes on after a failure, which is named at the end and in the exit status.
check() {
    name=$1
    shift
    say "$name"
    "$python" -I -m "$@" || failed="$failed, $name"
}

# Types and lint of the page's JavaScript, where node is.
page_check() {
    say "page"
    "$python" -I tests/page/check.py || failed="$failed, page"
}

static_checks() {
    check "ruff check" ruff check --quiet
    check "ruff format" ruff format --check --quiet
    for platform in linux darwin win32; do
        check "mypy for $platform" mypy --platform "$platform" --cache-dir ".mypy_cache/$platform" --no-error-summary
    done
    page_check
}
