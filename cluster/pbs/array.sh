#!/bin/bash
# Independent jobs, no scheduler among them: each does its share of the blocks, then helps others.
# For PBS, and for Grid Engine, which reads the lines that begin with #$:
#   qsub -v RECIPE=recipe.yaml cluster/pbs/array.sh
# Jobs may start late, or die: those that are left do their blocks. Submitted again, they go on
# where they were.

# ---- edit once ----------------------------------------------------------------------------------
# Jobs and JOBS are one number; each job starts one worker for each of its cores.
#PBS -N ndtomo
#PBS -J 1-8
#PBS -l select=1:ncpus=16:mem=64gb
#PBS -l walltime=04:00:00
#PBS -j oe
#$ -N ndtomo
#$ -t 1-8
#$ -pe smp 16
#$ -l h_rt=04:00:00
#$ -j y
#$ -cwd
#$ -S /bin/bash
JOBS=${JOBS:-8}
WORKERS=${WORKERS:-${NSLOTS:-${NCPUS:-1}}}
WORKER_MEMORY=${WORKER_MEMORY:-3600MB} # of one worker: mem / ncpus, less a tenth for the command
STOP_AFTER=${STOP_AFTER:-230m}         # a little less than the walltime: it stops in good order
# source "$HOME/ndtomo/bin/activate"   # where ndtomo-dask is
# -------------------------------------------------------------------------------------------------

set -eu
cd "${PBS_O_WORKDIR:-.}"
: "${RECIPE:?name a recipe: qsub -v RECIPE=recipe.yaml $0}"
read -ra options <<<"${OPTIONS:-}" # more for ndtomo-dask run: qsub -v RECIPE=...,OPTIONS="..."
index=${PBS_ARRAY_INDEX:-${PBS_ARRAYID:-${SGE_TASK_ID:?submit this as an array of jobs}}}
files=$(mktemp -d)
trap 'rm -r "$files"' EXIT
cat >"$files/local.yaml" <<YAML
kind: local
workers: $WORKERS
threads: 1
memory: $WORKER_MEMORY
scratch: ${TMPDIR:-/tmp}
YAML

# The run stops before its job is killed; it ends with 75, and can be resumed.
trap : TERM # which PBS sends to all processes of a job, so the command has got it, too
timeout --foreground --preserve-status "$STOP_AFTER" \
  ndtomo-dask run "$RECIPE" "${options[@]}" --share "$index/$JOBS" --cluster "$files/local.yaml"
