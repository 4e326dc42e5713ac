#!/bin/busybox sh
# shellcheck shell=dash
# Process 1 of the guest. After start-up it serves the second serial port: one line is one shell command, the
# answer is its output and then a line "=status N". That line is the only thing the two sides must agree on.

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

exec 3<>/dev/ttyS1
stty raw -echo <&3
echo READY
while read -r command <&3; do
    sh -c "$command" >/tmp/output 2>&1 </dev/null
    status=$?
    cat /tmp/output >&3
    echo "=status $status" >&3
done
