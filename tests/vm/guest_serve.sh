#!/bin/busybox sh
# shellcheck shell=dash
# Serves the guest's second serial port: one line is one shell command, the answer is its output and then a line
# "=status N". That line is the only thing the two sides must agree on.

serve() {
    exec 3<>/dev/ttyS1
    stty raw -echo <&3
    echo READY
    while read -r command <&3; do
        sh -c "$command" >/tmp/output 2>&1 </dev/null
        status=$?
        cat /tmp/output >&3
        echo "=status $status" >&3
    done
}

# Not in process 1: that is told when any orphan ends, and then busybox's `read` forgets what it has of a line.
serve &
wait $!
