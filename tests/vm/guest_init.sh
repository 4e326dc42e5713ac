#!/bin/busybox sh
# shellcheck shell=dash
# Process 1 of the guest: brings its network up and then serves commands (see guest_serve.sh).

/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp

while read -r module; do
    insmod "/modules/$module"
done </modules/order

network-up
nc -ll -p 5001 -e receive &

exec guest-serve
