# shellcheck shell=bash
# Source this in bash to run on the machine at hand: `. scripts/environment.sh; mpiexec -n 2 python ...`.
# Batch jobs have a scheduler that places the ranks; they use jobs/ instead.
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
case "$PATH:" in
    "$root/.venv/bin:"*) ;;
    *) export PATH="$root/.venv/bin:$PATH" ;;
esac
unset root

# Parallelism is one rank a core; a BLAS that starts its own threads on top only slows the ranks down.
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1

# More ranks than cores are allowed, and no rank is pinned: two runs at once would be pinned to the
# same cores.  First for Open MPI 4, then for Open MPI 5, which ignores the other's names.
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none
export PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe PRTE_MCA_hwloc_default_binding_policy=none

# Containers forbid reading another process's memory; shared memory segments do instead.
export OMPI_MCA_btl_vader_single_copy_mechanism=none OMPI_MCA_smsc=^cma
# A laptop or a container without a fast network is no reason for a warning.
export OMPI_MCA_btl_base_warn_component_unused=0 OMPI_MCA_btl_openib_warn_no_device_params_found=0

if [ "$(id -u)" = 0 ]; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi
