"""How many compute threads a process may have: oversubscription costs 3 to 25 times the CPU."""

from blockwise.config import ClusterConfig


def thread_environment(threads: int) -> dict[str, str]:
    """Environment that holds a process to so many compute threads, waiting without spinning."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
    return {**dict.fromkeys(names, str(threads)), "OMP_WAIT_POLICY": "passive"}


def threads_per_worker(config: ClusterConfig, workers: int) -> int:
    """Compute threads of one worker: cores // workers, of this machine or of a job."""
    from dask.system import CPU_COUNT

    if config.kind == "slurm":
        return config.threads or max(1, config.cores // workers_per_job(config))
    return config.threads or max(1, CPU_COUNT // workers)


def workers_per_job(config: ClusterConfig) -> int:
    """Workers of one SLURM job: one per GPU, one per `threads` cores of a whole node without GPUs, else one."""
    if config.gpus:
        return config.gpus
    return max(1, config.cores // (config.threads or 1)) if config.whole_node else 1
