# shellcheck shell=bash disable=SC2034,SC2154  # one program with setup.sh: variables are shared
# What a run leaves behind: nothing. Whoever changes something says with at_exit how to change it back.

scratch=          # this run's one temporary directory
exit_actions=()   # commands, latest first

# shellcheck source=tools/setup/children.sh
source tools/setup/children.sh

say() {
    printf '%s\n' "$*"
}

warn() {
    printf 'setup.sh: %s\n' "$*" >&2
}

die() {
    warn "$*"
    exit 1
}

usage_error() {
    [[ -z $1 ]] || warn "$1"
    usage >&2
    exit 2
}

begin_session() {
    session_process=$BASHPID
    trap end_session EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    scratch=$(mktemp -d "${TMPDIR:-/tmp}/vitrine.XXXXXX")
}

end_session() {
    local status=$? action name
    # A child that is ended between fork and exec still has our traps, and must not tidy our session.
    [[ $BASHPID == "$session_process" ]] || exit "$status"
    trap - EXIT
    trap '' INT TERM HUP  # a second Ctrl-C must not cut the tidying short
    for name in "${!child[@]}"; do
        stop "$name" || true
    done
    for action in "${exit_actions[@]}"; do
        $action || warn "could not undo: $action"
    done
    rm -rf "$scratch"
    exit "$status"
}

# at_exit WORD...: a command without quoting needs, run in reverse order of registration.
at_exit() {
    exit_actions=("$*" "${exit_actions[@]}")
}

# as_root COMMAND...: by sudo if we are not root; fails if that is impossible.
as_root() {
    if ((EUID == 0)); then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo -- "$@"
    else
        warn "needs root: $*"
        return 1
    fi
}

# start NAME COMMAND...: a background process that ends with this run at the latest. Its output goes to $scratch/NAME.log, its errors
# to $scratch/NAME.errors.
start() {
    local name=$1
    shift
    "$@" </dev/null >"$scratch/$name.log" 2>"$scratch/$name.errors" &
    child[$name]=$!
}

# wait_for_socket PATH NAME: until NAME listens there; shows its output if it ends instead.
wait_for_socket() {
    local path=$1 name=$2 deadline=$((SECONDS + 20))
    until [[ -S $path ]]; do
        if ! running "$name" || ((SECONDS >= deadline)); then
            tail -n 20 "$scratch/$name.errors" >&2
            die "$name does not listen at $path"
        fi
        sleep 0.05
    done
}
