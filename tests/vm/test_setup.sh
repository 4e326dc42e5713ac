#!/usr/bin/env bash
# tools/setup.sh doctor, plan, apply, rollback, status and bind on a host of its own: a Debian guest with an emulated
# IOMMU, two igb cards (SR-IOV PFs with real VFs), and two functions that share a group. What is checked is in
# setup_checks.sh. One boot for each of the parts: test_setup.sh [verbs] [changes] [injection] [no_iommu], by default all.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/support/harness.sh
source "$here/../support/harness.sh"
# shellcheck source=tests/support/lab.sh
source "$here/../support/lab.sh"

lab_guest_seconds=3300

# start_host NAME KERNEL-OPTIONS: what the guest has of us is what an installation has.
start_host() {
    mkdir -p "$work/share/tools"
    cp -r "$source_root/tools/setup.sh" "$source_root/tools/setup" "$work/share/tools"
    cp "$here/setup_root.sh" "$here/setup_checks.sh" "$here/setup_faults.sh" "$work/share"
    start_lab_guest "$1" kernel-6.12 768 "$2" \
        -virtfs "local,path=$work/share,mount_tag=share,security_model=none,readonly=on" \
        -device intel-iommu,intremap=on,caching-mode=on \
        -device pcie-root-port,id=port1,chassis=1 -device igb,bus=port1,netdev=net1 \
        -device pcie-root-port,id=port2,chassis=2 -device igb,bus=port2,netdev=net2 \
        -netdev user,id=net1,restrict=on,ipv6=off -netdev user,id=net2,restrict=on,ipv6=off \
        -device pcie-root-port,id=port3,chassis=3 -device pcie-pci-bridge,id=bridge,bus=port3 \
        -device e1000,bus=bridge,addr=1,romfile= -device virtio-rng-pci,bus=bridge,addr=2
    in_guest "$1" 'mkdir /share && mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=262144 share /share && sh /share/setup_root.sh' >"$work/$1.root.log" || fail "the host $1 could not be made"
    wait_until 30 "the links of $1" links_are_up "$1"
}

links_are_up() {
    [[ $(in_guest "$1" 'ip link set eth0 up; ip link set eth1 up; cat /sys/class/net/eth[01]/carrier' | sort -u) == 1 ]]
}

# check PART [ARGUMENT...]
check() {
    "$here/guest_command.py" "$work/host.command" 600 \
        "chroot /host /usr/bin/env -i PATH=/usr/sbin:/usr/bin LC_ALL=C.UTF-8 bash /opt/vitrine/setup_checks.sh $*" ||
        fail "part $*"
}

# inject PLACE STRIDE: at each step, or at every second, third...
inject() {
    local number
    for ((number = 1; number <= steps; number += $2)); do
        check injection "$1" "$number"
    done
}

# Wrong usage needs no host: it ends before anything is looked at.
check_usage() {
    local line status
    while read -r line; do
        status=0
        # shellcheck disable=SC2086  # words
        "$source_root/tools/setup.sh" $line >"$work/usage.log" 2>&1 </dev/null || status=$?
        ((status == 2)) || fail "setup.sh $line ended with $status and not 2"
        grep -q '^setup.sh: ' "$work/usage.log" || fail "setup.sh $line does not say why"
    done <<'LINES'
unknown
plan
plan --vm vm1
plan --pf eth0 --vf 0
plan --vf 0 --vm vm1
plan --pf eth0 --vf 0000:01:10.0 --vm vm1
plan --pf eth0 --vf -1 --vm vm1
plan --pf eth0 --vf 01:10.0 --vm vm1
plan --pf ../eth0 --vf 0 --vm vm1
plan --pf eth0 --vf 0 --vm VM
plan --pf eth0 --vf 0 --vm a/b
plan --pf eth0 --vf 0 --vm a-name-of-24-characters-x
plan --pf eth0 --vf 0 --vm vm1 --mac 01:00:5e:00:00:01
plan --pf eth0 --vf 0 --vm vm1 --mac 00:00:00:00:00:00
plan --pf eth0 --vf 0 --vm vm1 --vlan 4095
plan --pf eth0 --vf 0 --vm vm1 --vlan 010
plan --pf eth0 --vf 0 --vm vm1 --spoofchk maybe
plan --pf eth0 --vf 0 --vm vm1 --queues 3
plan --pf eth0 --vf 0 --vm vm1 --yes=no
plan --pf eth0 --vf 0 --vm
rollback --vm vm1 --pf eth0
status vm1
doctor --everything
LINES
    passed "wrong usage is said in one line, with status 2"
}

# Where the program is not found, the script counts by itself, and must come to the same.
check_needs() {
    need_built vitrine
    "$here/setup_needs.sh" "$build" || fail "the script counts otherwise than vitrine needs"
    passed "the script counts huge pages and locked memory as vitrine needs does"
}

check_verbs() {
    check_usage
    check_needs
    start_host host intel_iommu=on
    check refusals
    check plan
    check apply
    kernel_is_content host
    stop_lab_guest host
}

# What happens to a VF after its apply: neighbours, edits, a reboot, a power cut.
check_changes() {
    start_host host intel_iommu=on
    check others
    check reboot
    check journal
    check doctor
    kernel_is_content host
    stop_lab_guest host
}

# A failure after each step; kill -9 and SIGTERM at some. In the short form fewer: each costs the guest, which is
# emulated, ten seconds and more.
check_injection() {
    local steps
    start_host host intel_iommu=on
    steps=$(check steps)
    ((steps > 15)) || fail "the plan has $steps steps"
    if is_long; then
        inject changed 1
        inject journalled 4
        inject killed-changed 4
        inject killed-journalled 5
        inject signal-changed 7
    else
        inject changed 5
        check injection killed-changed $((steps - 1))
        check injection killed-journalled 8
        check injection signal-changed 14
    fi
    kernel_is_content host
    stop_lab_guest host
}

check_no_iommu() {
    start_host host intel_iommu=off
    check no_iommu
    stop_lab_guest host
}

main() {
    local part parts=("$@")
    ((${#parts[@]} > 0)) || parts=(verbs changes injection no_iommu)
    need cpio python3
    need_lab
    enter_private_world "$@"
    for part in "${parts[@]}"; do
        "check_$part"
    done
}

main "$@"
