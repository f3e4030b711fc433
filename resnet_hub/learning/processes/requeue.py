"""SLURM's batch jobs, queued once more before their time is over."""

import os
import subprocess

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

_PATIENCE = 30.0  # seconds that SLURM has to answer


def requeue() -> str | None:
    """Queue the SLURM batch job that this process runs in once more, under its number.

    Returns:
        How that went, in a line; ``None`` where this is no batch job.
    """
    job = os.environ.get("SLURM_JOB_ID", "")
    if not job.isdecimal() or SLURMEnvironment.job_name() in ("bash", "interactive"):
        return None
    try:
        done = subprocess.run(  # noqa: S603 - the number is SLURM's own
            ["scontrol", "requeue", job],  # noqa: S607 - wherever SLURM lies
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"job {job} is not requeued: {error}"
    if done.returncode:
        return f"job {job} is not requeued: scontrol says {done.stderr.strip() or done.returncode}"
    return f"job {job} is requeued"
