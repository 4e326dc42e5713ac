#!/usr/bin/env bash
# Builds the guest's initramfs: guest_initramfs.sh IMAGE-DIRECTORY OUTPUT. The first is what guest_image.sh prints.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
image=$1
output=$2
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT

mkdir -p "$tree"/{bin,dev,proc,sys,tmp}
cp "$(command -v busybox)" "$tree/bin/busybox"
cp -r "$image/modules" "$tree/modules"
install -m 755 "$here/guest_init.sh" "$tree/init"
install -m 755 "$here/guest_serve.sh" "$tree/bin/guest-serve"
install -m 755 "$here/guest_network_up.sh" "$tree/bin/network-up"
install -m 755 "$here/guest_receive.sh" "$tree/bin/receive"
install -m 755 "$here/guest_rebind.sh" "$tree/bin/rebind"
(cd "$tree" && find . | cpio --create --format=newc --owner=0:0 --quiet) | gzip -1 >"$output"
