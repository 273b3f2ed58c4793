# shellcheck shell=bash disable=SC2034
# All that has to be adapted to a cluster; every job script reads it. jobs/README.md explains each line.

# ---- for sbatch, through jobs/submit; leave empty what the cluster has defaults for ----------------------------------
export SBATCH_ACCOUNT="${SBATCH_ACCOUNT:-}"
export SBATCH_PARTITION="${SBATCH_PARTITION:-}"
export SBATCH_QOS="${SBATCH_QOS:-}"

# ---- for the jobs ----------------------------------------------------------------------------------------------------
modules=()                               # those that .venv was made with, e.g. (gcc openmpi petsc slepc hdf5)
launcher=(srun --kill-on-bad-exit=1)     # or (mpiexec -n "$SLURM_NTASKS"), see jobs/README.md
repository="${KSWGD_REPOSITORY:-$SLURM_SUBMIT_DIR}" # where .venv is: submit from there, or name it
environment="$repository/.venv"          # what `make setup` made
longest_chain=100                        # jobs that chain.sbatch submits at most, one after the other

# A file of your own, for what should not be in the repository: it may change any of the above.
[ ! -e "${KSWGD_SETTINGS:-$HOME/.kswgd-hpc.sh}" ] || . "${KSWGD_SETTINGS:-$HOME/.kswgd-hpc.sh}"
