# shellcheck shell=bash disable=SC2034,SC2154  # sourced after harness.sh: variables are shared
# The part of the path that every peer test has: vf_sim <- vitrine, with its books.

vf_mac=02:56:46:00:00:01

# start_chain NAME WIRE [OPTION-OF-VITRINE...]: the front-end's socket is then $work/vhost.sock.
start_chain() {
    local name=$1 wire=$2
    shift 2
    chain=$name
    start vf_sim "$build/vf_sim" --socket "$work/vf.sock" --control "$work/vf.control" --mac "$vf_mac" \
        --wire "$wire" --doorbells poll
    wait_for_socket "$work/vf.sock" vf_sim
    start vitrine "$build/vitrine" run --name "$name" --run-dir "$work/run" --vf "vfio-user:$work/vf.sock" \
        --socket-path "$work/vhost.sock" "$@"
    wait_for_socket "$work/vhost.sock" vitrine
}

stop_chain() {
    stop vitrine || fail "vitrine ended with status $?"
    stop vf_sim || fail "vf_sim ended with status $?"
}

take_status() {
    "$source_root/tools/setup/ask.py" "$work/vf.control" status >"$work/vf_sim.json"
    "$build/vitrinectl" status "$chain" --run-dir "$work/run" --json >"$work/vitrine.json"
}

books_balance() {
    take_status
    "$source_root/tools/setup/ledger.py" "$work/vf_sim.json" "$work/vitrine.json" "$@" >"$work/books.log"
}

# check_books [RECEIVED SENT]: waits until nothing moves, then sent = delivered + drops must hold at both ends.
check_books() {
    wait_until 20 "balanced books" books_balance "$@"
    cat "$work/books.log"
    "$build/vitrinectl" audit "$chain" --run-dir "$work/run" >"$work/audit.log" || fail "vitrinectl audit"
}
