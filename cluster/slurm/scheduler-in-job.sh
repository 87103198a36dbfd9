#!/bin/bash
# One job holds everything: the Dask scheduler, the command, and one worker for each SLURM task.
#   sbatch cluster/slurm/scheduler-in-job.sh recipe.yaml
# What follows the recipe goes to `ndtomo-dask run`. Submitted again, the job goes on where it was.

# ---- edit once; any #SBATCH option may also be given to sbatch ----------------------------------
# A task is a worker process; its CPUs are the threads of its kernels.
#SBATCH --job-name=ndtomo
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=4
#SBATCH --mem-per-cpu=4G
#SBATCH --time=04:00:00
# Two minutes before its end the job is asked to stop; it then queues itself again.
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append

INTERFACE=${INTERFACE:-}            # network between the nodes, such as ib0; empty: the default
SCRATCH=${SCRATCH:-${TMPDIR:-/tmp}} # folder of each node to which workers may spill
# source "$HOME/ndtomo/bin/activate" # unless the job is submitted from the right environment
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

threads=${SLURM_CPUS_PER_TASK:-1}
# A tenth of the memory stays for the scheduler and the command.
memory=$((${SLURM_MEM_PER_CPU:?give --mem-per-cpu, not --mem} * threads * 9 / 10))MiB
meeting="$PWD/scheduler-$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0}.json"
log="$PWD/dask-$SLURM_JOB_ID.log" # of scheduler and workers; it tells the dashboard's address
network=(${INTERFACE:+--interface "$INTERFACE"})

# Threads and memory of the workers, and Dask's patience, are the package's own.
settings=$(ndtomo-dask settings --threads "$threads")
eval "$settings"

dask scheduler --scheduler-file "$meeting" --port 0 "${network[@]}" >>"$log" 2>&1 &
scheduler=$!
# A worker that dies takes no other with it: --wait=0, --kill-on-bad-exit=0.
srun --cpus-per-task="$threads" --wait=0 --kill-on-bad-exit=0 \
  dask worker --scheduler-file "$meeting" --nthreads 1 --memory-limit "$memory" \
  --local-directory "$SCRATCH" --no-dashboard --death-timeout 300 "${network[@]}" >>"$log" 2>&1 &
workers=$!
# shellcheck disable=SC2317 # it is called by the trap
finish() { # the workers end after the scheduler
  kill "$scheduler" 2>/dev/null || true
  rm -f "$meeting"
  for _ in {1..30}; do kill -0 "$workers" 2>/dev/null || break; sleep 1; done
}
trap finish EXIT
until [ -s "$meeting" ]; do
  kill -0 "$scheduler" 2>/dev/null || { tail "$log" && exit 1; }
  sleep 1
done

code=75 # of a command that was stopped, and can be resumed
if [ -z "$stopped" ]; then
  ndtomo-dask run "$@" --resume --cluster "$meeting" &
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
  finish # first: SLURM may kill what is left of a job that it queues again
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
