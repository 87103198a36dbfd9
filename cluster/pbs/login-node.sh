#!/bin/bash
# The command asks the batch system for jobs of workers, and drives them. It must live as long as
# the run: in tmux on the login node, or, where that is not allowed, as a small job of its own:
#   bash cluster/pbs/login-node.sh recipe.yaml
#   qsub -v RECIPE=recipe.yaml cluster/pbs/login-node.sh
# Started again, the run goes on where it was.

# ---- edit once, beside cluster/pbs.yaml, which says what a job of workers is --------------------
#PBS -N ndtomo-driver
#PBS -l select=1:ncpus=2:mem=8gb
#PBS -l walltime=24:00:00
#PBS -j oe
STOP_AFTER=${STOP_AFTER:-23h}      # a little less than the walltime: the run stops in good order
CLUSTER=${CLUSTER:-cluster/pbs.yaml} # for Grid Engine: cluster/sge.yaml
# source "$HOME/ndtomo/bin/activate" # where ndtomo-dask is
# -------------------------------------------------------------------------------------------------

set -eu
cd "${PBS_O_WORKDIR:-.}"
recipe=${1:-${RECIPE:?name a recipe: $0 recipe.yaml}}
exec timeout --foreground --preserve-status "$STOP_AFTER" \
  ndtomo-dask run "$recipe" "${@:2}" --resume --cluster "$CLUSTER"
