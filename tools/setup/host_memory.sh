# shellcheck shell=bash disable=SC2034,SC2154  # one program with setup.sh: variables are shared
# The kinds of steps on huge pages (see host_steps.sh). Their number is everybody's: it is only ever raised, and what is
# taken back is what was added, as far as nobody uses it by then.

# huge_pages NODE KIB
kind_place[huge_pages]=boot
kind_title[huge_pages]='huge pages of node %s'

huge_page_file() {
    REPLY=/sys/devices/system/node/node$1/hugepages/hugepages-${2}kB
    [[ -d $REPLY ]] || REPLY=/sys/kernel/mm/hugepages/hugepages-${2}kB
}

huge_pages_now() {
    huge_page_file "$1" "$2"
    value_now "$REPLY/nr_hugepages"
}

huge_pages_set() {
    local wanted=$1
    huge_page_file "$2" "$3"
    change_file "$wanted" "$REPLY/nr_hugepages" || return 1
    [[ -z $showing ]] || return 0
    huge_pages_now "$2" "$3"
    ((REPLY >= wanted)) || failure="only $REPLY of $wanted can be had: memory is in pieces; reserve them at boot (hugepages=$wanted)"
    ((REPLY >= wanted))
}

# The number alone does not tell whether ours are among them: others come and go. So it is noted that they were added,
# and undoing that note is what takes them back.
huge_pages_done() {
    local old=$1 wanted=$2
    record "$boot" added_pages "$old" "$wanted" "$3" "$4"
}

huge_pages_undo() {
    local note=${journal[journal_line + 1]:-}
    [[ $note != *"|added_pages|$1|$2|$3|$4|."  && $note != *"|remaining_pages|"*"|$3|$4|." ]] || return 0
    # Cut off before the note: ours are there if the number is what we wanted.
    huge_pages_now "$3" "$4"
    [[ $REPLY != absent ]] && ((REPLY >= $2)) || return 0
    added_pages_undo "$@"
}

kind_title[added_pages]='huge pages added on node %s'

added_pages_undo() {
    local old=$1 wanted=$2 node=$3 kib=$4 now free target
    huge_pages_now "$node" "$kib"
    now=$REPLY
    [[ $now != absent ]] || return 0
    huge_page_file "$node" "$kib"
    read_fact "$REPLY/free_hugepages" || return 1
    free=$REPLY
    target=$((now - (wanted - old < free ? wanted - old : free)))
    # If this run is cut off now, the next one must not take back twice.
    journal[journal_line]="$boot|remaining_pages|$target|$now|$node|$kib|."
    write_journal || return 1
    huge_pages_set "$target" "$node" "$kib"
}

kind_title[remaining_pages]='huge pages added on node %s'

remaining_pages_undo() {
    huge_pages_now "$3" "$4"
    [[ $REPLY != absent ]] && ((REPLY > $1)) || return 0
    huge_pages_set "$1" "$3" "$4"
}

# pages PATH KIB: a hugetlbfs for one user, as large as the share of huge pages that it is to have. WANTED: USER:MIB.
kind_place[pages]=boot
kind_title[pages]='huge pages at %s'

pages_now() {
    local source path type options rest size
    REPLY=absent
    while read -r source path type options rest; do
        [[ $path == "$1" && $type == hugetlbfs ]] || continue
        size=0
        [[ ! $options =~ ,size=([0-9]+) ]] || size=$((BASH_REMATCH[1] >> 20))
        REPLY=$(stat -c %U "$path"):$size
    done </proc/mounts
}

# A hugetlbfs takes numbers only, and the user may not be there when the plan is made: so the owner is set afterwards.
pages_set() {
    local wanted=$1 path=$2 kib=$3
    pages_now "$path"
    [[ $REPLY == absent ]] || change umount "$path" || return 1
    change mount -t hugetlbfs -o "pagesize=${kib}K,size=${wanted#*:}M,mode=0710" "vitrine-$vm" "$path" || return 1
    change chown "${wanted%:*}:" "$path"
}

pages_undo() {
    pages_now "$3"
    if [[ $REPLY != absent ]]; then
        change umount "$3" || return 1
    fi
    [[ $1 == absent ]] || pages_set "$1" "$3" "$4"
}
