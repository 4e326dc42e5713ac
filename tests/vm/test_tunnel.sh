#!/usr/bin/env bash
# Linux's own tunnel devices against vitrine, on one port of vf_sim: a Debian guest with ixgbevf and a vxlan or geneve
# device at one end, vitrine with --tunnel and vitrine-guest at the other. Frames each way, byte for byte, in pages and by
# copy. tests/e2e/tunnel.py does the same with the host's kernel; not every kernel has geneve: test_tunnel.sh [KIND...].
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/support/harness.sh
source "$here/../support/harness.sh"
# shellcheck source=tests/support/lab.sh
source "$here/../support/lab.sh"

frames=660
guest_mtu=1450
vni=42
local_address=10.99.0.3
remote_address=10.99.0.2
frame_tool=$source_root/tests/e2e/tunnel_frames.py

start_port() {
    start vf_sim "$build/vf_sim" --socket "$work/first.sock,$work/second.sock" --control "$work/vf.control" \
        --mac 02:56:46:00:00:01 --wire null --queues 2
    wait_for_socket "$work/first.sock" vf_sim
    wait_for_socket "$work/second.sock" vf_sim
}

start_linux() {
    local devices
    mapfile -t devices < <(vf_options "$work/first.sock")
    mkdir "$work/ours"
    cp "$frame_tool" "$source_root/tests/e2e/capture_file.py" "$work/ours"
    start_lab_guest linux kernel-6.12 512 "" "${devices[@]}"
    in_guest linux 'insmod /modules/ixgbevf.ko' || fail "ixgbevf does not load"
    interface=$(in_guest linux "network-up 2" | tail -n 1)
    [[ -n $interface ]] || fail "the guest has no network interface"
    wait_until 30 "the link of the guest" has_carrier
}

has_carrier() {
    [[ $(in_guest linux "cat /sys/class/net/$interface/carrier 2>/dev/null") == 1 ]]
}

# make_device KIND PORT
make_device() {
    local command
    for command in "lab ip link add tunnel type $1 id $vni dstport $2 remote $local_address" \
        "echo 1 >/proc/sys/net/ipv6/conf/tunnel/disable_ipv6" "lab ip link set tunnel mtu $guest_mtu up"; do
        in_guest linux "$command" >"$work/device.log" || fail "$label: the device cannot be made"
    done
}

# start_vitrine KIND RX
start_vitrine() {
    local pages=()
    [[ $2 == copy ]] || pages=(--rx pages --pages-path "$work_in_memory/pages")
    start vitrine "$build/vitrine" run --allow-root --allow-same-uid --seccomp kill --name tunnel --run-dir "$work/run" \
        --vf "vfio-user:$work/second.sock" --socket-path "$work/vhost.sock" "${pages[@]}" \
        --tunnel "$1:vni=$vni,local=$local_address,remote=$remote_address"
    wait_for_socket "$work/vhost.sock" vitrine
    wait_until 60 "vitrine to find the guest" next_hop_is_known
}

ask_vitrine() {
    "$build/vitrinectl" status tunnel --json --run-dir "$work/run" >"$work/status.json" 2>/dev/null
}

next_hop_is_known() {
    ask_vitrine && [[ $(field "$work/status.json" tunnel.next_hop_mac) != None ]]
}

# arrived WAY
arrived() {
    ask_vitrine && (($(field "$work/status.json" "pairs.0.receive.$1") >= frames))
}

# to_guest RX
to_guest() {
    local pages=() way=copied
    [[ $1 == copy ]] || { pages=(--pages "$work_in_memory/pages"); way=lent; }
    start guest "$build/vitrine-guest" rx --socket "$work/vhost.sock" --idle-seconds 600 --wait-seconds 600 \
        --pcap-out "$work/arrived.pcap" "${pages[@]}"
    wait_until 60 "the receive ring to start" ring_has_started
    in_guest linux "lab python3 -B /run/ours/tunnel_frames.py send tunnel $frames $guest_mtu" || fail "$label: sending"
    wait_until 120 "$frames frames" arrived "$way"
    kill -TERM "${child[guest]}"
    finish guest 60
    "$frame_tool" compare "$work/arrived.pcap" "$frames" "$guest_mtu" >"$work/compare.log" ||
        fail "$label: at vitrine's guest: $(tail -n 1 "$work/compare.log")"
}

# The first interrupt comes with the start of the ring; frames before it have no guest.
ring_has_started() {
    ask_vitrine && (($(field "$work/status.json" pairs.0.receive_ring.calls) > 0))
}

from_guest() {
    "$frame_tool" write "$work/to_send.pcap" "$frames" "$guest_mtu"
    in_guest linux "lab python3 -B /run/ours/tunnel_frames.py receive tunnel $frames $guest_mtu >/tmp/received 2>&1 &"
    wait_until 60 "the guest to listen" listens
    "$build/vitrine-guest" tx --socket "$work/vhost.sock" --pcap-in "$work/to_send.pcap" --rate 500 >"$work/tx.log" ||
        fail "$label: vitrine-guest could not send"
    wait_until 120 "the guest's verdict" has_verdict
    [[ $(in_guest linux 'tail -n 1 /tmp/received') == EQUAL ]] ||
        fail "$label: behind the kernel's device: $(in_guest linux 'tail -n 1 /tmp/received')"
}

listens() {
    in_guest linux 'grep -q READY /tmp/received'
}

has_verdict() {
    in_guest linux 'grep -qv READY /tmp/received'
}

# check_kind KIND PORT
check_kind() {
    local rx
    label=$1
    make_device "$1" "$2"
    for rx in copy pages; do
        label="$1, $rx"
        start_vitrine "$1" "$rx"
        to_guest "$rx"
        from_guest
        stop vitrine || fail "$label: vitrine ended with status $?"
        passed "$label: $frames frames each way between Linux's $1 device and vitrine, byte for byte"
    done
    in_guest linux 'lab ip link del tunnel'
}

main() {
    local kind kinds=("$@")
    ((${#kinds[@]} > 0)) || kinds=(vxlan geneve)
    need cpio python3
    need_lab
    need_built vf_sim vitrine vitrinectl vitrine-guest
    enter_private_world "$@"
    start_port
    start_linux
    for kind in "${kinds[@]}"; do
        case $kind in
            vxlan) check_kind vxlan 4789 ;;
            geneve) check_kind geneve 6081 ;;
            *) fail "no such kind: $kind" ;;
        esac
    done
    kernel_is_content linux
    stop_lab_guest linux
    stop vf_sim || fail "vf_sim ended with status $?"
}

main "$@"
