#!/bin/bash
# Independent jobs, no scheduler among them: each does its share of the blocks, then helps others.
#   sbatch cluster/slurm/array.sh recipe.yaml
# Jobs may start late, or die: those that are left do their blocks. What follows the recipe goes to
# `ndtomo-dask run`. Submitted again, with as many jobs, they go on where they were.

# ---- edit once; any #SBATCH option may also be given to sbatch ----------------------------------
# Each job starts one worker for each of its CPUs.
#SBATCH --job-name=ndtomo
#SBATCH --array=1-8
#SBATCH --nodes=1
#SBATCH --cpus-per-task=16
#SBATCH --mem-per-cpu=4G
#SBATCH --time=04:00:00
# Two minutes before its end each job is asked to stop; it then queues itself again.
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append

SCRATCH=${SCRATCH:-${TMPDIR:-/tmp}} # folder of each node to which workers may spill
# source "$HOME/ndtomo/bin/activate" # unless the jobs are submitted from the right environment
# -------------------------------------------------------------------------------------------------

set -eu
: "${1:?name a recipe: sbatch $0 recipe.yaml}"
# shellcheck disable=SC2317 # it is called by the traps
stop() {
  stopped=yes
  [ -z "$run" ] || kill -TERM "$run" 2>/dev/null || true
}
run='' stopped='' again=''
trap 'again=yes; stop' USR1 # the time is nearly over
trap stop TERM              # by scancel: stay away

share=$((SLURM_ARRAY_TASK_ID - SLURM_ARRAY_TASK_MIN + 1))/$SLURM_ARRAY_TASK_COUNT
workers=$(mktemp -d)
trap 'rm -r "$workers"' EXIT
# A tenth of the memory stays for the command itself.
cat >"$workers/local.yaml" <<YAML
kind: local
workers: ${SLURM_CPUS_PER_TASK:-1}
threads: 1
memory: $((${SLURM_MEM_PER_CPU:?give --mem-per-cpu, not --mem} * 9 / 10))MiB
scratch: $SCRATCH
YAML

code=75 # of a command that was stopped, and can be resumed
if [ -z "$stopped" ]; then
  ndtomo-dask run "$@" --share "$share" --cluster "$workers/local.yaml" &
  run=$!
  code=0
  wait "$run" || code=$?
  if [ "$stopped" ] && [ "$code" -gt 128 ]; then # a signal ended the wait, not the command
    code=0
    wait "$run" || code=$?
  fi
fi
# 143: it was stopped before it had begun.
if [ "$again" ] && { [ "$code" -eq 75 ] || [ "$code" -eq 143 ]; }; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
