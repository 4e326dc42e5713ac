#!/usr/bin/env bash
# Builds the initramfs of a guest that runs in the lab: lab_initramfs.sh LAB KERNEL OUTPUT, KERNEL a directory with
# the modules.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
lab=$1
kernel=$2
output=$3
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT

chmod 755 "$tree"
mkdir -p "$tree"/{bin,dev,etc,lab,lib,ours,proc,root,run,sys,tmp,usr/lib}
# Our programs look for their loader and libraries here; without the share, busybox needs neither.
ln -s /ours/system "$tree/lib64"
ln -s /ours/system "$tree/lib/x86_64-linux-gnu"
ln -s /ours/lib "$tree/usr/lib/x86_64-linux-gnu"
printf 'root:x:0:0::/root:/bin/sh\nvitrine:x:1001:1001::/run/vitrine:/bin/sh\n' >"$tree/etc/passwd"
printf 'root:x:0:\nvitrine:x:1001:\n' >"$tree/etc/group"
cp "$lab/root/usr/bin/busybox" "$tree/bin/busybox"
cp -r "$kernel/modules" "$tree/modules"
install -m 755 "$here/lab_init.sh" "$tree/init"
install -m 755 "$here/guest_serve.sh" "$tree/bin/guest-serve"
install -m 755 "$here/lab_run.sh" "$tree/bin/lab"
install -m 755 "$here/lab_ours.sh" "$tree/bin/lab-ours"
install -m 755 "$here/guest_receive.sh" "$tree/bin/receive"
install -m 755 "$here/lab_testpmd.sh" "$tree/bin/testpmd"
install -m 755 "$here/lab_network_up.sh" "$tree/bin/network-up"
(cd "$tree" && find . | cpio --create --format=newc --owner=0:0 --quiet) | gzip -1 >"$output"
