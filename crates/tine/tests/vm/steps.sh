# What is tried in the virtual machine. Each step is a function that fails when a command of it does; each of them must
# tell `STEP <part>/<function>: ok`.
part=$1
cgroups=/sys/fs/cgroup

step() {
    out=$(set -e; "$1" 2>&1)
    code=$?
    if [ $code = 0 ]; then verdict=ok; else verdict="FAILED with $code: $out"; fi
    echo "STEP $part/$1: $verdict [$(cut -d' ' -f1 /proc/uptime)]"
}

# is WANTED WORDS…: what the words print
is() {
    local wanted=$1 got
    shift
    got=$("$@")
    [ "$got" = "$wanted" ] || { echo "$*: '$got' instead of '$wanted'"; return 1; }
}

# exits CODE WORDS…
exits() {
    local wanted=$1 code=0
    shift
    "$@" || code=$?
    [ "$code" = "$wanted" ] || { echo "$*: exit $code instead of $wanted"; return 1; }
}

# fails WORDS…: `!` alone does not end a function
fails() { if "$@"; then echo "this should have failed: $*"; return 1; fi; }

eventually() {
    for _ in $(seq 50); do
        if "$@"; then return 0; fi
        sleep 0.1
    done
    echo "not within five seconds: $*"
    return 1
}

# Only ever one box runs.
box_group() { ls -d $cgroups/tine/????????????????????????????????; }
limit() { cat "$(box_group)/$1"; }
monitor() { cat $cgroups/tine/monitors/cgroup.procs; }
no_group_is_left() { [ ! -e $cgroups/tine ]; }
no_box_group_is_left() { ! box_group 2>/dev/null; }
no_monitor_is_left() { ! grep -lx tine-monitor /proc/[0-9]*/comm 2>/dev/null; }
no_bridge_is_left() { ! ls -d /sys/class/net/tine-* 2>/dev/null; }
counted() { limit "$1" | grep -q "^$2 [1-9]"; }
runs() { tine ps "$1" | grep -q "$2"; }

pool_and_base() {
    tine init --size 400MiB
    tine base import box-base --file /tiny.tar
    tine doctor | grep -q 'cgroups .*version 2'
}

create_and_exec() {
    cat /proc/self/mountinfo >/run/mounts.before
    tine create a --net none
    is hello tine exec a -- printf hello
    exits 7 tine exec a -- sh -c 'exit 7'
}

monitor_is_in_a_group_of_its_own() {
    is 1 sh -c "wc -l <$cgroups/tine/monitors/cgroup.procs"
    is 0::/tine/monitors cat "/proc/$(monitor)/cgroup"
    [ "$(cat "/proc/$(monitor)/comm")" = tine-monitor ]
    fails grep -qx "$(monitor)" "$(box_group)/cgroup.procs"
}

box_sees_its_own_group_only() {
    is 0::/ tine exec a -- cat /proc/self/cgroup
    is 4096 tine exec a -- cat /sys/fs/cgroup/pids.max
    exits 1 tine exec a -- mkdir /sys/fs/cgroup/inner
    exits 2 tine exec a -- sh -c 'echo 9 >/sys/fs/cgroup/pids.max'
    fails tine exec a -- sh -c 'mount -o remount,rw /sys/fs/cgroup'
}

host_mounts_are_as_before() {
    grep ' /sys/fs/cgroup ' /run/mounts.before >/run/cgroup.before
    grep ' /sys/fs/cgroup ' /proc/self/mountinfo | diff /run/cgroup.before -
}

processes_are_listed() {
    tine exec a --bg -- sleep 1000
    eventually runs a 'sleep 1000'
    is 3 sh -c 'tine ps a | wc -l'
}

pause_and_resume() {
    tine pause a
    grep -qx 'frozen 1' "$(box_group)/cgroup.events"
    runs a 'sleep 1000'
    exits 125 tine exec a -- true
    tine resume a
    grep -qx 'frozen 0' "$(box_group)/cgroup.events"
    tine exec a -- true
}

limits_change_at_once() {
    is max limit memory.max
    is 'max 100000' limit cpu.max
    tine update a --memory 64MiB --pids 30 --cpu 0.5
    is 67108864 limit memory.max
    is 30 limit pids.max
    is '50000 100000' limit cpu.max
    tine update a --memory none --pids none --cpu none
    is max limit memory.max
    is 4096 limit pids.max
    is 'max 100000' limit cpu.max
}

less_memory_than_is_in_use_is_refused() {
    tine exec a --bg -- sh -c 'dd if=/dev/zero of=/dev/shm/held bs=1M count=40; exec sleep 2000'
    eventually runs a 'sleep 2000'
    exits 1 tine update a --memory 16MiB
    runs a 'sleep 2000'
    is max limit memory.max
    is oom_kill\ 0 sh -c "grep '^oom_kill ' $(box_group)/memory.events"
    tine update a --memory 100MiB
    is 104857600 limit memory.max
    tine exec a -- rm /dev/shm/held
    tine update a --memory 32MiB
    is 33554432 limit memory.max
}

stop_leaves_no_group() {
    tine stop a --grace 0
    no_box_group_is_left
    eventually no_group_is_left
}

memory_limit_kills_the_program_only() {
    tine create mem --net none --memory 48MiB
    exits 137 tine exec mem -- tail /dev/zero
    counted memory.events oom_kill
    is alive tine exec mem -- printf alive
    tine delete mem --yes
}

pids_limit_holds() {
    tine create few --net none --pids 12
    fails tine exec few -- sh -c 'for i in $(seq 30); do sleep 9 & done; wait'
    counted pids.events max
    is alive tine exec few -- printf alive
    tine delete few --yes
}

killed_monitor_takes_the_box_along() {
    tine exec a --bg -- sh -c 'trap "" TERM HUP; while :; do sleep 1; done'
    kill -9 "$(monitor)"
    eventually sh -c 'tine list -a | grep -q stopped'
    is again tine exec a -- printf again
    is 2 sh -c 'tine ps a | wc -l'
    kill -9 "$(monitor)"
    tine gc
    eventually no_group_is_left
}

killed_monitor_of_a_paused_box() {
    tine start a
    tine exec a --bg -- sleep 1000
    tine pause a
    kill -9 "$(monitor)"
    eventually sh -c 'tine list -a | grep -q stopped'
    tine start a
    fails runs a 'sleep 1000'
    tine stop a --grace 0
}

nat_works() {
    tine create net
    tine exec net -- grep -q eth0: /proc/net/dev
    nft list table inet tine | grep -q masquerade
    tine delete net --yes
    eventually no_bridge_is_left
}

boxes_come_and_go_at_once() {
    for n in 1 2 3; do
        { tine create "b$n" --net none && tine exec "b$n" -- true && tine delete "b$n" --yes; } &
        running="${running-} $!"
    done
    for job in $running; do wait "$job"; done
}

nothing_is_left() {
    tine delete a --yes
    eventually no_group_is_left
    tine gc
    tine check
    eventually no_monitor_is_left
}

box_outlives_the_session_begins() {
    tine create stays --net none
    tine exec stays --bg -- sleep 3000
    eventually runs stays 'sleep 3000'
    grep -q "session-1.scope" /proc/self/cgroup
}

box_outlived_the_session() {
    runs stays 'sleep 3000'
    is alive tine exec stays -- printf alive
    tine delete stays --yes
    eventually no_group_is_left
}

case $part in
session)
    step pool_and_base
    step create_and_exec
    step monitor_is_in_a_group_of_its_own
    step box_sees_its_own_group_only
    step host_mounts_are_as_before
    step processes_are_listed
    step pause_and_resume
    step limits_change_at_once
    step less_memory_than_is_in_use_is_refused
    step killed_monitor_takes_the_box_along
    step killed_monitor_of_a_paused_box
    step stop_leaves_no_group
    step memory_limit_kills_the_program_only
    step pids_limit_holds
    step nat_works
    step boxes_come_and_go_at_once
    step nothing_is_left
    step box_outlives_the_session_begins
    ;;
after_logout)
    step box_outlived_the_session
    ;;
root)
    step create_and_exec
    step monitor_is_in_a_group_of_its_own
    step stop_leaves_no_group
    step memory_limit_kills_the_program_only
    step nothing_is_left
    ;;
esac
echo "PART $part is over"
