#!/bin/busybox sh
# shellcheck shell=dash
# Process 1 of a guest that has the lab's root (read only, by 9p) at /lab. Loads all modules but those that a test loads
# by hand: network drivers, and KVM, which takes seconds. Then it serves commands (see guest_serve.sh). Programs of
# ours, if the test shares any, are at /ours/bin, and in the lab's root at /run/ours.

export PATH=/sbin:/usr/sbin:/bin:/usr/bin:/ours/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp

while read -r module; do
    case $module in
        ixgbevf.ko | igb.ko | bridge.ko | bonding.ko | kvm*.ko | ccp.ko) ;;
        *) insmod "/modules/$module" ;;
    esac
done </modules/order

mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=262144 lab /lab
mount -t tmpfs tmpfs /lab/tmp
mount -t tmpfs tmpfs /lab/run
for directory in dev proc sys; do
    mount --bind "/$directory" "/lab/$directory"
done
mkdir /lab/run/ours
if mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=262144 ours /ours 2>/dev/null; then
    mount --bind /ours /lab/run/ours
fi
ip link set lo up
nc -ll -p 5001 -e receive &
exec guest-serve
