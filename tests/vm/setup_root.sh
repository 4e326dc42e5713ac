#!/bin/busybox sh
# shellcheck shell=dash
# Makes a host of a guest of the lab, for tests of setup.sh: at /host the lab's root, on which anything may be written,
# with the test's files (the folder of this one) in /opt/vitrine, and the kernel's modules where modprobe finds them. The PFs' driver is loaded,
# vfio-pci is not.

set -e
release=$(uname -r)
mkdir /host /written
mount -t tmpfs tmpfs /written
mkdir /written/data /written/work
mount -t overlay -o lowerdir=/lab,upperdir=/written/data,workdir=/written/work overlay /host
for directory in dev proc sys; do
    mount --bind "/$directory" "/host/$directory"
done
mount -t tmpfs tmpfs /host/run
mount -t tmpfs tmpfs /host/tmp
mkdir -p /host/opt/vitrine "/host/usr/lib/modules/$release"
cp -r /share/* /host/opt/vitrine
cp /modules/*.ko "/host/usr/lib/modules/$release"
chroot /host /usr/sbin/depmod 2>/dev/null
# What runs again and again is copied into memory, by a touch: to open a file that lies beyond 9p takes the guest as long
# as to run a small program.
programs='bash awk cat chmod chown cp cut diff dirname find flock getent grep jq mkdir mount mv readlink rm rmdir sed setpriv
    sha256sum sort stat sync tail touch udevadm umount ../sbin/ip ../sbin/modprobe ../sbin/useradd ../sbin/userdel'
# shellcheck disable=SC2016,SC2086  # for the shell in there; words
chroot /host /bin/bash -c 'cd /usr/bin; touch -c -a $* $(ldd $* | grep -o "/lib[^ :]*") $(find /usr/lib/locale/C.utf8 -type f) \
    /usr/lib/x86_64-linux-gnu/gconv/gconv-modules.cache' programs $programs
for module in dca i2c-algo-bit igb bridge bonding; do
    insmod "/modules/$module.ko" 2>/dev/null || true  # some are there already
done
test -d /sys/module/igb
rmmod vfio_pci vfio_pci_core vfio_iommu_type1 vfio
