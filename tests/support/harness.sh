# shellcheck shell=bash disable=SC2034
# Sourced by the peer and VM tests: one private world per test, and a tidy end.
#
# A test calls enter_private_world first. From there on it is process 1 of its own PID namespace and has a network
# of its own, so whatever ends it, nothing can stay behind: no process, no interface, no namespace.

source_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=${VITRINE_BUILD:-$source_root/build}
work=           # this test's temporary directory
work_in_memory= # another, on a tmpfs, for packet pages
started=()      # the names of what start began, latest first

# shellcheck source=tools/setup/children.sh
source "$source_root/tools/setup/children.sh"

skip() {
    printf 'SKIP: %s\n' "$*"
    exit 77
}

fail() {
    printf 'FAIL: %s\n' "$*" >&2
    exit 1
}

passed() {
    printf 'ok: %s\n' "$*"
}

is_long() {
    [[ ${VITRINE_LONG:-0} == 1 ]]
}

# need PROGRAM...: skips the test if one of them is not installed.
need() {
    local program
    for program in "$@"; do
        command -v "$program" >/dev/null || skip "$program is not installed (./tools/setup.sh test installs it)"
    done
}

# need_built PROGRAM...: fails the test if one of ours was not built.
need_built() {
    local program
    for program in "$@"; do
        [[ -x $build/$program ]] || fail "$build/$program is not built"
    done
}

# enter_private_world "$@": runs the calling script again inside new namespaces, with a temporary directory.
enter_private_world() {
    if [[ -z ${VITRINE_PRIVATE_WORLD:-} ]]; then
        local unshare=(unshare --net --pid --fork --kill-child --mount-proc)
        ((EUID == 0)) || unshare+=(--user --map-root-user)
        "${unshare[@]}" true 2>/dev/null || skip "no permission to create namespaces (run as root)"
        VITRINE_PRIVATE_WORLD=1 exec "${unshare[@]}" -- "$0" "$@"
    fi
    unset VITRINE_PRIVATE_WORLD
    work=$(mktemp -d "${TMPDIR:-/tmp}/vitrine-test.XXXXXX")
    work_in_memory=$(mktemp -d /dev/shm/vitrine-test.XXXXXX)
    world_process=$BASHPID
    trap leave_private_world EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    ip link set lo up
}

leave_private_world() {
    local status=$? name
    # A child that is ended between fork and exec still has our traps, and must not tidy our world.
    [[ $BASHPID == "$world_process" ]] || exit "$status"
    trap - EXIT
    for name in "${started[@]}"; do
        stop "$name" || true
    done
    if ((status != 0 && status != 77)); then
        show_logs
    fi
    rm -rf "$work" "$work_in_memory"
    exit "$status"
}

show_logs() {
    local log
    for log in "$work"/*.log; do
        [[ -s $log ]] || continue
        printf -- '--- last lines of %s\n' "${log##*/}"
        tail -n 25 "$log"
    done
}

# start NAME COMMAND...: a background process whose output goes to $work/NAME.log; standard input is the caller's.
start() {
    local name=$1
    shift
    : >"$work/$name.log"  # there before the process, for those who look for a word in it
    "$@" <&0 >"$work/$name.log" 2>&1 &
    child[$name]=$!
    started=("$name" "${started[@]}")
}

# finish NAME SECONDS: waits for a process that ends by itself; fails the test if it hangs or fails.
finish() {
    local name=$1 process=${child[$1]}
    wait_until "$2" "the end of $name" not_running "$name"
    unset "child[$name]"
    wait "$process" || fail "$name ended with status $?"
}

not_running() {
    ! running "$1"
}

# wait_until SECONDS WHAT COMMAND...: a hang guard, never a measure of speed. COMMAND must be quiet; it may call fail.
# A machine that stood still until the deadline has given nobody time: five more looks come after it.
wait_until() {
    local seconds=$1 what=$2 deadline late=0
    shift 2
    deadline=$((SECONDS + seconds))
    until "$@"; do
        ((SECONDS < deadline || late++ < 5)) || fail "waited $seconds s for $what"
        sleep 0.1
    done
}

# wait_for_socket PATH NAME: until NAME listens at PATH; fails at once if NAME has ended.
wait_for_socket() {
    wait_until 20 "the socket ${1##*/} of $2" socket_or_ended "$1" "$2"
    running "$2" || fail "$2 ended before it listened at ${1##*/}"
}

socket_or_ended() {
    [[ -S $1 ]] || ! running "$2"
}

# field FILE PATH: one value of a JSON file, e.g. field status.json guest.rx.frames; a missing key fails.
field() {
    /usr/bin/python3 -c '
import json, sys
value = json.load(open(sys.argv[1]))
for key in sys.argv[2].split("."):
    value = value[int(key)] if isinstance(value, list) else value[key]
print(value if not isinstance(value, (dict, list)) else json.dumps(value))' "$1" "$2"
}
