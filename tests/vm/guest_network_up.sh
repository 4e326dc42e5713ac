#!/bin/busybox sh
# shellcheck shell=dash
# Gives the guest's one virtio network interface its address. Used at start and again after the driver is rebound.

for device in /sys/bus/virtio/drivers/virtio_net/virtio*/net/*; do
    interface=${device##*/}
    ip address add 10.99.0.2/24 dev "$interface"
    ip link set "$interface" up
done
