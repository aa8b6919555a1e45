"""SLURM's commands on the PATH of a test: they take jobs, and never start one."""

from pathlib import Path

_SBATCH = """#!/bin/sh
number=$(ls {folder}/scripts | wc -l)
if [ "$number" -ge "$(cat {folder}/limit)" ]; then
  echo "sbatch: error: Batch job submission failed: $(cat {folder}/refusal)" >&2
  exit 1
fi
cp "$1" {folder}/scripts/$((number + 101)).sh
env > {folder}/environment
sed -n 's/^#SBATCH --job-name=//p' "$1" > {folder}/names/$((number + 101))
echo PENDING > {folder}/states/$((number + 101))
echo "Submitted batch job $((number + 101))"
"""
_SCANCEL = """#!/bin/sh
for last; do :; done
echo CANCELLED > {folder}/states/$last
"""
_SCONTROL = """#!/bin/sh
for last; do :; done
if [ ! -f {folder}/states/$last ]; then
  echo "slurm_load_jobs error: Invalid job id specified" >&2
  exit 1
fi
name=$(cat {folder}/names/$last 2>/dev/null)
echo "JobId=$last JobName=$name UserId=me(1) JobState=$(cat {folder}/states/$last) NumNodes=1"
"""
_NOTHING = """#!/bin/sh
"""
_COMMANDS = {
    "sbatch": _SBATCH,
    "scancel": _SCANCEL,
    "scontrol": _SCONTROL,
    "srun": _NOTHING,
    "sacct": _NOTHING,
}
FIRST_JOB = "101"


class FakeSlurm:
    """Jobs are numbered from 101 on."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self._folder = folder
        for name in ("bin", "scripts", "states", "names"):
            (folder / name).mkdir(parents=True)
        for name, text in _COMMANDS.items():
            program = self.bin / name
            program.write_text(text.replace("{folder}", str(folder)))
            program.chmod(0o755)
        self.refuse_after(1000)

    def refuse_after(self, count: int, refusal: str = "Invalid partition name specified") -> None:
        """From the job after ``count`` on none is taken."""
        (self._folder / "limit").write_text(str(count))
        (self._folder / "refusal").write_text(refusal)

    @property
    def scripts(self) -> list[str]:
        """Of all jobs that were taken, in their order."""
        return [path.read_text() for path in sorted((self._folder / "scripts").iterdir())]

    @property
    def environment(self) -> dict[str, str]:
        """Of the last sbatch."""
        lines = (self._folder / "environment").read_text().splitlines()
        return {name: value for name, _, value in (line.partition("=") for line in lines)}

    @property
    def states(self) -> dict[str, str]:
        """Of all jobs by number."""
        paths = sorted((self._folder / "states").iterdir())
        return {path.name: path.read_text().strip() for path in paths}

    def set_state(self, job_id: str, state: str, name: str | None = None) -> None:
        """What becomes of a job; or that there is one, of that name."""
        (self._folder / "states" / job_id).write_text(state)
        if name is not None:
            (self._folder / "names" / job_id).write_text(name)


def options(script: str) -> dict[str, str]:
    """What a script asks of sbatch."""
    lines = [line for line in script.splitlines() if line.startswith("#SBATCH --")]
    pairs = (line.removeprefix("#SBATCH --").partition("=") for line in lines)
    return {name: value for name, _, value in pairs}
