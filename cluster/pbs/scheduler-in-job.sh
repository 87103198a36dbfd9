#!/bin/bash
# One job holds everything: the Dask scheduler, the command, and a worker for each MPI process that
# PBS was asked for. PBS passes no arguments to a script, so the recipe is named by a variable:
#   qsub -v RECIPE=recipe.yaml cluster/pbs/scheduler-in-job.sh
# Submitted again, the job goes on where it was.

# ---- edit once ----------------------------------------------------------------------------------
# mpiprocs: workers on each node; ompthreads: threads of the kernels in each; mpiprocs x ompthreads
# is ncpus. On Torque instead: #PBS -l nodes=4:ppn=8, and THREADS below.
#PBS -N ndtomo
#PBS -l select=4:ncpus=32:mpiprocs=8:ompthreads=4:mem=128gb
#PBS -l walltime=04:00:00
#PBS -j oe
STOP_AFTER=${STOP_AFTER:-230m}       # a little less than the walltime: the run stops in good order
WORKER_MEMORY=${WORKER_MEMORY:-14GB} # of one worker: mem / mpiprocs, less a tenth
THREADS=${THREADS:-${OMP_NUM_THREADS:-1}}
INTERFACE=${INTERFACE:-}             # network between the nodes, such as ib0; empty: the default
START=${START:-pbsdsh}               # starts a program for each line of $PBS_NODEFILE; or: mpiexec
# source "$HOME/ndtomo/bin/activate" # where ndtomo-dask is
# -------------------------------------------------------------------------------------------------

set -eu
cd "$PBS_O_WORKDIR"
: "${RECIPE:?name a recipe: qsub -v RECIPE=recipe.yaml $0}"
read -ra options <<<"${OPTIONS:-}" # more for ndtomo-dask run: qsub -v RECIPE=...,OPTIONS="..."
network=(${INTERFACE:+--interface "$INTERFACE"})
meeting="$PWD/scheduler-$PBS_JOBID"
mkdir "$meeting"

# Threads and memory of the workers, and Dask's patience, are the package's own. A program that
# pbsdsh starts has a bare environment, so all a worker needs is written into one file.
settings=$(ndtomo-dask settings --threads "$THREADS")
cat >"$meeting/worker" <<SCRIPT
#!/bin/bash
$settings
exec "$(command -v dask)" worker --scheduler-file "$meeting/scheduler.json" ${network[*]} \\
  --nthreads 1 --memory-limit "$WORKER_MEMORY" --local-directory "\${TMPDIR:-/tmp}" \\
  --no-dashboard --death-timeout 300
SCRIPT
chmod +x "$meeting/worker"
eval "$settings"

dask scheduler --scheduler-file "$meeting/scheduler.json" --port 0 "${network[@]}" &
scheduler=$!
"$START" "$meeting/worker" &
workers=$!
trap 'kill "$scheduler" "$workers" || true; wait "$scheduler" || true; rm -rf "$meeting"' EXIT
until [ -s "$meeting/scheduler.json" ]; do sleep 1; done

# PBS kills a job ten seconds after SIGTERM, which all its processes get: too soon for most blocks.
# So the run stops before that; it ends with 75, and can be resumed.
trap : TERM # the command has got it, too: wait for it
timeout --foreground --preserve-status "$STOP_AFTER" \
  ndtomo-dask run "$RECIPE" "${options[@]}" --resume --cluster "$meeting/scheduler.json"
