#!/usr/bin/env bash
# DPDK's own VF driver, unmodified, in a Debian guest with an emulated IOMMU and the kernel's vfio-pci, on VFs of vf_sim:
# receive, send, forward, frames over several buffers, two queues, link, statistics, stop and start. One boot for each of
# the parts: test_dpdk_vf.sh [PART...], by default all three.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/support/harness.sh
source "$here/../support/harness.sh"
# shellcheck source=tests/support/lab.sh
source "$here/../support/lab.sh"

frames=100000
restarts=20
if ! is_long && [[ ${1:-82599} != 82599 ]]; then  # the parts differ for a driver in a few registers
    frames=20000
    restarts=4
fi
# One vf_sim for each mode, because its wire makes its frames once. The order is that of the guest's PCI addresses.
modes=(receive send forward scatter queues)
declare -A wire=(
    [receive]="gen:size=64,count=$frames"
    [send]="null"
    [forward]="gen:size=64,flows=16,count=$frames"
    [scatter]="gen:size=9018,flows=16,count=$frames"
    [queues]="gen:size=64,flows=64,count=$frames"
)

guest() {
    in_guest guest "$1"
}

# ask MODE COMMAND: its vf_sim; the answer is in $work/vf_sim.json.
ask() {
    "$source_root/tools/setup/ask.py" "$work/$1.control" "$2" >"$work/vf_sim.json"
}

ok() {
    passed "$label: $*"
}

wrong() {
    fail "$label: $*"
}

# The addresses of what testpmd sends back are the generator's: an administrator would have to allow that, too.
start_wires() {
    local mode
    for mode in "${modes[@]}"; do
        start "vf_sim_$mode" "$build/vf_sim" --socket "$work/$mode.sock" --control "$work/$mode.control" \
            --part "$1" --wire "${wire[$mode]}" --queues 2 --pf-mtu 9000 --spoof-check off --rss-query --rss-udp
        wait_for_socket "$work/$mode.sock" "vf_sim_$mode"
    done
}

start_guest() {
    local mode sockets=() devices device
    for mode in "${modes[@]}"; do
        sockets+=("$work/$mode.sock")
    done
    mapfile -t devices < <(vf_options "${sockets[@]}")
    start_lab_guest guest kernel-6.12 1024 intel_iommu=on \
        -device intel-iommu,intremap=on,caching-mode=on "${devices[@]}"
    guest 'echo 160 >/proc/sys/vm/nr_hugepages'
    for device in $(guest 'cd /sys/bus/pci/devices && echo 0000:0[1-5]:00.0'); do
        guest "echo vfio-pci >/sys/bus/pci/devices/$device/driver_override; echo $device >/sys/bus/pci/drivers_probe"
    done
    [[ $(guest 'ls -d /sys/bus/pci/drivers/vfio-pci/0000:* | wc -l') == "${#modes[@]}" ]] || wrong "vfio-pci took no VF"
}

# start_testpmd MODE OPTION...: on that mode's VF, with the link down, so that its wire waits for start_forwarding.
start_testpmd() {
    local mode=$1 number=1 other
    shift
    for other in "${modes[@]}"; do
        [[ $other != "$mode" ]] || break
        number=$((number + 1))
    done
    said=0
    ask "$mode" "link down"
    guest "testpmd start -l 0,1 --in-memory --no-telemetry -a 0000:0$number:00.0 -- -i --disable-link-check --total-num-mbufs=8192 $*"
    wait_until 180 "testpmd's prompt ($label, $mode)" testpmd_says 'testpmd>'
}

testpmd_says() {
    guest 'testpmd log' >"$work/testpmd.log"
    grep -q "$1" "$work/testpmd.log"
}

# tell_testpmd COMMAND...: waits until it has done them; the answer is then in $work/answer.log. A word that it does not
# know marks the end of each answer.
tell_testpmd() {
    local line words=
    for line in "$@" mark; do
        words+="testpmd say '$line'; "
    done
    said=$((said + 1))
    guest "$words" || wrong "testpmd does not listen"
    wait_until 120 "testpmd to do: $* ($label)" testpmd_answered
    awk -v wanted="$said" '/Command not found/ { ++seen; next } seen == wanted - 1' "$work/testpmd.log" >"$work/answer.log"
}

testpmd_answered() {
    guest 'testpmd log' >"$work/testpmd.log"
    (($(grep -c 'Command not found' "$work/testpmd.log") >= said))
}

end_testpmd() {
    guest 'testpmd end' || wrong "testpmd does not end"
}

# told NAME: the first such number of the last answer, e.g. told RX-packets.
told() {
    sed -nE "s/.*$1: *([0-9]+).*/\1/p" "$work/answer.log" | head -n 1
}

wire_says() {
    field "$work/vf_sim.json" "$1"
}

# statistics_agree MODE: what the VF's registers say, which is what the driver shows, against what the wire counted.
# Octets count with the CRC.
statistics_agree() {
    tell_testpmd 'show port stats 0'
    ask "$1" status
    (($(told RX-packets) == $(wire_says wire.rx_delivered) &&
        $(told RX-bytes) == $(wire_says wire.rx_delivered_bytes) + 4 * $(wire_says wire.rx_delivered) &&
        $(told TX-packets) == $(wire_says tx.frames) &&
        $(told TX-bytes) == $(wire_says tx.bytes) + 4 * $(wire_says tx.frames) &&
        $(told RX-errors) == 0 && $(told TX-errors) == 0))
}

check_statistics() {
    wait_until 20 "equal statistics ($label, $1)" statistics_agree "$1"
}

all_delivered() {
    ask "$1" status
    (($(wire_says wire.rx_delivered) == frames))
}

all_back() {
    ask "$1" status
    (($(wire_says tx.frames) == frames))
}

has_sent() {
    ask "$1" status
    (($(wire_says tx.frames) >= $2))
}

start_forwarding() {
    tell_testpmd start
    ask "$1" "link up"
}

# stop_forwarding RECEIVED: from the start to the stop.
stop_forwarding() {
    tell_testpmd stop
    (($(told RX-packets) == $1)) || wrong "testpmd received $(told RX-packets) frames and not $1"
}

check_receive() {
    start_testpmd receive --forward-mode=rxonly
    wait_until 20 "no link ($label)" link_is down
    start_forwarding receive
    wait_until 120 "$frames frames ($label)" all_delivered receive
    check_link receive
    check_statistics receive
    stop_forwarding "$frames"
    end_testpmd
    ok "receives $frames of $frames frames; statistics as the wire's; link followed"
}

link_is() {
    tell_testpmd 'show port info 0'
    grep -q "^Link status: $1" "$work/answer.log"
}

check_link() {
    wait_until 20 "the link ($label)" link_is up
    grep -q '^Link speed: 10 Gbps' "$work/answer.log" || wrong "the link is not at 10 Gbit/s"
    ask "$1" "link down"
    wait_until 20 "the link to go ($label)" link_is down
    ask "$1" "link up"
    wait_until 20 "the link to come back ($label)" link_is up
}

# Its loop and the wire count alike after each restart; registers are not reset with the port.
check_send() {
    local count
    start_testpmd send --forward-mode=txonly
    # A PF that finds frames waiting on a port without a link resets the port.
    ask send "link up"
    wait_until 20 "the link ($label)" link_is up
    tell_testpmd start
    wait_until 120 "$frames sent frames ($label)" has_sent send "$frames"
    tell_testpmd stop
    check_statistics send
    ok "sends $(wire_says tx.frames) frames; statistics as the wire's"
    for ((count = 0; count < restarts; ++count)); do
        ask send status
        tell_testpmd 'port stop 0' 'port start 0' start
        wait_until 60 "frames after restart $count ($label)" has_sent send $(($(wire_says tx.frames) + 1000))
        tell_testpmd stop
    done
    check_statistics send
    end_testpmd
    ok "$restarts times port stop and port start, 1000 frames and more sent after each"
}

# check_forward MODE WHAT OPTION...: all come back, unchanged and in order. First the ports restart, without traffic.
check_forward() {
    local mode=$1 what=$2 count cycles=()
    shift 2
    start_testpmd "$mode" --forward-mode=io "$@"
    for ((count = 0; count < restarts; ++count)); do
        cycles+=('port stop 0' 'port start 0')
    done
    tell_testpmd "${cycles[@]}"
    # What finds no room in the ring would be thrown away.
    tell_testpmd 'set fwd io retry' 'set burst tx delay 100 retry 100000'
    start_forwarding "$mode"
    wait_until 200 "$frames forwarded frames ($label)" all_back "$mode"
    [[ "$(wire_says tx_checked.good) $(wire_says tx_checked.bad) $(wire_says tx_checked.lost)" == "$frames 0 0" ]] ||
        wrong "$what: $(wire_says tx_checked)"
    [[ "$(wire_says tx_checked.out_of_order) $(wire_says tx_checked.not_stamped)" == "0 0" ]] ||
        wrong "$what: $(wire_says tx_checked)"
    check_statistics "$mode"
    stop_forwarding "$frames"
    end_testpmd
    ok "$what: $frames of $frames back after $restarts restarts, 0 bad, in order; statistics as the wire's"
}

# The counts of each queue are those of testpmd's loop: no register of a VF has them.
check_queues() {
    local queue count total=0
    start_testpmd queues --forward-mode=rxonly --rxq=2 --txq=2 --rss-udp
    start_forwarding queues
    wait_until 120 "$frames frames in two queues ($label)" all_delivered queues
    check_statistics queues
    tell_testpmd stop
    for queue in 0 1; do
        count=$(sed -nE "/RX Port= 0\/Queue= $queue /,/RX-packets/s/.*RX-packets: *([0-9]+).*/\1/p" "$work/answer.log")
        ((${count:-0} > frames / 10)) || wrong "queue $queue received ${count:-0} of $frames frames"
        total=$((total + count))
    done
    ((total == frames)) || wrong "the queues received $total of $frames frames"
    end_testpmd
    ok "two queues by RSS: $frames of $frames frames, each queue its share"
}

check_part() {
    local mode
    label=$1
    start_wires "$1"
    start_guest
    check_receive
    check_send
    check_forward forward "io forwarding"
    # Multi-segment transmit (bit 15), because what came in several buffers leaves in several.
    check_forward scatter "9018 byte frames over several buffers" \
        --enable-scatter --max-pkt-len=9018 --tx-offloads=0x8000
    check_queues
    kernel_is_content guest
    stop_lab_guest guest
    for mode in "${modes[@]}"; do
        stop "vf_sim_$mode" || fail "vf_sim of $mode ended with status $?"
    done
}

main() {
    local part parts=("$@")
    ((${#parts[@]} > 0)) || parts=(82599 x540 x550)
    need cpio python3
    need_lab
    need_built vf_sim
    enter_private_world "$@"
    for part in "${parts[@]}"; do
        check_part "$part"
    done
}

main "$@"
