"""A real SLURM for the tests: munged, slurmctld and two slurmd nodes, all in a temporary folder, also for a plain user.

A process of its own (`python -m tests.slurm.server FOLDER`) keeps the daemons; it ends them, and every job, when its standard input
closes: they do not outlive the tests, however these end. Nothing outside the folder is touched; `SLURM_CONF` is all that clients,
jobs and Dask need. Without SLURM the tests skip and say why; with BLOCKWISE_REQUIRE_SERVICES=1 they fail instead.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from tests.services.mongodb import unavailable

ROOT = Path(__file__).resolve().parents[2]
NODES = ("n0", "n1")
CPUS, MEMORY_MB, GPUS = 4, 20_000, 2
"""Of each node, as SLURM counts them."""
PARTITION, SHORT = "main", "short"
"""The default partition, and one whose jobs may last ten minutes."""
START_S, STOP_S = 30.0, 20.0
PROGRAMS = ("munged", "slurmctld", "slurmd", "sinfo", "sbatch")

CONF = """\
ClusterName=bw
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
PlugStackConfig={folder}/plugstack.conf
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1,sched_min_interval=0
SlurmdParameters=config_overrides
EnforcePartLimits=ALL
ReturnToService=2
MessageTimeout=5
KillWait=5
MinJobAge=30
JobRequeue=0
{nodes}
PartitionName={partition} Nodes=ALL Default=YES MaxTime=1-00:00:00 DefaultTime=60 State=UP
PartitionName={short} Nodes=ALL MaxTime=10 State=UP
"""


class Daemons:
    """The daemons as children of this process."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.environment = folder, environment(folder)
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Write the configuration and start everything; raises RuntimeError with the end of the logs where it does not come up."""
        self._configure()
        munge = {n: self.folder / f"munge.{n}" for n in ("key", "socket", "pid", "seed")}
        munge["key"].write_bytes(os.urandom(128))
        munge["key"].chmod(0o400)
        files = ["--key-file", munge["key"], "--socket", munge["socket"], "--pid-file", munge["pid"], "--seed-file", munge["seed"]]
        self._spawn("munged", "-F", "-f", "--num-threads=2", *files, "--log-file", self.folder / "munge.log")
        self._until(munge["socket"].exists)
        self._spawn("slurmctld", "-D", "-i", "-c")
        for node in NODES:
            self._spawn("slurmd", "-D", "-N", node)
        self._until(lambda: self._ask("sinfo", "-h", "-N", "-o", "%t", "-p", PARTITION).split() == ["idle"] * len(NODES))

    def _configure(self) -> None:
        ports = free_ports(1 + len(NODES))
        host = socket.gethostname().split(".")[0]
        node = "NodeName={} NodeHostname={} NodeAddr=127.0.0.1 Port={} CPUs={} RealMemory={} Gres=gpu:{}"
        nodes = "\n".join(node.format(n, host, p, CPUS, MEMORY_MB, GPUS) for n, p in zip(NODES, ports[1:], strict=True))
        user = pwd.getpwuid(os.getuid()).pw_name
        places = {"folder": self.folder, "partition": PARTITION, "short": SHORT}
        (self.folder / "slurm.conf").write_text(CONF.format(host=host, port=ports[0], user=user, nodes=nodes, **places))
        devices = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random")
        lines = [f"NodeName={n} Name=gpu File={d}" for i, n in enumerate(NODES) for d in devices[i * GPUS : (i + 1) * GPUS]]
        (self.folder / "gres.conf").write_text("\n".join(lines) + "\n")
        (self.folder / "plugstack.conf").touch()
        for name in ("state", *(f"spool.{n}" for n in NODES)):
            (self.folder / name).mkdir()

    def _spawn(self, program: str, *arguments: str | Path) -> None:
        with (self.folder / "out.log").open("ab") as log:
            command = [path_of(program) or program, *arguments]
            self.processes.append(subprocess.Popen(command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log))

    def _ask(self, *command: str) -> str:
        with suppress(subprocess.TimeoutExpired):
            return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=5).stdout
        return ""

    def _until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_S
        while not condition():
            dead = [p.args for p in self.processes if p.poll() is not None]
            if dead or time.monotonic() > deadline:
                logs = "\n".join(f"{f.name}: {f.read_text()[-1500:]}" for f in sorted(self.folder.glob("*.log")))
                raise RuntimeError(f"SLURM did not start within {START_S:.0f} s, ended: {dead}\n{logs}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Cancel every job, end the daemons, and last what a job may have left running."""
        for process in self.processes:
            process.send_signal(signal.SIGCONT)  # a test may have stopped it
        self._ask("scancel", "--me", "--full", "--signal=KILL")
        self._ask("scancel", "--me")
        deadline = time.monotonic() + STOP_S
        while self._ask("squeue", "-h", "--me").strip() and time.monotonic() < deadline:
            time.sleep(0.05)
        self._ask("scontrol", "shutdown")
        for process in reversed(self.processes):
            with suppress(subprocess.TimeoutExpired):
                if process is self.processes[0]:
                    process.terminate()
                process.wait(5)
            process.kill()
            process.wait()


def path_of(program: str) -> str | None:
    """A program on PATH or where the system keeps its daemons."""
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def environment(folder: Path) -> dict[str, str]:
    """This process's environment with our cluster in it; jobs find the modules of the tests."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SBATCH_", "SQUEUE_", "DASK_"))}
    return {**kept, "SLURM_CONF": str(folder / "slurm.conf"), "PYTHONPATH": str(ROOT)}


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody has."""
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [int(s.getsockname()[1]) for s in sockets]
    for s in sockets:
        s.close()
    return ports


class Site:
    """A running SLURM as a test sees it: commands, the queue, and what may be done to it."""

    def __init__(self) -> None:
        missing = [p for p in PROGRAMS if path_of(p) is None]
        if missing:
            unavailable(f"no SLURM here: {', '.join(missing)} not found (packages slurm-wlm and munge)")
        try:
            pwd.getpwuid(os.getuid())
        except KeyError:
            unavailable(f"SLURM needs a user with a name, and user {os.getuid()} has none")
        self.folder = Path(tempfile.mkdtemp(prefix="bw-slurm-"))
        self.environment = environment(self.folder)
        command = [sys.executable, "-m", "tests.slurm.server", str(self.folder)]
        self.keeper = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.keeper.stdout is not None
        if (said := self.keeper.stdout.read(6)) != "ready\n":
            said += self.keeper.stdout.read()
            self.close()
            unavailable(said)

    def close(self) -> None:
        """End SLURM and all its jobs."""
        self.keeper.communicate()
        shutil.rmtree(self.folder, ignore_errors=True)

    def command(self, *words: str, environment: Mapping[str, str] | None = None) -> str:
        """What a client command says; raises CalledProcessError where it fails."""
        done = subprocess.run(
            words, env={**self.environment, **(environment or {})}, capture_output=True, text=True, timeout=20, check=True
        )
        return done.stdout

    def jobs(self, name: str = "", states: str = "PENDING,RUNNING,COMPLETING,CONFIGURING") -> dict[int, str]:
        """Job id -> state; of one name where given."""
        lines = self.command("squeue", "-h", "--me", "-t", states, "-o", "%i %T", *(["--name", name] if name else [])).splitlines()
        return {int(line.split()[0]): line.split()[1] for line in lines}

    def cancel_all(self) -> None:
        """Cancel all jobs, and wait until none is left."""
        self.command("scancel", "--me")
        wait_for(lambda: not self.jobs(), STOP_S)

    def drain(self) -> None:
        """Let the nodes take no new job."""
        self.command("scontrol", "update", f"nodename={','.join(NODES)}", "state=drain", "reason=test")

    def resume(self) -> None:
        """Undo `drain`; back when the nodes have answered."""
        for node, state in self.nodes().items():
            if state.startswith("dr"):
                self.command("scontrol", "update", f"nodename={node}", "state=resume")
        assert wait_for(lambda: not any(s.startswith("dr") or s.endswith("*") for s in self.nodes().values()), 20), self.nodes()

    def nodes(self) -> dict[str, str]:
        """Node -> its state in short; with a * while the controller waits for its answer."""
        lines = self.command("sinfo", "-h", "-N", "-o", "%N %t", "-p", PARTITION).splitlines()
        return dict((line.split()[0], line.split()[1]) for line in lines)

    def stop_controller(self) -> None:
        """The controller answers nobody until `continue_controller`."""
        os.kill(int((self.folder / "slurmctld.pid").read_text()), signal.SIGSTOP)

    def continue_controller(self) -> None:
        os.kill(int((self.folder / "slurmctld.pid").read_text()), signal.SIGCONT)


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> bool:
    """Whether the condition came true within so many seconds."""
    deadline = time.monotonic() + seconds
    while not (true := bool(condition())) and time.monotonic() < deadline:
        time.sleep(0.05)
    return true


def main(folder: Path) -> None:
    """Keep the daemons until standard input closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests, which then close our standard input
    daemons = Daemons(folder)
    try:
        daemons.start()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.read()
    except RuntimeError as error:
        sys.stdout.write(str(error))
    finally:
        daemons.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
