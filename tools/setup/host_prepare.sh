# shellcheck shell=bash disable=SC2034,SC2154  # one program with setup.sh: variables are shared
# From options or from a settings file to all that the list of steps asks for: what is to be, and where.

pf=              # the PF's interface; empty: the VF's PF is not on this machine
pf_address=
pf_total_vfs=
vf_index=
vf_address=
vf_node=0
huge_pages_wanted=0
own_configuration=   # set: the configuration file is the operator's own and is not touched

# locate_vf PF VF: as in the options. The VF need not be there yet.
locate_vf() {
    if [[ -n $1 ]]; then
        find_pf "$1"
        vf_index=$2
        [[ $vf_index =~ ^(0|[1-9][0-9]{0,2})$ ]] || quit "$exit_usage" "$1/$vf_index: the number of a VF is 0, 1, 2 ..."
        ((vf_index < pf_total_vfs)) || quit "$exit_usage" "$pf has VFs 0 to $((pf_total_vfs - 1)) at most, not $vf_index"
        vf_address_of "$pf_address" "$vf_index" || quit "$exit_missing" "the kernel does not say where VF $vf_index of $pf will be"
        vf_address=$REPLY
        node_of "$pf_address"
    else
        find_vf "$2"
        vf_address=$2
        node_of "$vf_address"
    fi
    vf_node=$REPLY
}

# chosen NAME OPTION DEFAULT: what is asked for now, or was the last time, or the default.
chosen() {
    setting[$1]=${option[$2]:-${setting[$1]:-$3}}
}

settings_from_options() {
    read_settings || true
    locate_vf "${option[--pf]:-}" "${option[--vf]:-}"
    [[ -z ${setting[vf]:-} || ${setting[pf_address]} == "$pf_address" && ${setting[vf]##*/} == "${vf_index:-$vf_address}" ]] ||
        quit "$exit_refused" "$vm has ${setting[vf]} already: setup.sh rollback --vm $vm first"
    setting[pf_address]=$pf_address
    setting[vf]=${pf:+$pf/$vf_index}
    setting[vf]=${setting[vf]:-$vf_address}
    setting[any_vf]=${option[--test-any-vf]:-${setting[any_vf]:-}}
    setting[pf_is_used]=${option[--force]:-${setting[pf_is_used]:-}}
    chosen mac --mac ''
    setting[mac]=${setting[mac],,}
    chosen vlan --vlan ''
    chosen spoofchk --spoofchk on
    chosen trust --trust off
    chosen mtu --mtu 1500
    chosen queues --queues 1
    chosen guest_dma --guest-dma off
    chosen guest_memory_mib --guest-memory 0
    choose_number_of_vfs
    look_at_configuration
    count_needs
    count_huge_pages_wanted
}

# The number can only go from 0 to another one: what is there for others stays, and is theirs.
choose_number_of_vfs() {
    local now other
    if [[ -z $pf ]]; then
        setting[vfs]=
        return 0
    fi
    functions_now "$pf_address"
    now=$REPLY
    if ((now > 0)); then
        [[ $vf_index -lt $now && ${option[--vfs]:-$now} == "$now" ]] || quit "$exit_refused" \
            "$pf has $now VFs, and to change their number all of them would go: free them, then echo 0 > $pci/devices/$pf_address/sriov_numvfs"
    fi
    other_vms
    for other in $vm $REPLY; do
        if setting_of "$other" pf_address && [[ $REPLY == "$pf_address" ]] && setting_of "$other" vfs; then
            setting[vfs]=$REPLY
            ((vf_index < REPLY)) || quit "$exit_refused" "$other has set $pf up for $REPLY VFs: VF $vf_index is not one of them"
            return 0
        fi
    done
    setting[vfs]=
    ((now == 0)) || return 0  # somebody else's
    # Some to spare, because a second VM cannot add any.
    setting[vfs]=${option[--vfs]:-$((vf_index < 4 ? 4 : vf_index + 1))}
    ((setting[vfs] <= pf_total_vfs)) || setting[vfs]=$pf_total_vfs
    ((vf_index < setting[vfs])) || usage_error "--vfs ${setting[vfs]} has no VF $vf_index"
}

# An edited configuration is the operator's, as long as it is about the same VF.
look_at_configuration() {
    local file line sum
    own_configuration=
    configuration_file
    file=$REPLY
    [[ -f $file ]] || return 0
    vf_of_configuration "$file"
    [[ $REPLY == "${setting[vf]}" ]] ||
        quit "$exit_refused" "$file gives $vm the VF \"$REPLY\", not \"${setting[vf]}\": setup.sh rollback --vm $vm, or remove it"
    checksum_of "$file"
    sum=$REPLY
    read_journal
    for line in "${journal[@]}"; do
        [[ $line != "disk|text|"*"|$sum|$file|"* ]] || return 0  # as we wrote it
    done
    own_configuration=yes
}

vf_of_configuration() {
    REPLY=$(sed -nE '/^[[:space:]]*\[/q; s/^[[:space:]]*vf[[:space:]]*=[[:space:]]*["'\'']([^"'\'']*)["'\''].*/\1/p' "$1" | tail -n 1)
}

# adopt_settings: for bind and status, of a VM that is set up.
adopt_settings() {
    read_settings || return 1
    if [[ ${setting[vf]} == */* ]]; then
        locate_vf "${setting[pf_address]}" "${setting[vf]##*/}"
    else
        locate_vf "" "${setting[vf]}"
    fi
    count_huge_pages_wanted
    look_at_configuration
}
