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

# How many huge pages the node must have. A vitrine that runs has its own; for all others there must be free ones, or two
# VMs that start at once after a reboot would be promised the same. Those for a guest's memory are the VMM's, which
# outlives a vitrine that is started again: of what is in use, as much is taken to be theirs as this boot has set aside.
count_huge_pages_wanted() {
    local now free in_use other demanded=0 set_aside=0 kib=${setting[huge_page_kib]}
    huge_pages_now "$vf_node" "$kib"
    now=$REPLY
    huge_pages_wanted=${setting[huge_pages]}
    [[ $now != absent ]] || return 0
    huge_pages_wanted=$now
    huge_page_file "$vf_node" "$kib"
    read_fact "$REPLY/free_hugepages" || return 0
    free=$REPLY
    in_use=$((now - free))
    count_demand "$vm" "$vf_address" "${setting[huge_pages]}" "${setting[guest_memory_mib]}" "$kib"
    other_vms
    for other in $REPLY; do
        count_demand_of_other "$other"
    done
    if ((in_use > 0 && set_aside > 0)); then
        demanded=$((demanded - (in_use < set_aside ? in_use : set_aside)))
    fi
    ((demanded <= free)) || huge_pages_wanted=$((now + demanded - free))
}

# count_demand VM ADDRESS PAGES GUEST-MIB KIB: into demanded, in_use and set_aside.
count_demand() {
    local guest=$((${4:-0} * 1024 / $5))
    if group_is_open "$2"; then
        in_use=$((in_use - ($3 - guest)))
    else
        demanded=$((demanded + $3 - guest))
    fi
    demanded=$((demanded + guest))
    pages_now "/dev/vitrine/$1"
    if [[ $REPLY != absent ]] && setting_of "$1" guest_memory_mib; then
        set_aside=$((set_aside + REPLY * 1024 / $5))
    fi
}

count_demand_of_other() {
    local address pages kib
    setting_of "$1" vf && address_of_vf "$REPLY" || return 0
    address=$REPLY
    node_of "$address"
    [[ $REPLY == "$vf_node" ]] && setting_of "$1" huge_pages || return 0
    pages=$REPLY
    setting_of "$1" huge_page_kib || return 0
    kib=$REPLY
    setting_of "$1" guest_memory_mib || true
    count_demand "$1" "$address" "$pages" "$REPLY" "$kib"
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
