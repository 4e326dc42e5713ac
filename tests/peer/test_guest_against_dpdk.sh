#!/usr/bin/env bash
# vitrine-guest on a back-end that is not ours: DPDK's vhost library in testpmd, which forwards between two sockets.
# One guest sends stamped frames to the first socket, another checks or echoes what comes out of the second.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/support/harness.sh
source "$here/../support/harness.sh"

frames=20000
! is_long || frames=500000

start_testpmd() {
    mkfifo "$work/testpmd.stdin"
    exec 7<>"$work/testpmd.stdin"
    start testpmd stdbuf -oL dpdk-testpmd --no-huge -m 256 --no-telemetry --no-shconf --no-pci \
        -l 0,1 --main-lcore 0 --file-prefix "vitrine-test-$$" \
        --vdev "net_vhost0,iface=$work/vhost0.sock,queues=1" --vdev "net_vhost1,iface=$work/vhost1.sock,queues=1" \
        -- -i --no-mlockall --total-num-mbufs=8192 --forward-mode=io --auto-start <&7
    wait_for_socket "$work/vhost0.sock" testpmd
    wait_for_socket "$work/vhost1.sock" testpmd
    wait_until 60 "testpmd's prompt" testpmd_says 'testpmd>' 1
}

# testpmd_says TEXT COUNT: its log has at least so many lines with the text.
testpmd_says() {
    running testpmd || fail "testpmd ended"
    (($(grep -c "$1" "$work/testpmd.log" || true) >= $2))
}

# read_testpmd PORT COUNTER: one of its statistics, into $counted.
read_testpmd() {
    local answers
    answers=$(grep -c 'Tx-bps' "$work/testpmd.log" || true)
    printf 'show port stats %s\n' "$1" >&7
    wait_until 20 "testpmd's statistics" testpmd_says 'Tx-bps' $((answers + 1))
    counted=$(sed -n "s/.*$2: *\([0-9]*\).*/\1/p" "$work/testpmd.log" | tail -n 1)
}

# start_guest NAME SOCKET MODE OPTION...: returns when its rings run.
start_guest() {
    local name=$1 socket=$2 mode=$3 ready
    shift 3
    ready=$(grep -c 'virtio is now ready' "$work/testpmd.log" || true)
    # shellcheck disable=SC2016  # for the inner shell
    start "$name" sh -c 'report=$1; shift; exec "$@" >"$report"' sh "$work/$name.json" \
        "$build/vitrine-guest" "$mode" --socket "$work/$socket" --memory memfd --json "$@"
    wait_until 30 "the rings of $name" testpmd_says 'virtio is now ready' $((ready + 1))
}

# expect NAME KEY VALUE: in the report of a guest.
expect() {
    local actual
    actual=$(field "$work/$1.json" "$2")
    [[ $actual == "$3" ]] || fail "$1 $2: $actual, expected $3"
}

# play SENDER_OPTION... -- RECEIVER_MODE RECEIVER_OPTION...
play() {
    local sender=()
    while [[ $1 != -- ]]; do
        sender+=("$1")
        shift
    done
    printf 'clear port stats all\n' >&7
    start_guest receiver vhost1.sock "$2" --seconds 600 "${@:3}"
    start_guest sender vhost0.sock tx --count "$frames" --rate 20000 "${sender[@]}"
    finish sender 120
    expect sender sent.frames "$frames"
}

# The receiver goes on until everything that testpmd sent has come.
end_receiver() {
    stop receiver || receiver_status=$?
    read_testpmd 0 RX-packets
    [[ $counted == "$frames" ]] || fail "testpmd received $counted frames of $frames"
    read_testpmd 1 TX-packets
    ((counted > 0)) || fail "testpmd forwarded nothing"
    expect receiver received.frames "$counted"
    expect receiver received.bad_crc 0
    expect receiver received.unstamped 0
    expect receiver received.out_of_order 0
}

test_check() {
    local receiver_status=0
    play "$@" -- check "$@"
    end_receiver
    ((receiver_status == 0)) || fail "the receiver ended with $receiver_status"
    passed "$counted frames through DPDK's vhost, with ${*:-the defaults}"
}

# CONFLICT: VIRTIO 1.3, 5.1.6.4.1 wants num_buffers 1 without MRG_RXBUF; DPDK's vhost leaves it 0. vitrine-guest says so.
test_without_merging() {
    local receiver_status=0
    play "$@" -- check "$@"
    end_receiver
    expect receiver violations "$counted"
    expect receiver receive_ring.violations.buffer_count_wrong "$counted"
    ((receiver_status == 1)) || fail "the receiver saw violations and ended with $receiver_status"
    passed "$counted frames through DPDK's vhost, with $*: its wrong buffer count is named, and nothing else"
}

test_echo() {
    local receiver_status=0
    play -- echo
    end_receiver
    ((receiver_status == 0)) || fail "the echo ended with $receiver_status"
    expect receiver sent.frames "$counted"
    passed "$counted frames echoed through DPDK's vhost"
}

main() {
    need dpdk-testpmd ip
    need_built vitrine-guest
    (($(nproc) >= 2)) || skip "testpmd needs two CPUs"
    enter_private_world "$@"
    start_testpmd
    test_check
    test_check --size 1518 --flows 4
    test_check --size 9018
    test_check --indirect on
    test_check --event-index off
    test_without_merging --merge off
    test_without_merging --merge off --indirect on --event-index off
    test_echo
    printf 'quit\n' >&7
    finish testpmd 20
}

main "$@"
