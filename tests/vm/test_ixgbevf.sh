#!/usr/bin/env bash
# Linux's own ixgbevf, unmodified, in a Debian guest, on a VF of vf_sim: tap <- vf_sim <- QEMU vfio-user-pci <- ixgbevf.
# One boot for each of the three parts: test_ixgbevf.sh [PART...]. The checks are in ixgbevf_checks.sh.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/support/harness.sh
source "$here/../support/harness.sh"
# shellcheck source=tests/support/lab.sh
source "$here/../support/lab.sh"
# shellcheck source=tests/vm/ixgbevf_checks.sh
source "$here/ixgbevf_checks.sh"

# The host's end of the cable. Tags are put on in user space, because not every kernel has 802.1Q.
make_wire() {
    ip tuntap add wire mode tap
    ip link set wire mtu 9000 up
    ip address add 10.99.0.1/24 dev wire
    ip address add fd99::1/64 dev wire nodad
    start vlans "$here/../support/vlan_tap.py" wire "$vlan"
    wait_until 10 "the VLAN" ip link show "vlan$vlan" >/dev/null 2>&1
    ip address add "10.99.$vlan.1/24" dev "vlan$vlan"
    ip link set "vlan$vlan" up
}

start_part() {
    start vf_sim "$build/vf_sim" --socket "$work/vf.sock" --control "$work/vf.control" --part "$1" --wire tap:wire \
        --queues 2 --pf-mtu 9000 --rss-query --rss-udp
    wait_for_socket "$work/vf.sock" vf_sim
}

# check_part PART KERNEL
check_part() {
    local devices check
    label="$1, $2"
    start_part "$1"
    mapfile -t devices < <(vf_options "$work/vf.sock")
    start_lab_guest guest "$2" 512 "" "${devices[@]}"
    for check in "${all_checks[@]}"; do
        "$check"
    done
    stop_lab_guest guest
    stop vf_sim || fail "vf_sim ended with status $?"
}

main() {
    local part kernel kernels=(kernel-6.12) parts=("$@")
    ((${#parts[@]} > 0)) || parts=(82599 x540 x550)
    if is_long; then
        kernels+=(kernel-backports)
    elif [[ ${parts[0]} != 82599 ]]; then
        count_less  # the drivers differ by part in a few registers, not in what they do with a frame
    fi
    need busybox cpio python3 ping
    need_lab
    need_built vf_sim
    enter_private_world "$@"
    make_wire
    make_file
    start wire_end busybox nc -ll -p 5001 -e sha256sum
    for kernel in "${kernels[@]}"; do
        for part in "${parts[@]}"; do
            check_part "$part" "$kernel"
        done
    done
}

main "$@"
