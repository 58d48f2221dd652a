#!/bin/sh
# Trains a sweep as a job array of four tasks of Slurm, of which one is killed, and compares the results with those of one
# process. Slurm's two daemons run for this alone: one machine, on ports of their own, and nothing is left behind.
#
# Debian's packages slurmctld, slurmd and slurm-client have what it needs. Where they are missing, or this is not run by
# root, as slurmd wants it, this says that it was skipped, or fails where TNET_REQUIRE_SLURM is 1.
set -eu
cd "$(dirname "$0")/.."

skip() {
    echo "SKIPPED, NOTHING WAS RUN UNDER SLURM: $1"
    [ "${TNET_REQUIRE_SLURM:-}" != 1 ]
    exit
}
for program in slurmctld slurmd sbatch squeue scancel scontrol; do
    command -v "$program" >/dev/null || skip "$program is missing; apt install slurm-wlm"
done
[ "$(id -u)" = 0 ] || skip "slurmd must be run by root"

folder=$(mktemp -d)
pids=
end() {
    status=$?
    # shellcheck disable=SC2086 # a list of processes
    [ -z "$pids" ] || kill $pids 2>/dev/null || true
    wait 2>/dev/null || true
    [ "$status" = 0 ] || tail -n 20 "$folder"/*.log "$folder"/task-* 2>/dev/null || true
    rm -rf "$folder"
    exit "$status"
}
trap end EXIT
trap 'exit 1' INT TERM

# The executable itself: a job must not build.
${CARGO:-cargo} build -q --release --locked
tnet=${CARGO_TARGET_DIR:-target}/release/tnet-gpu
case $tnet in /*) ;; *) tnet=$PWD/$tnet ;; esac

node=$(hostname -s)
# No munge: nobody else reaches these daemons, and the credentials are checked by nobody.
cat >"$folder/slurm.conf" <<EOF
ClusterName=tnet
SlurmctldHost=$node(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
AuthType=auth/none
CredType=cred/none
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
NodeName=$node NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=main Nodes=$node Default=YES MaxTime=INFINITE State=UP
EOF
export SLURM_CONF="$folder/slurm.conf"
mkdir "$folder/state" "$folder/spool"
slurmctld -D -f "$SLURM_CONF" >"$folder/slurmctld.log" 2>&1 &
pids="$pids $!"
slurmd -D -N "$node" -f "$SLURM_CONF" >"$folder/slurmd.log" 2>&1 &
pids="$pids $!"

# Waits until a command succeeds; a busy machine may take long.
wait_for() {
    what=$1
    shift
    tries=0
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ "$tries" -lt 1200 ] || { echo "no $what in ten minutes" && exit 1; }
        sleep 0.5
    done
}
is_idle() { [ "$(sinfo -h -o %t)" = idle ]; }
wait_for "node of Slurm" is_idle

# Eight runs, two for each task.
options="--device cpu --model mps-all --hidden 64,64 --bond 1,2 --seeds 4 --epochs 20 --train-images 3000"
# The job array of docs/clusters.md: every task takes its part.
submit() {
    sbatch --parsable --array=1-4 --cpus-per-task=1 --output="$folder/task-%A-%a" \
        --wrap "RAYON_NUM_THREADS=1 '$tnet' sweep $options --out '$folder/array'"
}
is_over() { [ -z "$(squeue -h -j "$job")" ]; }

job=$(submit)
# Killed as soon as it has begun a run: the second part begins with the second.
wait_for "run" test -e "$folder/array/runs/mps-all-bond1-8x8-8x8-seed201/last.safetensors"
scancel --signal=KILL --full "${job}_2"
wait_for "end of the job" is_over
over() { find "$folder/array/runs" -name result.json | wc -l; }
lost=$((8 - $(over)))
[ "$lost" -gt 0 ] || { echo "nothing was left of the part that was killed" && exit 1; }

# Submitted again, it does what is left, and nothing twice.
job=$(submit)
wait_for "end of the job" is_over
"$tnet" sweep --collect --device cpu --out "$folder/array" >/dev/null
# shellcheck disable=SC2086 # a list of options
"$tnet" sweep $options --out "$folder/straight" >/dev/null 2>&1

# Columns 10 to 12 are times.
without_times() { cut -d, -f1-9,13- "$1/results.csv"; }
without_times "$folder/array" >"$folder/array.csv"
without_times "$folder/straight" >"$folder/straight.csv"
[ "$(wc -l <"$folder/straight.csv")" = 9 ]
diff "$folder/array.csv" "$folder/straight.csv"
echo "slurm: ok: four tasks, one killed with $lost of 8 runs to do, have the results of one process"
