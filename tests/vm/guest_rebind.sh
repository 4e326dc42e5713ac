#!/bin/busybox sh
# shellcheck shell=dash
# Takes the driver away from the guest's network device and gives it back.

set -e
cd /sys/bus/virtio/drivers/virtio_net
device=$(echo virtio*)
echo "$device" >unbind
test ! -e "$device"
echo "$device" >bind
test -e "$device"
network-up
