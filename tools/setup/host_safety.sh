# shellcheck shell=bash disable=SC2034,SC2154  # one program with setup.sh: variables are shared
# What is refused, although it could be done: whatever could cut somebody's network or take a VF from a running machine.
# Only what is about to change is looked at, so that a second apply of the same is never refused.

refuse_what_is_used() {
    local kind touches_pf='' touches_vf=''
    for kind in autoprobe functions policy; do
        touches_pf+=${pending_kind[$kind]:-}
    done
    for kind in override driver owner; do
        touches_vf+=${pending_kind[$kind]:-}
    done
    [[ -z $touches_pf || -z $pf ]] || refuse_used_pf
    [[ -z $touches_vf && -z ${pending_kind[policy]:-} ]] || refuse_used_vf
}

refuse_used_pf() {
    [[ -z ${setting[pf_is_used]} ]] || return 0
    ! function_is_used "$pf_address" ||
        quit "$exit_refused" "$REPLY, and to create or change VFs can interrupt its link: use another port, or say --force"
}

# No --force for a VF: whatever uses it would lose it.
refuse_used_vf() {
    local other
    other_vms
    for other in $REPLY; do
        setting_of "$other" vf || continue
        [[ $REPLY != "${setting[vf]}" ]] || quit "$exit_refused" "${setting[vf]} belongs to $other: setup.sh rollback --vm $other"
    done
    if driverctl_wants "$vf_address" && [[ $REPLY != vfio-pci ]]; then
        quit "$exit_refused" "driverctl gives $vf_address to $REPLY: driverctl unset-override $vf_address"
    fi
    exists_function "$vf_address" || return 0
    ! function_is_used "$vf_address" ||
        quit "$exit_refused" "VF $vf_address: $REPLY: take that away first, or choose another VF"
    ! group_is_open "$vf_address" ||
        quit "$exit_refused" "VF $vf_address is in use by a running program: fuser -v /dev/vfio/$(group_of "$vf_address"; echo "$REPLY")"
}

# The process of this VM, or whoever else has its VF open.
refuse_running_vm() {
    ! { [[ -d /run/systemd/system ]] && systemctl --quiet is-active "vitrine@$vm" 2>/dev/null; } ||
        quit "$exit_refused" "vitrine@$vm is running: systemctl stop vitrine@$vm"
    [[ -z $vf_address ]] || ! group_is_open "$vf_address" ||
        quit "$exit_refused" "VF $vf_address is in use by a running program: fuser -v /dev/vfio/$(group_of "$vf_address"; echo "$REPLY")"
}
