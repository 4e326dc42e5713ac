#!/bin/busybox sh
# shellcheck shell=dash
# Runs DPDK's testpmd in the guest: testpmd start OPTION..., testpmd say LINE, testpmd log, testpmd end.

set -e
case $1 in
    start)
        shift
        rm -f /tmp/testpmd.in
        mkfifo /tmp/testpmd.in
        sleep 100000 >/tmp/testpmd.in &  # keeps its standard input open
        echo $! >/tmp/testpmd.holder
        lab stdbuf -oL dpdk-testpmd "$@" </tmp/testpmd.in >/tmp/testpmd.log 2>&1 &
        echo $! >/tmp/testpmd.process
        ;;
    say)
        echo "$2" >/tmp/testpmd.in
        ;;
    log)
        cat /tmp/testpmd.log
        echo  # its prompt ends no line
        ;;
    end)
        echo quit >/tmp/testpmd.in
        wait_seconds=20
        while kill -0 "$(cat /tmp/testpmd.process)" 2>/dev/null; do
            sleep 1
            wait_seconds=$((wait_seconds - 1))
            [ "$wait_seconds" -gt 0 ]
        done
        kill "$(cat /tmp/testpmd.holder)"
        ;;
esac
