#!/usr/bin/env bash
# DPDK's testpmd as the front-end and the guest, by its virtio-user driver: it only receives, then it only sends, on split
# and on packed rings. Its own counters and ours must agree to the last frame.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/support/harness.sh
source "$here/../support/harness.sh"
# shellcheck source=tests/support/chain.sh
source "$here/../support/chain.sh"

receive_frames=100000
! is_long || receive_frames=1000000

# start_testpmd MODE OPTION...: its commands go to descriptor 7. It needs no huge pages (--no-huge), but guest memory
# that it can share as few files (--single-file-segments).
start_testpmd() {
    local mode=$1
    shift
    rm -f "$work/testpmd.stdin"
    mkfifo "$work/testpmd.stdin"
    exec 7<>"$work/testpmd.stdin"
    start testpmd stdbuf -oL dpdk-testpmd --no-huge -m 256 --single-file-segments --no-telemetry --no-shconf --no-pci \
        -l 0,1 --main-lcore 0 --file-prefix "vitrine-test-$$" \
        --vdev "net_virtio_user0,path=$work/vhost.sock,mac=$vf_mac,queues=1,queue_size=256,packed_vq=$packed_vq" \
        -- -i --no-mlockall --total-num-mbufs=8192 --forward-mode="$mode" "$@" <&7
    wait_until 60 "testpmd's prompt" testpmd_says 'testpmd>'
}

testpmd_says() {
    running testpmd || fail "testpmd ended"
    grep -q "$1" "$work/testpmd.log"
}

command_testpmd() {
    printf '%s\n' "$1" >&7
}

# read_testpmd NAME: RX-packets or TX-packets of its only port, into $counted.
read_testpmd() {
    local before
    before=$(grep -c 'Tx-bps' "$work/testpmd.log" || true)
    command_testpmd 'show port stats 0'
    wait_until 20 "testpmd's statistics" testpmd_told "$before"
    counted=$(sed -n "s/.*$1: *\([0-9]*\).*/\1/p" "$work/testpmd.log" | tail -n 1)
}

# The line with Tx-bps comes after all of the counters.
testpmd_told() {
    (($(grep -c 'Tx-bps' "$work/testpmd.log") > $1))
}

end_testpmd() {
    command_testpmd quit
    finish testpmd 20
    exec 7>&-
}

all_received() {
    read_testpmd RX-packets
    books_balance "$counted" 0 && [[ $(field "$work/vf_sim.json" "done") == True ]]
}

# use_rings KIND: of the chains that start from now on.
use_rings() {
    kind=$1
    packed_vq=0
    chain_options=()
    [[ $kind == split ]] || packed_vq=1 chain_options=(--packed on)
}

check_kind() {
    [[ $(rings_agreed) == "$kind" ]] || fail "the rings are $(rings_agreed), not $kind"
}

test_receive() {
    start_chain "receive-$kind" "gen:size=64,rate=50000,count=$receive_frames" "${chain_options[@]}"
    start_testpmd rxonly
    command_testpmd start
    open_wire
    wait_until 120 "testpmd to receive $receive_frames frames" all_received
    ((counted > 0)) || fail "testpmd received nothing"
    check_books "$counted" 0
    check_kind
    passed "$kind: testpmd received $counted of $receive_frames frames, and the rest is in drop counters"
    end_testpmd
    stop_chain
}

test_send() {
    start_chain "send-$kind" null "${chain_options[@]}"
    start_testpmd txonly
    command_testpmd start
    sleep "$(is_long && echo 10 || echo 2)"
    command_testpmd stop
    read_testpmd TX-packets
    ((counted > 0)) || fail "testpmd sent nothing"
    check_books 0 "$counted"
    check_kind
    passed "$kind: testpmd sent $counted frames, and all are on the wire or in drop counters"
    end_testpmd
    stop_chain
}

main() {
    need dpdk-testpmd ip /usr/bin/python3
    need_built vf_sim vitrine vitrinectl
    (($(nproc) >= 2)) || skip "testpmd needs two CPUs"
    enter_private_world "$@"
    for kind in split packed; do
        use_rings "$kind"
        test_receive
        test_send
    done
}

main "$@"
