#!/bin/busybox sh
# shellcheck shell=dash
# lab PROGRAM ARGUMENT...: a program of the lab's root. By env, because busybox would take its own one of that name.

exec chroot /lab /usr/bin/env PATH=/usr/sbin:/usr/bin "$@"
