#!/bin/bash
# The command asks SLURM for jobs of workers, and drives them. It must live as long as the run: in
# tmux on the login node, or, where that is not allowed, as a small job of its own:
#   bash cluster/slurm/login-node.sh recipe.yaml
#   sbatch cluster/slurm/login-node.sh recipe.yaml
# What follows the recipe goes to `ndtomo-dask run`. Started again, the run goes on where it was.

# ---- edit once, beside cluster/slurm.yaml, which says what a job of workers is ------------------
#SBATCH --job-name=ndtomo-driver
#SBATCH --cpus-per-task=2
#SBATCH --mem=8G
#SBATCH --time=24:00:00
# Two minutes before the end of the small job the command is asked to stop.
#SBATCH --signal=B:TERM@120

CLUSTER=${CLUSTER:-cluster/slurm.yaml}
# source "$HOME/ndtomo/bin/activate" # unless it is started from the right environment
# -------------------------------------------------------------------------------------------------

set -eu
: "${1:?name a recipe: $0 recipe.yaml}"
exec ndtomo-dask run "$@" --resume --cluster "$CLUSTER"
