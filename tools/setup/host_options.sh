# shellcheck shell=bash disable=SC2034,SC2154  # one program with setup.sh: variables are shared
# The options of the verbs for a real network card, and how these verbs end.
#
# Functions of the host_*.sh files answer in REPLY instead of by their output, and all paths are absolute.

readonly exit_failed=1 exit_usage=2 exit_missing=3 exit_refused=4

# Options by their names, empty when not given.
declare -gA option=()
vm=   # the name of the VM

# Output that nobody can read any more (a lost ssh session) must not stop a roll back.
say() {
    printf '%s\n' "$*" || true
}

warn() {
    printf 'setup.sh: %s\n' "$*" >&2 || true
}

# quit STATUS MESSAGE: one line that names the cause and, if there is one, the command that fixes it.
quit() {
    warn "$2"
    exit "$1"
}

usage_error() {
    warn "$1 (setup.sh help)"
    exit "$exit_usage"
}

need_root() {
    ((EUID == 0)) || quit "$exit_missing" "$1 needs root: sudo $0 $1 ..."
}

need_programs() {
    local program
    for program in "$@"; do
        command -v "$program" >/dev/null || quit "$exit_missing" "$program is not installed: apt install $(package_of "$program")"
    done
}

package_of() {
    case $1 in
        ip) echo iproute2 ;;
        useradd | userdel) echo passwd ;;
        flock | mount | umount) echo util-linux ;;
        *) echo "$1" ;;
    esac
}

# A user vitrine-NAME must fit into 32 characters, and NAME into a path, a unit and a line of the journal.
check_vm_name() {
    [[ $1 =~ ^[a-z0-9][a-z0-9_-]{0,22}$ ]] ||
        usage_error "the name of a VM is 1 to 23 lower case letters, digits, '-' or '_', not '$1'"
}

check_number() {
    [[ $2 =~ ^(0|[1-9][0-9]{0,14})$ && $2 -ge $3 && $2 -le $4 ]] || usage_error "$1 is a number from $3 to $4, not '$2'"
}

check_option() {
    local name=$1 value=$2
    case $name in
        --pf) [[ $value =~ ^[A-Za-z0-9_.:-]{1,40}$ ]] || usage_error "--pf is a network interface or a PCI address, not '$value'" ;;
        --vf) [[ $value =~ ^(0|[1-9][0-9]{0,2})$ || $value =~ ^[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$ ]] ||
            usage_error "--vf is a number (with --pf) or a full PCI address (0000:03:10.1), not '$value'" ;;
        --vm) check_vm_name "$value" ;;
        --mac) [[ ${value,,} =~ ^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$ && $value != 00:00:00:00:00:00 ]] ||
            usage_error "--mac is the address of one station, e.g. 52:54:00:12:34:56, not '$value'" ;;
        --vlan) check_number "$name" "$value" 0 4094 ;;
        --vfs) check_number "$name" "$value" 1 63 ;;
        --mtu) check_number "$name" "$value" 68 9000 ;;
        --queues) [[ $value =~ ^[124]$ ]] || usage_error "--queues is 1, 2 or 4, not '$value'" ;;
        --guest-memory) check_number "$name" "$value" 0 16777216 ;;
        --spoofchk | --trust | --guest-dma) [[ $value == on || $value == off ]] || usage_error "$name is on or off, not '$value'" ;;
    esac
}

# parse_options VERB "KNOWN NAMES" ARGUMENT...: names with a "!" are flags.
parse_options() {
    local verb=$1 known=" $2 " name value
    shift 2
    while (($# > 0)); do
        name=${1%%=*}
        if [[ $known == *" $name! "* && $1 == "$name" ]]; then
            option[$name]=yes
            shift
        elif [[ $known == *" $name "* ]]; then
            if [[ $1 == *=* ]]; then
                value=${1#*=}
                shift
            else
                (($# >= 2)) || usage_error "$name needs a value"
                value=$2
                shift 2
            fi
            check_option "$name" "$value"
            option[$name]=$value
        else
            usage_error "$verb does not know $1"
        fi
    done
    vm=${option[--vm]:-}
    if [[ ${option[--vf]:-} =~ ^[0-9]+$ ]]; then
        [[ -n ${option[--pf]:-} ]] || usage_error "--vf ${option[--vf]} is a number: of which --pf?"
    elif [[ -n ${option[--pf]:-} && -n ${option[--vf]:-} ]]; then
        usage_error "--vf ${option[--vf]} is an address: it says which PF by itself"
    fi
}

# json_text WORD: quoted for JSON.
json_text() {
    local text=$1
    text=${text//\\/\\\\}
    text=${text//\"/\\\"}
    text=${text//$'\n'/\\n}
    text=${text//$'\t'/\\t}
    REPLY="\"$text\""
}
