#!/bin/busybox sh
# shellcheck shell=dash
# Started for each TCP connection: keeps what arrives and answers with its checksum, as computed at this end.

tee /tmp/received | sha256sum
