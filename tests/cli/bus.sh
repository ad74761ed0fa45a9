# shellcheck shell=sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# A private system bus and what bootmgrd needs on it, for the tests of the daemon: sourced after lib.sh, with $BOOTMGR.
#
#   daemon_machine          make_machine, with its image where the daemon watches: in run/, its RUNTIME_DIRECTORY
#   bootmgr-image           made by it: the program that the daemon runs; what runs there is in the file `running`
#   start_bus XML           the bus of $DBUS_SYSTEM_BUS_ADDRESS, its process in $bus; XML goes into its configuration
#   ends_cleanly            ends the daemon $daemon, and looks at how it went
#   stop_all PIDS           ends the bus and these, and removes $W: for the trap

# Used by those who source this.
# shellcheck disable=SC2034
bootmgrd=$(dirname "$BOOTMGR")/bootmgrd
bus=

# A daemon looks when the last of boot_up lets go of the lock: it must find the new command line.
# shellcheck disable=SC2154
boots() { choose_next && echo "$running" >running && boot_up; }

daemon_machine() {
        mkdir run
        make_machine
        mv disk.img run/ # an image is its own lock: here the daemon sees it taken and left
        ln -s run/disk.img .
        cat >bootmgr-image <<END
#!/bin/sh
case "\$*" in *status) while [ -e "$W/blind" ]; do sleep 0.02; done ;; esac
cd "$W" && exec "$BOOTMGR" --disk disk.img --esp esp --data data --config conf --cmdline "\$(cat running)" "\$@"
END
        chmod +x bootmgr-image
}

ends_cleanly() {
        kill "$daemon"
        wait "$daemon"
        is "it ends cleanly" 0 $?
        daemon=
        has_not "nothing was wrong with its memory" 'Sanitizer|runtime error' "$(cat bootmgrd.err)"
}

start_bus() {
        DBUS_SYSTEM_BUS_ADDRESS=unix:abstract=bootmgr-test-$$
        export DBUS_SYSTEM_BUS_ADDRESS
        cat >bus.conf <<END
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>$DBUS_SYSTEM_BUS_ADDRESS</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_destination="*"/>
    <allow receive_sender="*"/>
  </policy>
  $1
</busconfig>
END
        dbus-daemon --config-file=bus.conf --nofork --nopidfile 2>bus.err &
        bus=$!
        until busctl list >/dev/null 2>&1; do
                kill -0 $bus || { cat bus.err; exit 2; }
                sleep 0.05
        done
}

stop_all() {
        # shellcheck disable=SC2068,SC2086
        kill $bus $@ 2>/dev/null
        wait
        if [ -n "${KEEP-}" ]; then echo "kept: $W"; else rm -rf "$W"; fi
}
