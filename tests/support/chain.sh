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
    # Without a guest, vitrine would drop what the generator sends, properly counted: see open_wire.
    [[ $wire != gen:* ]] || ask_vf_sim "link down" >/dev/null
    start_daemon "$@"
}

# start_daemon [OPTION-OF-VITRINE...]: also after it was killed.
start_daemon() {
    start vitrine "$build/vitrine" run --allow-root --allow-same-uid --seccomp kill --name "$chain" --run-dir "$work/run" --vf "vfio-user:$work/vf.sock" \
        --socket-path "$work/vhost.sock" "$@"
    wait_for_socket "$work/vhost.sock" vitrine
}

ask_vf_sim() {
    "$source_root/tools/setup/ask.py" "$work/vf.control" "$1"
}

# open_wire: lets the generator begin, once the guest is there.
open_wire() {
    wait_until 20 "the front-end" front_end_ready
    ask_vf_sim "link up" >/dev/null
}

front_end_ready() {
    take_status
    [[ $(field "$work/vitrine.json" front_end.features) != 0x0 ]]
}

stop_chain() {
    stop vitrine || fail "vitrine ended with status $?"
    stop vf_sim || fail "vf_sim ended with status $?"
}

take_status() {
    ask_vf_sim status >"$work/vf_sim.json"
    "$build/vitrinectl" status "$chain" --run-dir "$work/run" --json >"$work/vitrine.json"
}

# rings_agreed: packed or split, as the front-end chose: feature bit 34.
rings_agreed() {
    take_status
    if (($(field "$work/vitrine.json" front_end.features) >> 34 & 1)); then echo packed; else echo 'split'; fi
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
