#!/usr/bin/env bash
# test_linux_guest.sh split|packed: of which kind the rings are.
# A stock Debian Linux guest on vitrine: tap <- vf_sim <- vitrine <- QEMU -netdev vhost-user <- virtio_net.
# Ping and TCP both ways; again after the guest's driver was rebound, after a reboot inside the VM, and after the VM was
# ended and started again; vitrine runs through all of it.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/support/harness.sh
source "$here/../support/harness.sh"
# shellcheck source=tests/support/chain.sh
source "$here/../support/chain.sh"

kind=${1:-split}
packed=$([[ $kind == packed ]] && echo on || echo off)
transfer_bytes=$((16 << 20))
boots=0

make_wire() {
    ip tuntap add vt0 mode tap
    ip address add 10.99.0.1/24 dev vt0
    ip link set vt0 up
}

# vectors=0 (no MSI-X): without KVM, QEMU 7.2 itself crashes when the guest unmasks a vector of a vhost-user device.
# vitrine sees no difference: it signals the same eventfds.
start_guest() {
    boots=$((boots + 1))
    serial=$work/serial.$boots.log
    : >"$serial"
    rm -f "$work/command.sock"
    start qemu timeout 120 qemu-system-x86_64 \
        -M q35,memory-backend=ram -accel tcg,thread=multi -cpu max -m 256 -smp 1 \
        -object memory-backend-memfd,id=ram,size=256M,share=on \
        -chardev "socket,id=vhost,path=$work/vhost.sock" -netdev vhost-user,id=net,chardev=vhost \
        -device "virtio-net-pci,netdev=net,mac=$vf_mac,romfile=,vectors=0,packed=$packed" \
        -kernel "$image/vmlinux" -initrd "$work/initramfs" \
        -append "console=ttyS0 panic=-1 quiet mitigations=off" \
        -nodefaults -no-user-config -nographic \
        -serial "file:$serial" -serial "unix:$work/command.sock,server=on,wait=off"
    wait_until 60 "the guest to boot" guest_ready 1
}

# The console says READY once for each boot of this VM.
guest_ready() {
    running qemu || fail "QEMU ended while the guest booted"
    (($(grep -c READY "$serial") >= $1))
}

guest() {
    "$here/guest_command.py" "$work/command.sock" 60 "$1"
}

ping_both_ways() {
    ping -q -c 20 -i 0.05 -W 5 10.99.0.2 >"$work/ping.log" || fail "ping from the wire to the guest ($1)"
    grep -q ' 0% packet loss' "$work/ping.log" || fail "ping from the wire to the guest lost packets ($1)"
    guest 'ping -q -c 20 -i 0.05 -W 5 10.99.0.1' >"$work/ping.log" || fail "ping from the guest to the wire ($1)"
    grep -q ' 0% packet loss' "$work/ping.log" || fail "ping from the guest to the wire lost packets ($1)"
    passed "$1: 20 pings each way, none lost"
}

# Each end answers a connection with the checksum of what it received; the guest sends back the file it was sent.
transfer_both_ways() {
    local answer
    answer=$(timeout 60 busybox nc 10.99.0.2 5001 <"$work/file") || fail "TCP to the guest ($1)"
    [[ $answer == "$checksum"* ]] || fail "TCP to the guest ($1): sent $checksum, the guest received $answer"
    answer=$(guest 'nc 10.99.0.1 5001 </tmp/received') || fail "TCP from the guest ($1)"
    [[ $answer == "$checksum"* ]] || fail "TCP from the guest ($1): sent $checksum, received $answer"
    passed "$1: $transfer_bytes bytes by TCP each way, checksums equal"
}

check_traffic() {
    ping_both_ways "$1"
    transfer_both_ways "$1"
}

reboot_guest() {
    local before
    before=$(guest 'cat /proc/sys/kernel/random/boot_id')
    # Never answered, because the guest goes away; one second is enough to hand it over.
    "$here/guest_command.py" "$work/command.sock" 1 'reboot -f' >/dev/null 2>&1 || true
    wait_until 60 "the guest to reboot" guest_ready 2
    [[ $(guest 'cat /proc/sys/kernel/random/boot_id') != "$before" ]] || fail "the guest did not reboot"
}

power_off_guest() {
    guest 'poweroff -f' >/dev/null 2>&1 || true  # never answered either
    wait_until 30 "the end of QEMU" not_running qemu
    stop qemu || true
}

main() {
    need qemu-system-x86_64 busybox cpio python3 ping
    need_built vf_sim vitrine vitrinectl
    if [[ -z ${VITRINE_PRIVATE_WORLD:-} ]]; then
        VITRINE_GUEST_IMAGE=$("$here/guest_image.sh") || skip "no kernel for the guest: Debian's archive is out of reach"
        export VITRINE_GUEST_IMAGE
    fi
    enter_private_world "$@"
    image=$VITRINE_GUEST_IMAGE
    "$here/guest_initramfs.sh" "$image" "$work/initramfs"
    /usr/bin/python3 -c "import random, sys; sys.stdout.buffer.write(random.Random(1).randbytes($transfer_bytes))" >"$work/file"
    checksum=$(sha256sum <"$work/file")
    checksum=${checksum%% *}

    make_wire
    start_chain linux-guest tap:vt0 --packed "$packed"
    start wire_end busybox nc -ll -p 5001 -e sha256sum

    start_guest
    check_traffic "first boot"
    [[ $(rings_agreed) == "$kind" ]] || fail "the rings are $(rings_agreed), not $kind"
    guest rebind || fail "the guest could not rebind its driver"
    check_traffic "after unbind and bind"
    reboot_guest
    check_traffic "after a reboot in the VM"
    power_off_guest
    start_guest
    check_traffic "in a second VM"
    power_off_guest
    # shellcheck disable=SC2119  # this guest does not count
    check_books
    passed "through all of it: sent = delivered + drops, at both ends"
    stop_chain
}

main "$@"
