# shellcheck shell=bash disable=SC2034,SC2154  # one program with setup.sh: variables are shared
# setup.sh bind NAME: what vitrine@NAME.service runs as root before each start. Group numbers, VFs and huge pages do not
# outlive a reboot, so nothing stores them: the configuration says PF and number, and here they become a PCI address.

verb_bind() {
    local name=${1:-} configured
    need_root bind
    (($# > 0)) || usage_error "bind needs the name of a VM"
    check_vm_name "$name"
    shift
    parse_options bind "--undo!" "$@"
    vm=$name
    lock_host
    configuration_file
    [[ -f $REPLY ]] || quit "$exit_missing" "$REPLY is not there: setup.sh apply --pf PF --vf NUMBER --vm $vm"
    vf_of_configuration "$REPLY"
    configured=$REPLY
    case $configured in
        '') quit "$exit_missing" "/etc/vitrine/$vm.toml has no line vf = \"PF/NUMBER\"" ;;
        vfio-user:*) return 0 ;;  # a simulated one: nothing to bind
    esac
    getent passwd "vitrine-$vm" >/dev/null || quit "$exit_missing" "there is no user vitrine-$vm: setup.sh apply ... creates it"

    if [[ -n ${option[--undo]:-} ]]; then
        unbind_vf
        return 0
    fi
    undo_what_was_cut_off
    if read_settings; then
        [[ ${setting[vf]} == "$configured" ]] || quit "$exit_missing" \
            "/etc/vitrine/$vm.toml says $configured, but $vm was set up for ${setting[vf]}: setup.sh rollback --vm $vm, then apply"
        adopt_settings
    else
        settings_of_nobody "$configured"
    fi
    demand_preconditions starting
    find_pending each_boot_step
    if ((${#pending[@]} > 0)); then
        refuse_what_is_used
        begin_changes
        each_boot_step run_step
        verify_vf
        end_changes
    fi
    write_environment
    say "$vm: ${setting[vf]} is $vf_address"
}

each_boot_step() {
    local callback=$1
    boot_callback=$callback
    each_step if_boot_step
}

if_boot_step() {
    [[ ${kind_place[$1]} != boot ]] || "$boot_callback" "$@"
}

# A configuration that somebody wrote by hand: only the VF is bound, and it must be there.
settings_of_nobody() {
    local name
    for name in "${setting_names[@]}"; do
        setting["$name"]=''
    done
    setting[huge_pages]=0
    if [[ $1 == */* ]]; then
        locate_vf "${1%/*}" "${1#*/}"
        setting[pf_address]=$pf_address
        [[ -e $pci/devices/$pf_address/virtfn$vf_index ]] ||
            quit "$exit_missing" "$pf has no VF $vf_index: setup.sh apply --pf $pf --vf $vf_index --vm $vm creates it"
    else
        locate_vf "" "$1"
    fi
    setting[vf]=$1
}

# The service starts again and again; what an earlier start left half done must not be in its way.
undo_what_was_cut_off() {
    local start
    was_cut_off || return 0
    [[ -f $state_root/$vm/settings ]] || quit "$exit_missing" "setup.sh apply for $vm was cut off: setup.sh rollback --vm $vm"
    read_fact "$state_root/$vm/running" || true
    start=${REPLY:-0}
    read_journal
    if ! { undo_to "$start" && write_journal; }; then
        quit "$exit_failed" "an earlier run for $vm was cut off and cannot be undone: setup.sh rollback --vm $vm"
    fi
    end_journal
}

# Beside the VM's directory and not in it: there its user could lay a link, which root would follow.
write_environment() {
    [[ -d /run/vitrine ]] || mkdir -m 755 /run/vitrine
    printf 'VITRINE_VF=%s\n' "$vf_address" >"/run/vitrine/$vm.env"
}

# bind --undo: all that a reboot would undo, as if by one.
unbind_vf() {
    local line lasting=() passing=()
    read_settings || true
    address_of_vf "${setting[vf]:-$configured}" && vf_address=$REPLY
    refuse_running_vm
    begin_journal
    for line in "${journal[@]}"; do
        if [[ $line == disk\|* ]]; then lasting+=("$line"); else passing+=("$line"); fi
    done
    journal=("${lasting[@]}" "${passing[@]}")
    if ! { undo_to "${#lasting[@]}" && write_journal; }; then
        quit "$exit_failed" "not all could be undone: setup.sh rollback --vm $vm"
    fi
    end_journal
    rm -f "/run/vitrine/$vm.env"
}
