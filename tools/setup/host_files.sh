# shellcheck shell=bash disable=SC2034,SC2154  # one program with setup.sh: variables are shared
# The kinds of steps on users, folders and files (see host_steps.sh).

# account NAME: a user of its own for each VM, so that no other VM's process may open its VF.
kind_place[account]=disk
kind_title[account]='user %s'

account_now() {
    REPLY=absent
    ! getent passwd "$1" >/dev/null || REPLY=present
}

account_set() {
    change useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin \
        --comment "vitrine of ${2#vitrine-}" "$2"
}

account_undo() {
    account_now "$3"
    [[ $REPLY != absent ]] || return 0
    change userdel "$3" || return 1
    # It leaves a group that has members, as the VMM's user; the next useradd would not take the name then.
    ! getent group "$3" >/dev/null || change groupdel "$3"
}

# folder PATH MODE, and devfolder PATH MODE below /dev: one that has come to hold other things stays.
kind_place[folder]=disk kind_place[devfolder]=boot
kind_title[folder]='folder %s' kind_title[devfolder]='folder %s'

folder_now() {
    REPLY=absent
    [[ ! -d $1 ]] || REPLY=present
}

folder_set() {
    change mkdir -m "$3" "$2"
}

folder_undo() {
    local other
    [[ -d $3 ]] || return 0
    change rmdir "$3" && return 0
    ((${#stuck[@]} == 0)) || return 1  # what is in it may be ours
    other_vms
    other=${REPLY%% *}
    REPLY=$other
    [[ -n $other ]] && return "$still_needed"
    say "  $3 is not empty: it stays"
}

devfolder_now() { folder_now "$@"; }
devfolder_set() { folder_set "$@"; }
devfolder_undo() { folder_undo "$@"; }

# text PATH WHAT: a file whose words WHAT prints. WANTED is the file's checksum.
kind_place[text]=disk
kind_title[text]='%s'

text_now() {
    REPLY=absent
    [[ ! -f $1 ]] || checksum_of "$1"
}

checksum_of() {
    REPLY=$(sha256sum "$1")
    REPLY=${REPLY:0:16}
}

# The old file is kept; OLD in the journal is then its name and checksum.
text_keep() {
    local number=${#journal[@]}
    REPLY=$1
    [[ $1 != absent ]] || return 0
    # A reboot shortens the journal, so its length may have named a file before.
    while [[ -e $state_root/$vm/old.$number ]]; do number=$((number + 1)); done
    cp -p "$2" "$state_root/$vm/old.$number" && sync "$state_root/$vm/old.$number" || return 1
    REPLY="old.$number=$1"
}

text_set() {
    change_text "$2" "$("$3")" && reload_units "$2"
}

text_undo() {
    local old=$1 wanted=$2 path=$3
    text_now "$path"
    case $REPLY in
        "${old#*=}") return 0 ;;
        absent | "$wanted") ;;
        *)
            change mv --backup=numbered "$path" "$path.edited" || return 1
            say "  $path was edited since: it is now $path.edited" ;;
    esac
    if [[ $old == absent ]]; then
        change rm -f "$path"
    else
        change cp -p "$state_root/$vm/${old%=*}" "$path"
    fi && reload_units "$path"
}

reload_units() {
    [[ $1 != /etc/systemd/* || ! -d /run/systemd/system ]] || change systemctl daemon-reload
}
