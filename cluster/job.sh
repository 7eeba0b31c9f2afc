#!/usr/bin/env bash
# sam-engine as a cluster job: error rows (status 1) are a finished job, and a store or cluster that fails for a while
# (2, 70, or a death by signal) is met with the same command again, which goes on where it stopped. A command that
# worked for a while before it failed begins the count of tries anew, as a long job meets many such failures; but not
# where a bug (70) ended it, which may take as long each time.
set -u
tries="${SAM_ENGINE_TRIES:-5}"
pause="${SAM_ENGINE_PAUSE:-30}"
worked="${SAM_ENGINE_WORKED:-600}"
for ((try = 1; ; try++)); do
    began=$SECONDS
    sam-engine "$@"
    status=$?
    if ((status <= 1)); then
        exit 0
    fi
    if ((status != 70 && SECONDS - began >= worked)); then
        try=1
    elif ((try >= tries)); then
        exit "$status"
    fi
    echo "job.sh: status $status; try $((try + 1)) of $tries in $pause s" >&2
    sleep "$pause"
done
