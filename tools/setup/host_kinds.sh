# shellcheck shell=bash disable=SC2034,SC2154  # one program with setup.sh: variables are shared
# The kinds of steps on PCI functions (see host_steps.sh). host_memory.sh and host_files.sh have the others.

# value FILE: any of the kernel's files with one word. An empty driver_override reads "(null)".
kind_place[value]=boot
kind_title[value]='%s'

value_now() {
    REPLY=absent
    [[ -e $1 ]] || return 0
    read_fact "$1" || true
    [[ $REPLY != '(null)' ]] || REPLY=
}

value_set() {
    change_file "$1" "$2"
}

# module NAME: of the kernel.
kind_place[module]=boot
kind_title[module]='module %s'

module_now() {
    REPLY=absent
    [[ ! -d /sys/module/${1//-/_} ]] || REPLY=loaded
}

module_set() {
    change modprobe "$2"
}

module_undo() {
    local other device
    other_vms
    for other in $REPLY; do
        REPLY=$other
        return "$still_needed"
    done
    for device in "$pci/drivers/$3"/*:*; do
        [[ ! -e $device ]] || return 0  # somebody else has come to use it
    done
    module_now "$3"
    [[ $REPLY == absent ]] || change modprobe -r "$3" || say "  $3 stays loaded: $failure"
}

# autoprobe PF-ADDRESS and functions PF-ADDRESS: the VFs of a PF. Other VMs may have come to live on them.
kind_place[autoprobe]=boot kind_place[functions]=boot
kind_title[autoprobe]='kernel drivers take new VFs of %s'
kind_title[functions]='VFs of %s'

autoprobe_now() {
    value_now "$pci/devices/$1/sriov_drivers_autoprobe"
}

autoprobe_set() {
    change_file "$1" "$pci/devices/$2/sriov_drivers_autoprobe"
}

functions_now() {
    value_now "$pci/devices/$1/sriov_numvfs"
}

functions_set() {
    policy_lines=
    change_file "$1" "$pci/devices/$2/sriov_numvfs" || { explain_numvfs; return 1; }
}

explain_numvfs() {
    [[ $failure != *'cannot allocate'* && $failure != *'No space'* ]] ||
        failure+=" (not enough PCI bus numbers or memory space: boot with pci=assign-busses or pci=realloc)"
}

pf_still_needed() {
    local other
    other_vms
    for other in $REPLY; do
        if setting_of "$other" pf_address && [[ $REPLY == "$1" ]]; then
            REPLY=$other
            return 0
        fi
    done
    return 1
}

# Ours has been let go when the VFs are to go; what still has a driver is somebody else's.
nobody_has_vfs_of() {
    local link other
    for link in "$pci/devices/$1"/virtfn*; do
        link_name "$link" || continue
        other=$REPLY
        driver_of "$other"
        [[ $REPLY == none ]] || { failure="VF $other is bound to $REPLY, so somebody uses it"; return 1; }
    done
}

autoprobe_undo() {
    ! pf_still_needed "$3" || return "$still_needed"
    undo_by_setting autoprobe "$1" "$3"
}

functions_undo() {
    ! pf_still_needed "$3" || return "$still_needed"
    nobody_has_vfs_of "$3" || return 1
    undo_by_setting functions "$1" "$3"
}

# policy PF-ADDRESS INDEX WHAT: what the PF lets a VF do: mac, vlan, spoofchk, trust.
kind_place[policy]=boot
kind_title[policy]='PF %s, VF %s: %s'
policy_lines=   # what ip said, until something changes

policy_now() {
    local words
    if [[ $policy_lines != "$1 "* ]]; then
        interfaces_of "$1"
        policy_lines="$1 $(ip link show dev "${REPLY%% *}" 2>/dev/null)" || true
    fi
    REPLY=absent
    [[ $policy_lines =~ $'\n'\ *vf\ $2\ ([^$'\n']*) ]] || return 0
    words=" ${BASH_REMATCH[1]//,/} "
    case $3 in
        mac) [[ $words =~ (link/ether|MAC)\ ([0-9a-f:]{17}) ]] && REPLY=${BASH_REMATCH[2]} ;;
        vlan) [[ $words =~ \ vlan\ ([0-9]+) ]] && REPLY=${BASH_REMATCH[1]} || REPLY=0 ;;
        spoofchk) [[ $words =~ \ spoof\ checking\ (on|off) ]] && REPLY=${BASH_REMATCH[1]} || REPLY=unknown ;;
        trust) [[ $words =~ \ trust\ (on|off) ]] && REPLY=${BASH_REMATCH[1]} || REPLY=unknown ;;
    esac
}

policy_set() {
    interfaces_of "$2"
    change ip link set dev "${REPLY%% *}" vf "$3" "$4" "$1"
}

# override ADDRESS and driver ADDRESS. Never new_id: that would take every other function of the kind, too.
kind_place[override]=boot kind_place[driver]=boot
kind_title[override]='driver that %s may have'
kind_title[driver]='driver of %s'

override_now() {
    value_now "$pci/devices/$1/driver_override"
}

override_set() {
    [[ -n $showing ]] || same_vf || return 1
    change_file "$1" "$pci/devices/$2/driver_override"
}

driver_now() {
    exists_function "$1" || { REPLY=absent; return 0; }
    driver_of "$1"
}

# drivers_probe says yes even if no driver took the function; the look afterwards tells.
driver_set() {
    [[ -n $showing ]] || same_vf || return 1
    driver_of "$2"
    [[ $REPLY == none ]] || change_file "$2" "$pci/drivers/$REPLY/unbind" || return 1
    [[ $1 == none ]] || change_file "$2" "$pci/drivers_probe"
}

# The old driver comes back by an override of its own, because the PF may be told to leave its VFs without drivers; the
# override that was there before comes back with its own line of the journal, or here if that has none.
driver_undo() {
    local old=$1 address=$3 before
    driver_now "$address"
    [[ $REPLY != absent && $REPLY != "$old" ]] || return 0
    override_now "$address"
    before=$REPLY
    if [[ $old != none ]]; then
        change_file "$old" "$pci/devices/$address/driver_override" || return 1
    fi
    driver_set "$old" "$address" || return 1
    change_file "$before" "$pci/devices/$address/driver_override" || return 1
    driver_of "$address"
    [[ $REPLY == "$old" ]]
}

# owner ADDRESS: of the node in /dev/vfio, by which the process of one VM, and no other, reaches the VF.
kind_place[owner]=boot
kind_title[owner]="owner of the group of %s"

owner_node() {
    if group_of "$1"; then
        REPLY=/dev/vfio/$REPLY
    else
        REPLY="/dev/vfio/\$(basename \$(readlink $pci/devices/$1/iommu_group))"
    fi
}

owner_now() {
    owner_node "$1"
    REPLY=$(stat -c '%U:%G:%a' "$REPLY" 2>/dev/null) || REPLY=absent
}

# The device manager sets the node up when it hears of it: it must be done before.
owner_set() {
    local wanted=$1 node
    owner_node "$2"
    node=$REPLY
    [[ -n $showing ]] || ! command -v udevadm >/dev/null || udevadm settle --timeout=10 2>/dev/null || true
    change chown "${wanted%:*}" "$node" && change chmod "${wanted##*:}" "$node"
}

# same_vf: what the steps call the VF's address is where the PF says that it is, and it is a VF that we drive.
same_vf() {
    [[ -n $vf_index && -n $pf_address ]] || return 0
    link_name "$pci/devices/$pf_address/virtfn$vf_index" || REPLY=nowhere
    [[ $REPLY == "$vf_address" ]] || { failure="VF $vf_index of $pf is at $REPLY and not at $vf_address"; return 1; }
}
