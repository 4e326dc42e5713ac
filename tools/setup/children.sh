# shellcheck shell=bash
# Background processes by name, for setup.sh and for the tests that are shell scripts: each has its own start.

declare -gA child=()  # name -> process id of everything that start began and that has not been stopped

running() {
    kill -0 "${child[$1]}" 2>/dev/null
}

# stop NAME: asks it to end, insists after 10 s, and returns its exit status.
stop() {
    local process=${child[$1]:-} deadline=$((SECONDS + 10))
    [[ -n $process ]] || return 0
    unset "child[$1]"
    kill -TERM "$process" 2>/dev/null || true
    while kill -0 "$process" 2>/dev/null; do
        ((SECONDS < deadline)) || kill -KILL "$process" 2>/dev/null || true
        sleep 0.05
    done
    wait "$process" 2>/dev/null
}
