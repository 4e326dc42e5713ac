#!/bin/busybox sh
# shellcheck shell=dash
# lab-ours PROGRAM ARGUMENT...: one of our programs (see tests/support/guest_programs.sh) in the lab's root, with that
# root's C and C++ library and our other libraries.

program=$1
shift
exec lab env LD_LIBRARY_PATH=/run/ours/lib "/run/ours/bin/$program" "$@"
