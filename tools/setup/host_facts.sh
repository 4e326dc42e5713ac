# shellcheck shell=bash disable=SC2034,SC2154  # one program with setup.sh: variables are shared
# What the kernel says about PCI functions, their groups and their network interfaces. Reads only.

pci=/sys/bus/pci

# read_fact FILE: its first line, empty if there is none.
read_fact() {
    REPLY=
    [[ -e $1 ]] || return 1
    { read -r REPLY <"$1"; } 2>/dev/null || [[ -n $REPLY ]]
}

# link_name LINK: the last part of the folder that it points to.
link_name() {
    REPLY=
    [[ -L $1 ]] && cd -P "$1" 2>/dev/null || return 1
    REPLY=${PWD##*/}
    cd /
}

exists_function() {
    [[ -e $pci/devices/$1 ]]
}

driver_of() {
    link_name "$pci/devices/$1/driver" || REPLY=none
}

group_of() {
    link_name "$pci/devices/$1/iommu_group"
}

node_of() {
    read_fact "$pci/devices/$1/numa_node" || true
    [[ -n $REPLY && $REPLY != -1 ]] || REPLY=0
}

# The interfaces of a function that are in this network namespace.
interfaces_of() {
    local path
    REPLY=
    for path in "$pci/devices/$1"/net/*; do
        [[ ! -e $path ]] || REPLY+="${REPLY:+ }${path##*/}"
    done
}

# identity_of ADDRESS: vendor:device.
identity_of() {
    local vendor
    read_fact "$pci/devices/$1/vendor" || true
    vendor=${REPLY#0x}
    read_fact "$pci/devices/$1/device" || true
    REPLY=$vendor:${REPLY#0x}
}

# part_of IDENTITY: the card, if it is a VF that vitrine drives.
part_of() {
    case $1 in
        8086:10ed) REPLY=82599 ;;
        8086:1515) REPLY=X540 ;;
        8086:1565) REPLY=X550 ;;
        8086:15a8) REPLY=X552 ;;
        8086:15c5) REPLY=X553 ;;
        *) REPLY=; return 1 ;;
    esac
}

# find_pf NAME: NAME is an interface or an address. Sets pf (the interface) and pf_address.
find_pf() {
    local name=$1
    if [[ -e $pci/devices/$name ]]; then
        pf_address=$name
        interfaces_of "$name"
        [[ -n $REPLY ]] ||
            quit "$exit_missing" "$name has no network interface: is its driver loaded? modprobe ixgbe (a -cloud kernel has none)"
        pf=${REPLY%% *}
    elif link_name "/sys/class/net/$name/device"; then
        pf=$name
        pf_address=$REPLY
    else
        quit "$exit_missing" "there is no network interface $name: ip -br link lists them"
    fi
    read_fact "$pci/devices/$pf_address/sriov_totalvfs" || REPLY=0
    ((REPLY > 0)) ||
        quit "$exit_missing" "$pf ($pf_address) offers no virtual functions: switch SR-IOV on in the firmware set-up"
    pf_total_vfs=$REPLY
}

# vf_address_of PF-ADDRESS INDEX: where the VF is or, by the PF's SR-IOV capability, will be.
vf_address_of() {
    local offset stride bus number
    ! link_name "$pci/devices/$1/virtfn$2" || return 0
    read_fact "$pci/devices/$1/sriov_offset" || return 1
    offset=$REPLY
    read_fact "$pci/devices/$1/sriov_stride" || return 1
    stride=$REPLY
    bus=${1#*:}
    bus=${bus%%:*}
    number=${1##*:}
    number=$(((16#$bus << 8) + (16#${number%.*} << 3) + ${number#*.} + offset + stride * $2))
    printf -v REPLY '%s:%02x:%02x.%d' "${1%%:*}" $((number >> 8)) $((number >> 3 & 31)) $((number & 7))
}

# find_vf ADDRESS: sets pf, pf_address and vf_index if the host's PF made it; in a guest a VF may stand alone.
find_vf() {
    local address=$1 link
    exists_function "$address" || quit "$exit_missing" "there is no PCI function $address: lspci -D lists them"
    pf='' pf_address='' vf_index=''
    link_name "$pci/devices/$address/physfn" || return 0
    find_pf "$REPLY"
    for link in "$pci/devices/$pf_address"/virtfn*; do
        link_name "$link"
        [[ $REPLY != "$address" ]] || vf_index=${link##*virtfn}
    done
}

is_up() {
    local flags
    read_fact "/sys/class/net/$1/flags" || return 1
    flags=$REPLY
    ((flags & 1))
}

# What would be lost if the interface went away or its link dropped for a moment; empty: nothing. What the kernel gives
# every interface by itself (link-local address, its routes) does not count.
interface_is_used() {
    local name=$1 upper found
    if [[ -L /sys/class/net/$name/master ]]; then
        link_name "/sys/class/net/$name/master"
        upper=$REPLY
        REPLY="belongs to $upper"
        [[ ! -d /sys/class/net/$upper/bridge ]] || REPLY="is a port of bridge $upper"
        [[ ! -d /sys/class/net/$upper/bonding ]] || REPLY="is a part of bond $upper"
        return 0
    fi
    for upper in "/sys/class/net/$name"/upper_*; do
        [[ -L $upper ]] || continue
        REPLY="carries ${upper##*/upper_}"
        return 0
    done
    found=$({ ip -4 -o route show table all dev "$name"; ip -6 -o route show table all dev "$name"; } 2>/dev/null |
        grep -v 'proto kernel') || true
    if [[ $found == *default* ]]; then
        REPLY="carries the default route"
        return 0
    fi
    REPLY=$(ip -o address show dev "$name" 2>/dev/null | awk '!/inet6.* scope link/ && /inet/ { print $4; exit }')
    if [[ -n $REPLY ]]; then
        REPLY="has the address $REPLY"
        return 0
    fi
    if [[ -n $found ]]; then
        REPLY="carries the route ${found%%[[:cntrl:]]*}"
        return 0
    fi
    REPLY=
    return 1
}

# function_is_used ADDRESS: by the kernel's network; REPLY says how.
function_is_used() {
    local driver name interfaces
    driver_of "$1"
    driver=$REPLY
    interfaces_of "$1"
    interfaces=$REPLY
    case $driver in
        igb | igbvf | ixgbe | ixgbevf)
            if [[ -z $interfaces ]]; then
                REPLY="has its interface in another network namespace (a container?)"
                return 0
            fi ;;
    esac
    for name in $interfaces; do
        if interface_is_used "$name"; then
            REPLY="$name $REPLY"
            return 0
        fi
    done
    REPLY=
    return 1
}

# A group can be opened once. Whoever has it open (vitrine, another VMM, in whatever container) is a running machine.
group_is_open() {
    local group
    group_of "$1" || return 1
    group=$REPLY
    [[ -c /dev/vfio/$group ]] || return 1
    ((EUID == 0)) || return 1
    ! { : <>"/dev/vfio/$group"; } 2>/dev/null
}

# group_is_viable ADDRESS: what VFIO asks of the rest of the group; REPLY names the one that is in the way.
group_is_viable() {
    local group other
    group_of "$1" || return 0
    group=$REPLY
    for other in /sys/kernel/iommu_groups/"$group"/devices/*; do
        other=${other##*/}
        [[ $other != "$1" ]] || continue
        driver_of "$other"
        case $REPLY in
            none | vfio-pci | pci-stub | pcieport) ;;
            *)
                REPLY="$other in group $group is bound to $REPLY"
                return 1 ;;
        esac
    done
    REPLY=
}

# driverctl_wants ADDRESS: the driver that an operator has pinned with driverctl, if any.
driverctl_wants() {
    read_fact "/etc/driverctl.d/$1" || read_fact "/etc/driverctl.d/pci-$1"
}
