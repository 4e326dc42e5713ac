# shellcheck shell=bash disable=SC2034,SC2154  # one program with setup.sh: variables are shared
# How much memory a VM's vitrine needs. `vitrine needs` knows; without the program we count as it does.

# find_vitrine: the program installed or built with this script, or else the one in PATH.
find_vitrine() {
    local place
    for place in "${VITRINE_BUILD:-$source_root/build}/vitrine" "$source_root/../../bin/vitrine"; do
        [[ -x $place ]] || continue
        REPLY=$place
        return 0
    done
    REPLY=$(command -v vitrine)
}

# count_needs: setting[huge_pages], [huge_page_kib], [locked_bytes]: by what vitrine would run with.
count_needs() {
    local options needs
    options=(--name "${vm:-default}" --vf "${setting[vf]}" --mtu "${setting[mtu]}" --queues "${setting[queues]}" --guest-dma "${setting[guest_dma]}")
    if [[ -n $own_configuration ]]; then
        configuration_file
        options=(--config "$REPLY")
    fi
    if find_vitrine && needs=$("$REPLY" needs "${options[@]}" --guest-memory "${setting[guest_memory_mib]}" --json 2>/dev/null) &&
        read_needs "$needs"; then
        needs_source="by vitrine needs"
    else
        needs_by_count
        needs_source="counted without vitrine"
    fi
    setting[huge_pages]=$((setting[huge_pages] + setting[guest_memory_mib] * 1024 / setting[huge_page_kib]))
}

# read_needs JSON: {"huge_pages":{"2048":4},"locked_bytes":8388608}
read_needs() {
    [[ $1 =~ \"locked_bytes\":\ ?([0-9]+) ]] || return 1
    setting[locked_bytes]=${BASH_REMATCH[1]}
    setting[huge_pages]=0 setting[huge_page_kib]=2048
    [[ $1 =~ \"huge_pages\":\ ?\{\"([0-9]+)\":\ ?([0-9]+) ]] || return 0
    setting[huge_page_kib]=${BASH_REMATCH[1]} setting[huge_pages]=${BASH_REMATCH[2]}
}

# 1024 descriptors and 256 frames in hand for receiving, 512 for sending, in pages of 2 KiB, or 16 KiB for long frames;
# then the rings; each of the three in huge pages of its own.
needs_by_count() {
    local page_kib=2 queues=${setting[queues]}
    ((setting[mtu] + 18 <= 2048)) || page_kib=16
    local packets=$((queues * 1280 * page_kib)) bounce=$((queues * 512 * page_kib)) rings=$((queues * 1536 * 16 / 1024))
    setting[huge_page_kib]=2048
    setting[huge_pages]=$(((packets + 2047) / 2048 + (bounce + 2047) / 2048 + (rings + 2047) / 2048))
    setting[locked_bytes]=$((setting[huge_pages] << 21))
    # A guest whose memory the NIC may read has all of it pinned.
    [[ ${setting[guest_dma]} != on ]] || setting[locked_bytes]=$((setting[locked_bytes] + (setting[guest_memory_mib] << 20)))
}

# How many huge pages the node must have. Whoever runs has its pages; for all others there must be free ones, or two VMs
# that start at once after a reboot would be promised the same.
count_huge_pages_wanted() {
    local free now other asked=${setting[huge_pages]} kib=${setting[huge_page_kib]}
    huge_pages_now "$vf_node" "$kib"
    now=$REPLY
    [[ $now != absent ]] || { huge_pages_wanted=$asked; return 0; }
    huge_pages_wanted=$now
    ! group_is_open "$vf_address" || return 0
    other_vms
    for other in $REPLY; do
        asked=$((asked + $(asked_by "$other")))
    done
    huge_page_file "$vf_node" "$kib"
    read_fact "$REPLY/free_hugepages" || return 0
    free=$REPLY
    ((asked <= free)) || huge_pages_wanted=$((now + asked - free))
}

asked_by() {
    local pages address
    setting_of "$1" huge_pages || { echo 0; return; }
    pages=$REPLY
    setting_of "$1" vf || true
    address=$REPLY
    address_of_vf "$address" || { echo 0; return; }
    address=$REPLY
    node_of "$address"
    if [[ $REPLY != "$vf_node" ]] || group_is_open "$address"; then pages=0; fi
    echo "$pages"
}

# address_of_vf WORDS: "enp3s0f0/0" or an address, as in vf = "..." of the configuration.
address_of_vf() {
    if [[ $1 == */* ]]; then
        link_name "/sys/class/net/${1%/*}/device" && vf_address_of "$REPLY" "${1#*/}"
    else
        REPLY=$1
        [[ $1 =~ ^[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$ ]]
    fi
}
