# shellcheck shell=bash
# What all job scripts do; read by them after their #SBATCH lines.
set -uo pipefail

jobs="${KSWGD_JOBS:-$SLURM_SUBMIT_DIR/jobs}"
. "$jobs/settings.sh"

again=75 # exit status of a run that has saved what it did and wants to go on

say() { echo "$(date +%T) kswgd-hpc job ${SLURM_JOB_ID}: $*"; }

# prepare: modules, the environment, one thread a rank
prepare() {
    cd "$SLURM_SUBMIT_DIR" || exit 2
    if [ "${#modules[@]}" -gt 0 ]; then
        module load "${modules[@]}"
    fi
    if [ ! -e "$environment/bin/activate" ]; then
        say "no environment in $environment; run 'make setup' on a login node first, or change jobs/settings.sh" >&2
        exit 2
    fi
    . "$environment/bin/activate"
    export PYTHONPATH="$repository${PYTHONPATH:+:$PYTHONPATH}"
    # The BLAS would otherwise start one thread a core in every rank.
    export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1
}

preempted() { scontrol --oneliner show job "$SLURM_JOB_ID" | grep -q 'PreemptTime=[0-9]'; }

# run CONFIG [OPTIONS]: until it is done, or until the job has to end; returns the exit status of the run.
# It goes on from a checkpoint where there is one. --signal=B:USR1@SECONDS, a preemption and scancel reach this shell,
# which hands them on to the ranks: they save, and end with status 75.
run() {
    local status asked=
    say "$1 on $SLURM_NTASKS ranks, ${SLURM_JOB_NUM_NODES} node(s): ${SLURM_JOB_NODELIST}"
    "${launcher[@]}" python -m kswgd_hpc.run "$@" --resume &
    running=$!
    trap 'asked=yes; say "asked to stop: the run saves what it has done"; kill -USR1 "$running" 2> /dev/null' USR1 TERM
    # a trapped signal ends `wait`, not the run
    while
        wait "$running"
        status=$?
        kill -0 "$running" 2> /dev/null
    do :; done
    trap - USR1 TERM
    # A signal while Python still starts ends the run before it can save; a preemption that SLURM announces to the
    # daemons of mpiexec, and not to this shell, ends it with a status of theirs. Both go on from the last checkpoint.
    if [ "$status" -gt 2 ] && { [ -n "$asked" ] || preempted; }; then
        status=$again
    fi
    say "ended with status $status"
    return "$status"
}

# requeue: the same job once more, which goes on from the checkpoint
requeue() {
    say "not done yet: back into the queue"
    scontrol requeue "$SLURM_JOB_ID"
    sleep 60 # SLURM ends this job
}
