#!/usr/bin/env bash
# Runs a Ray worker node on a spot machine: spot-worker.sh HEAD:PORT
#
# Two minutes before such a machine is taken away its metadata say so. Ray is then told to stop (SIGTERM): it drains the
# node, so that shards which end in time are committed and no new ones come, and after 90 s ends the workers, which give
# what is under way back as if it had never been begun.
set -u
METADATA="${METADATA:-http://169.254.169.254/latest}"
INTERVAL="${INTERVAL:-5}"
export RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S="${RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S:-90}"

fetch() {
    wget --quiet --timeout=2 --tries=1 --output-document=- "$@"
}

ray start --address="$1" --object-store-memory=1000000000 --block &
node=$!
trap 'kill -TERM "$node"' TERM INT
while kill -0 "$node" 2>/dev/null; do
    token=$(fetch --method=PUT --header "X-aws-ec2-metadata-token-ttl-seconds: 60" "$METADATA/api/token")
    if fetch --header "X-aws-ec2-metadata-token: $token" "$METADATA/meta-data/spot/instance-action"; then
        echo ": this machine will be taken away; Ray drains it"
        kill -TERM "$node"
        break
    fi
    sleep "$INTERVAL"
done
wait "$node"
