#!/usr/bin/env bash
# The driver of a run as a job, to be adapted where `blockwise submit` does not fit a site:
#
#     sbatch deploy/slurm/launch.sh run.toml
#
# The driver needs little (it computes nothing) and lives as long as the run. Before the walltime of this job ends, the driver drains and
# the script submits itself again; a run that is done, failed or cancelled stays so.
#SBATCH --job-name=blockwise-driver
#SBATCH --output=blockwise-driver-%j.log
#SBATCH --time=1-00:00:00
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=2
#SBATCH --mem=8G
#SBATCH --no-requeue
#SBATCH --signal=B:USR1@180
set -u

# module load python/3.11
# source /path/of/your/venv/bin/activate

blockwise run "$@" & driver=$!
again=
trap 'again=1; kill -TERM $driver' USR1     # the walltime ends
trap : TERM                                 # scancel, which tells the driver too: wait for it
while kill -0 $driver 2>/dev/null; do wait $driver; code=$?; done

if [ "$again" ] && [ "$code" = 3 ]; then    # 3: stopped, resumable
    exec sbatch "$0" "$@"
fi
exit "$code"
