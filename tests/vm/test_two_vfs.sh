#!/usr/bin/env bash
# Two VFs on one port of vf_sim, and so on its switch: first two Linux guests with ixgbevf, then one of them against a
# Linux guest with virtio_net on vitrine, which has the other VF. Pings and TCP, all of it inside the port.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/support/harness.sh
source "$here/../support/harness.sh"
# shellcheck source=tests/support/lab.sh
source "$here/../support/lab.sh"

first_mac=02:56:46:00:00:01
second_mac=02:56:46:00:00:02
transfer_mib=16

start_port() {
    start vf_sim "$build/vf_sim" --socket "$work/first.sock,$work/second.sock" --control "$work/vf.control" \
        --mac "$first_mac" --wire null --queues 2
    wait_for_socket "$work/first.sock" vf_sim
    wait_for_socket "$work/second.sock" vf_sim
}

ask_vf_sim() {
    "$source_root/tools/setup/ask.py" "$work/vf.control" "$1" >"$work/vf_sim.json"
}

# start_ixgbevf NAME SOCKET HOST-NUMBER
start_ixgbevf() {
    local devices
    mapfile -t devices < <(vf_options "$2")
    start_lab_guest "$1" kernel-6.12 512 "" "${devices[@]}"
    in_guest "$1" 'insmod /modules/ixgbevf.ko' || fail "ixgbevf does not load in $1"
    bring_up "$1" "$3"
}

start_vitrine_guest() {
    start vitrine "$build/vitrine" run --allow-root --allow-same-uid --seccomp kill --name two --run-dir "$work/run" --vf "vfio-user:$work/second.sock" \
        --socket-path "$work/vhost.sock"
    wait_for_socket "$work/vhost.sock" vitrine
    start_lab_guest "$1" kernel-6.12 512 "" -chardev "socket,id=vhost,path=$work/vhost.sock" \
        -netdev vhost-user,id=net,chardev=vhost -device "virtio-net-pci,netdev=net,mac=$second_mac,romfile="
    bring_up "$1" "$2"
}

bring_up() {
    local interface
    interface=$(in_guest "$1" "network-up $2" | tail -n 1)
    [[ -n $interface ]] || fail "$1 has no network interface"
    wait_until 30 "the link of $1" has_carrier "$1" "$interface"
}

has_carrier() {
    [[ $(in_guest "$1" "cat /sys/class/net/$2/carrier 2>/dev/null") == 1 ]]
}

# pings_arrive FROM OPTION... ADDRESS
pings_arrive() {
    local from=$1
    shift
    in_guest "$from" "lab ping -q -c 100 -i 0.01 -W 5 $*" >"$work/ping.log" || fail "$label: ping from $from"
    grep -q ' 0% packet loss' "$work/ping.log" || fail "$label: pings from $from were lost"
}

# tcp_arrives FROM ADDRESS: the other end answers with the checksum of what it received.
tcp_arrives() {
    local checksum answer
    in_guest "$1" "dd if=/dev/urandom of=/tmp/file bs=1M count=$transfer_mib 2>/dev/null"
    checksum=$(in_guest "$1" 'sha256sum </tmp/file')
    answer=$(in_guest "$1" "nc $2 5001 </tmp/file") || fail "$label: TCP from $1"
    [[ $answer == "$checksum" ]] || fail "$label: TCP from $1: sent $checksum, received $answer"
}

# Nothing of a conversation between two functions of one port may reach the wire: there are only what all are to hear.
check_switch() {
    local sent to_wire
    ask_vf_sim status
    sent=$(field "$work/vf_sim.json" "vfs.0.tx.frames")
    to_wire=$(field "$work/vf_sim.json" "vfs.0.tx.to_wire")
    ((sent > 1000 && to_wire < sent / 10)) || fail "$label: $to_wire of $sent frames went to the wire"
}

exchange() {
    pings_arrive first 10.99.0.3
    pings_arrive second 10.99.0.2
    pings_arrive first -6 fd99::3
    pings_arrive second -6 fd99::2
    passed "$label: 100 pings each way by IPv4 and by IPv6, none lost"
    tcp_arrives first 10.99.0.3
    tcp_arrives second 10.99.0.2
    passed "$label: $transfer_mib MiB by TCP each way, checksums equal"
    check_switch
    passed "$label: the conversation stayed inside the port"
}

main() {
    need cpio python3
    need_lab
    need_built vf_sim vitrine
    enter_private_world "$@"
    start_port
    start_ixgbevf first "$work/first.sock" 2

    label="ixgbevf and ixgbevf"
    start_ixgbevf second "$work/second.sock" 3
    exchange
    kernel_is_content second
    stop_lab_guest second

    label="ixgbevf and virtio_net on vitrine"
    start_vitrine_guest second 3
    exchange
    kernel_is_content second
    kernel_is_content first
    stop_lab_guest second
    stop_lab_guest first
    stop vitrine || fail "vitrine ended with status $?"
    stop vf_sim || fail "vf_sim ended with status $?"
}

main "$@"
