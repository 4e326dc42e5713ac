# shellcheck shell=bash disable=SC2034,SC2154  # one program with setup.sh: variables are shared
# setup.sh doctor: reads only. All checks on the machine, on every VM that is set up, and on the VF of the options, or
# else on the first VF of each card that vitrine knows.

findings=()
worst=OK

verb_doctor() {
    parse_options doctor "--pf --vf --vm --mtu --queues --guest-dma --guest-memory --test-any-vf! --json!" "$@"
    need_programs ip
    report() {
        findings+=("$1" "$2" "$3" "${4:-}")
        case $worst$1 in
            *FAIL) worst=FAIL ;;
            OKWARN) worst=WARN ;;
        esac
    }
    ((EUID == 0)) || report WARN doctor "is not root: it sees neither the VMs that are set up nor who uses a VF" "sudo $0 doctor"
    check_kernel
    check_iommu
    diagnose_cut_off
    if [[ -n ${option[--vf]:-} ]]; then
        diagnose_vf
    elif [[ -n $vm ]]; then
        diagnose_vm
    else
        diagnose_all
    fi
    check_processors
    if [[ -n ${option[--json]:-} ]]; then
        print_findings_as_json
    else
        print_findings
    fi
    [[ $worst != FAIL ]] || exit "$exit_missing"
}

# can_locate NAME COMMAND...: what ends other verbs is a finding here. In a process of its own, because it ends.
can_locate() {
    local message
    message=$( ("${@:2}") 2>&1 >/dev/null) && return 0
    message=${message##*$'\n'}
    message=${message#setup.sh: }
    report FAIL "$1" "${message%%: *}" "$([[ $message != *': '* ]] || echo "${message#*: }")"
    return 1
}

diagnose_cut_off() {
    local path
    for path in "$state_root"/*/running; do
        [[ -e $path ]] || continue
        path=${path%/running}
        report FAIL "${path##*/}" "setup.sh was cut off while it changed something" "setup.sh rollback --vm ${path##*/}"
    done
}

default_settings() {
    setting=()
    chosen mtu --mtu 1500
    chosen queues --queues 1
    chosen guest_dma --guest-dma off
    chosen guest_memory_mib --guest-memory 0
}

diagnose_vf() {
    default_settings
    can_locate "VF ${option[--vf]}" locate_vf "${option[--pf]:-}" "${option[--vf]}" || return 0
    locate_vf "${option[--pf]:-}" "${option[--vf]}"
    setting[vf]=$vf_address
    count_needs
    count_huge_pages_wanted
    run_vf_checks
}

diagnose_vm() {
    if ! read_settings; then
        report FAIL "$vm" "is not set up" "setup.sh apply --pf PF --vf NUMBER --vm $vm"
        return 0
    fi
    needs_source="as set up"
    can_locate "$vm" adopt_settings || return 0
    adopt_settings
    find_pending each_step
    ((${#pending[@]} == 0)) ||
        report WARN "$vm" "not as apply left it: ${!pending_kind[*]}" "setup.sh bind $vm; or apply ... again; status --vm $vm says more"
    run_vf_checks
}

run_vf_checks() {
    if [[ -n $pf ]]; then
        check_pf
    fi
    check_vf_identity
    check_group
    check_vf_driver
    check_policy
    check_huge_pages
    check_memlock
    check_vfio_nodes
}

diagnose_all() {
    local name path found=
    other_vms
    for name in $REPLY; do
        vm=$name
        diagnose_vm
        vm=
        found=yes
    done
    [[ -z $found ]] || return 0
    for path in /sys/class/net/*; do
        name=${path##*/}
        [[ -e $path/device/sriov_totalvfs ]] || continue
        read_fact "$path/device/sriov_vf_device" || true
        part_of "8086:$REPLY" || [[ -n ${option[--test-any-vf]:-} ]] || continue
        option[--pf]=$name option[--vf]=0
        diagnose_vf
        found=yes
    done
    [[ -n $found ]] || report FAIL card "no network interface of an 82599, X540 or X550 with virtual functions" \
        "modprobe ixgbe; SR-IOV in the firmware set-up; for a VF without its PF: doctor --vf ADDRESS"
}

print_findings() {
    local number
    printf ' %-22s %-5s  %-72s  %s\n' check state detail fix
    for ((number = 0; number < ${#findings[@]}; number += 4)); do
        printf ' %-22s %-5s  %-72s  %s\n' "${findings[number + 1]}" "${findings[number]}" "${findings[number + 2]}" "${findings[number + 3]}"
    done | sed 's/ *$//'
}

print_findings_as_json() {
    local number part separator=
    printf '{"verdict": "%s", "checks": [' "$worst"
    for ((number = 0; number < ${#findings[@]}; number += 4)); do
        printf '%s\n  {' "$separator"
        separator=
        for part in state:0 check:1 detail:2 fix:3; do
            json_text "${findings[number + ${part#*:}]}"
            printf '%s"%s": %s' "$separator" "${part%:*}" "$REPLY"
            separator=', '
        done
        printf '}'
        separator=,
    done
    printf '\n]}\n'
}
