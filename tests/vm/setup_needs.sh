#!/usr/bin/env bash
# shellcheck disable=SC2034,SC2154  # one program with setup.sh: variables are shared
# Compares what setup.sh counts by itself with what it is told by `vitrine needs`: setup_needs.sh BUILD-DIRECTORY.
set -euo pipefail

VITRINE_BUILD=$1
source_root=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=tools/setup/host_options.sh
source "$source_root/tools/setup/host_options.sh"
# shellcheck source=tools/setup/host_needs.sh
source "$source_root/tools/setup/host_needs.sh"

# count FUNCTION: its numbers, in REPLY. count_needs adds the 512 huge pages of the guest.
count() {
    setting[huge_pages]='' setting[locked_bytes]=''
    "$1"
    [[ $1 == count_needs ]] || setting[huge_pages]=$((setting[huge_pages] + 512))
    REPLY="${setting[huge_pages]} x ${setting[huge_page_kib]} KiB, ${setting[locked_bytes]} locked"
}

vm=vm1
own_configuration=
declare -A setting=([vf]=eth0/0 [guest_memory_mib]=1024)
for words in {1500,2030,2031,9000}\ {1,2,4}\ {on,off}; do
    read -r 'setting[mtu]' 'setting[queues]' 'setting[guest_dma]' <<<"$words"
    count needs_by_count
    alone=$REPLY
    count count_needs
    [[ $needs_source == "by vitrine needs" ]] || { echo "$VITRINE_BUILD/vitrine needs is not understood"; exit 1; }
    [[ $REPLY == "$alone" ]] || { echo "$words: alone $alone, by vitrine needs $REPLY"; exit 1; }
done
