#!/bin/busybox sh
# shellcheck shell=dash
# network-up [HOST-NUMBER]: gives the guest's network interface its addresses, by default 10.99.0.2 and fd99::2.
# Prints the interface's name.

set -e
for device in /sys/bus/pci/devices/*/net/* /sys/bus/virtio/devices/*/net/*; do
    [ -e "$device" ] || continue
    interface=${device##*/}
done
ip address add "10.99.0.${1:-2}/24" dev "$interface"
lab ip address add "fd99::${1:-2}/64" dev "$interface" nodad
ip link set "$interface" up
echo "$interface"
