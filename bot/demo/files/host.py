"""The demo's own little server: brings built services to run on this machine and tells what really runs.

    host.py deploy SERVICE ENVIRONMENT --version V --digest D --artifact PATH --revision R
    host.py running SERVICE ENVIRONMENT
    host.py stop SERVICE ENVIRONMENT
    host.py start-all
    host.py stop-all

It stands in `tools/` of the demo's directory and keeps its own files in `state/host/<environment>/<service>/`:

    current.json   what was deployed last and the process that runs it; replaced as a whole
    port           the port of this service in this environment, kept from the first deployment on
    releases/      the deployed artifacts, by digest
    service.log    what the service wrote, newest part; service.log.1 the part before, previous.log the run before
    lock           held while something changes here

What Git says is the truth: a deployment of a version that is not written in the configuration repository is refused.
Every command may be killed at any moment and given again. Needs nothing but Python's standard library and git.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STATE = ROOT / "state" / "host"
CONFIG_REPOSITORY = ROOT / "repos" / "config.git"

MARK = "SLIPWAY_DEMO_HOST"
"""Every service process carries it in its environment, so that it is found even if nothing was written down."""

LOG_LIMIT = 200_000
"""Bytes in each of the two parts of a service's log."""

LISTEN_PATIENCE = 10.0
STOP_PATIENCE = 3.0
LOCK_PATIENCE = 45.0
ASK_PATIENCE = 1.5
"""All in seconds."""

KEPT_RELEASES = 5
LOG_LINES = 40


class Problem(Exception):
    """What went wrong, in one sentence."""


class PortTaken(Exception):
    """Somebody else listens on the port."""


@dataclass(frozen=True)
class Target:
    """One service in one environment."""

    service: str
    environment: str

    @property
    def place(self) -> Path:
        return STATE / self.environment / self.service

    @property
    def mark(self) -> str:
        return f"{STATE}/{self.environment}/{self.service}"

    def __str__(self) -> str:
        return f"{self.service} in {self.environment}"


@dataclass(frozen=True)
class Release:
    """What is to run: its version, the digest of its content, and the configuration commit that says so."""

    version: str
    digest: str
    revision: str = ""


@dataclass(frozen=True)
class Record:
    """What runs, as written down. born: tells this process from a later one with the same number."""

    version: str
    digest: str
    revision: str
    port: int
    pid: int
    born: str


# --- the commands ---------------------------------------------------------------------------------------------------


def deploy(target: Target, release: Release, artifact: str) -> None:
    """Bring the release to run in place of what runs now; it is left alone if it is the same."""
    check_configuration(target, release)
    with locked(target):
        if not release.digest:
            forget(target)
            print(f"{target} is not to run any more and was stopped.")
            return
        record = read_record(target)
        if record and (record.version, record.digest) == (release.version, release.digest) and lives(record):
            print(f"{target} runs {release.version} already at {address(record.port)}.")
            return
        folder = install(target, release, artifact)
        end_processes(target)
        record = start(target, release, folder)
        prune(target, folder)
        print(f"{target} runs {release.version} at {address(record.port)}.")


def running(target: Target) -> dict[str, object] | None:
    """Ask the process itself what it is and how it is; None if nothing was deployed."""
    record = read_record(target)
    if record is None:
        return None
    answer: dict[str, object] = {"version": record.version, "digest": record.digest, "healthy": False}
    if lives(record):
        try:
            _, said = ask(record.port, "/version")
            told = json.loads(said)
            answer.update(version=str(told["version"]), digest=str(told["digest"]))
            answer["healthy"], answer["message"] = health(target, record.port)
        except (OSError, ValueError, LookupError, Problem) as error:
            answer["message"] = f"{target} does not answer at {address(record.port)}: {plain(error)}."
    else:
        answer["message"] = f"The process of {target} is gone; its log says why, or deploy it again."
    return {**answer, "url": address(record.port), "log": last_lines(target, LOG_LINES)}


def stop(target: Target) -> None:
    """End the service and forget that it was deployed."""
    with locked(target):
        forget(target)
    print(f"{target} is stopped.")


def start_all() -> int:
    """Start again what was deployed and does not run; returns 1 if something could not be started."""
    begun: list[tuple[Target, Release, Starting]] = []
    problems = []
    with contextlib.ExitStack() as stack:
        # All are begun before the first is waited for, so that nine services take as long as one.
        for target in targets():
            try:
                stack.enter_context(locked(target))
                record = read_record(target)
                if record and not lives(record):
                    end_processes(target)
                    release = Release(record.version, record.digest, record.revision)
                    begun.append((target, release, begin(target, release, release_folder(target, release))))
            except (Problem, OSError) as error:
                problems.append(f"{target}: {plain(error)}")
        for target, release, starting in begun:
            try:
                finish(target, release, starting)
            except PortTaken:
                problems += attempt_again(target, release)
            except (Problem, OSError) as error:
                problems.append(f"{target}: {plain(error)}")
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{len(begun)} services were started, {len(problems)} could not be.")
    return 1 if problems else 0


def attempt_again(target: Target, release: Release) -> list[str]:
    try:
        start(target, release, release_folder(target, release))
    except (Problem, OSError) as error:
        return [f"{target}: {plain(error)}"]
    return []


def stop_all() -> None:
    """End every process of every service; what was deployed is remembered for `start-all`."""
    with contextlib.ExitStack() as stack:
        for target in targets():
            # A deployment in flight is given a moment; then the end has precedence.
            with contextlib.suppress(Problem, OSError):
                stack.enter_context(locked(target, patience=1.0))
        ended = end(set(marked(str(STATE))) | {r.pid for r in map(read_record, targets()) if r and lives(r)})
    print(f"{ended} processes were ended.")


# --- Git is the truth -----------------------------------------------------------------------------------------------


def check_configuration(target: Target, release: Release) -> None:
    """Refuse what the configuration repository does not say at that revision."""
    if not re.fullmatch(r"[0-9a-f]{7,64}", release.revision):
        raise Problem(f"`{release.revision}` is no commit of the configuration repository")
    written = written_values(target, release.revision)
    wanted = {"version": release.version, "digest": release.digest}
    for name, value in wanted.items():
        if written.get(name, "") != value:
            raise Problem(
                f"{target} is to run {name} {value or 'none'}, but the configuration repository says"
                f" {written.get(name) or 'none'} at {release.revision[:12]}; write it there first"
            )


def written_values(target: Target, revision: str) -> dict[str, str]:
    """The top-level `key: value` lines of the target's file; empty if there is no such file at the revision."""
    path = f"{target.environment}/{target.service}.yaml"
    # The repository may belong to another user than the one that runs the demo.
    git = ["git", "-c", "safe.directory=*", "--git-dir", str(CONFIG_REPOSITORY)]
    listed = run_git([*git, "ls-tree", revision, "--", path])
    if not listed.strip():
        return {}
    values = {}
    for line in run_git([*git, "cat-file", "blob", f"{revision}:{path}"]).splitlines():
        found = re.fullmatch(r"""(\w+):\s+(?:"([^"]*)"|'([^']*)'|([^#\s]*))\s*(?:#.*)?""", line)
        if found:
            values[found[1]] = found[2] or found[3] or found[4] or ""
    return values


def run_git(argv: list[str]) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Problem(f"git could not read the configuration repository: {plain(error)}") from None
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[0]
        raise Problem(f"the configuration repository could not be read: {reason}")
    return done.stdout


# --- releases -------------------------------------------------------------------------------------------------------


def release_folder(target: Target, release: Release) -> Path:
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", release.digest):
        raise Problem(f"`{release.digest}` is no digest such as sha256:…")
    return target.place / "releases" / release.digest.partition(":")[2]


def install(target: Target, release: Release, artifact: str) -> Path:
    """Put the artifact into its folder, whole, and only if its content is what the digest says."""
    folder = release_folder(target, release)
    if folder.is_dir() and content_digest(folder) == release.digest:
        return folder
    if not artifact or not Path(artifact).is_dir():
        raise Problem(f"the artifact of {target} is gone from `{artifact}`; build it again")
    fresh = folder.with_name(f".new-{folder.name}")
    for leftover in (fresh, folder):
        shutil.rmtree(leftover, ignore_errors=True)
    shutil.copytree(artifact, fresh, symlinks=True)
    found = content_digest(fresh)
    if found != release.digest:
        shutil.rmtree(fresh, ignore_errors=True)
        raise Problem(f"the artifact has digest {found} and not {release.digest}; build it again")
    fresh.rename(folder)
    return folder


def content_digest(tree: Path) -> str:
    """The digest by which Slipway knows an artifact: kinds, paths, sizes and contents, in the order of the paths."""
    hasher = hashlib.sha256(b"slipway artifact 1\n")
    found = [Path(folder, name) for folder, folders, files in os.walk(tree) for name in (*folders, *files)]
    for path in sorted(found, key=lambda one: os.fsencode(one.relative_to(tree).as_posix())):
        info = path.lstat()
        name = os.fsencode(path.relative_to(tree).as_posix())
        if stat.S_ISLNK(info.st_mode):
            link = os.fsencode(os.readlink(path))
            hasher.update(b"link %d %b %d %b\n" % (len(name), name, len(link), link))
        elif stat.S_ISDIR(info.st_mode):
            hasher.update(b"dir %d %b\n" % (len(name), name))
        else:
            kind = b"exec" if info.st_mode & stat.S_IXUSR else b"file"
            hasher.update(b"%b %d %b %d\n" % (kind, len(name), name, info.st_size))
            hasher.update(path.read_bytes())
    return f"sha256:{hasher.hexdigest()}"


def prune(target: Target, current: Path) -> None:
    """Keep the newest releases for a quick way back."""
    os.utime(current)
    folders = sorted((target.place / "releases").iterdir(), key=lambda folder: folder.stat().st_mtime, reverse=True)
    for folder in folders[KEPT_RELEASES:]:
        shutil.rmtree(folder, ignore_errors=True)


# --- starting -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Starting:
    """A process that was started and may not listen yet."""

    process: subprocess.Popen[bytes]
    port: int


def start(target: Target, release: Release, folder: Path) -> Record:
    """Start the release and wait until it listens, on another port if somebody was faster with this one."""
    for _ in range(3):
        with contextlib.suppress(PortTaken):
            return finish(target, release, begin(target, release, folder))
    raise Problem(f"no port of this machine stayed free for {target}; try again")


def begin(target: Target, release: Release, folder: Path) -> Starting:
    port = choose_port(target)
    if not (folder / "app.py").is_file():
        raise Problem(f"the release of {target} holds no app.py; deploy it again")
    log = open_log(target)
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        "HOME": str(target.place),
        "PORT": str(port),
        "SERVICE_NAME": target.service,
        "SERVICE_ENVIRONMENT": target.environment,
        "SERVICE_VERSION": release.version,
        "SERVICE_DIGEST": release.digest,
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",  # a release's folder stays what its digest says
        MARK: target.mark,
    }
    try:
        process = subprocess.Popen(
            [sys.executable, str(folder / "app.py")],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    finally:
        os.close(log)
    return Starting(process, port)


def finish(target: Target, release: Release, starting: Starting) -> Record:
    """Wait until it listens, then write down what runs."""
    process, port = starting.process, starting.port
    limit = time.monotonic() + LISTEN_PATIENCE
    while not listens(port):
        if process.poll() is not None:
            raise_ended(target, port)
        if time.monotonic() > limit:
            end({process.pid})
            raise Problem(f"{target} did not listen on port {port} within {LISTEN_PATIENCE:.0f} s and was stopped")
        time.sleep(0.01)
    if process.poll() is not None:
        raise_ended(target, port)
    record = Record(release.version, release.digest, release.revision, port, process.pid, born(process.pid))
    write_whole(target.place / "current.json", json.dumps(asdict(record), indent=2) + "\n")
    return record


def raise_ended(target: Target, port: int) -> None:
    if not is_free(port):
        raise PortTaken
    time.sleep(0.05)  # the last words are on their way to the log
    for line in last_lines(target, LOG_LINES):
        print(line, file=sys.stderr)
    raise Problem(f"{target} ended before it listened on port {port}; the lines above are its last")


def choose_port(target: Target) -> int:
    """The port it had before if it is free, else another that no other service here has."""
    file = target.place / "port"
    known = read_port(file)
    if known and is_free(known):
        return known
    others = {read_port(other.place / "port") for other in targets() if other != target}
    while True:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        if port not in others:
            write_whole(file, f"{port}\n")
            return int(port)


def read_port(file: Path) -> int:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return 0


def is_free(port: int) -> bool:
    with socket.socket() as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return False
    return True


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=0.5).close()
    except OSError:
        return False
    return True


# --- ending ---------------------------------------------------------------------------------------------------------


def forget(target: Target) -> None:
    end_processes(target)
    (target.place / "current.json").unlink(missing_ok=True)


def end_processes(target: Target) -> None:
    """End all processes of the target, those that nobody wrote down too."""
    record = read_record(target)
    end(set(marked(target.mark)) | ({record.pid} if record and lives(record) else set()))


def end(pids: set[int]) -> int:
    """TERM, a while, KILL, for each process and its whole group. Returns how many there were."""
    left = pids
    for sign, patience in ((signal.SIGTERM, STOP_PATIENCE), (signal.SIGKILL, STOP_PATIENCE)):
        for pid in left:
            send(pid, sign)
        limit = time.monotonic() + patience
        while (left := {pid for pid in left if is_alive(pid)}) and time.monotonic() < limit:
            time.sleep(0.01)
    if left:
        raise Problem(f"process {min(left)} could not be ended; end it by hand and try again")
    return len(pids)


def send(pid: int, sign: int) -> None:
    for deliver in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            deliver(pid, sign)


def marked(mark: str) -> Iterator[int]:
    """Living processes of one target, or of all below a directory."""
    if not os.path.isdir("/proc/self"):
        yield from listed_by_ps(mark)
        return
    begins = os.fsencode(f"{MARK}={mark}")
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            with contextlib.suppress(OSError):  # It ended, or is another user's.
                for entry in Path("/proc", name, "environ").read_bytes().split(b"\0"):
                    if entry == begins or entry.startswith(begins + b"/"):
                        yield int(name)


def listed_by_ps(mark: str) -> Iterator[int]:
    """Without /proc: by the path of the program that was started."""
    listing = subprocess.run(["ps", "-axwwo", "pid=,command="], capture_output=True, text=True, check=False).stdout
    for line in listing.splitlines():
        pid, _, command = line.strip().partition(" ")
        program, _, script = command.strip().partition(" ")
        if "python" in program.lower() and script.startswith(f"{mark}/") and script.endswith("/app.py"):
            yield int(pid)


def lives(record: Record) -> bool:
    return is_alive(record.pid) and born(record.pid) == record.born


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that ended and was not yet collected does not."""
    with contextlib.suppress(OSError):
        os.waitpid(pid, os.WNOHANG)
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        if os.path.isdir("/proc/self"):
            return False
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def born(pid: int) -> str:
    """When the process started, in the system's own words; empty if there is none."""
    try:
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{ticks}"
    except (OSError, IndexError):
        if os.path.isdir("/proc/self"):
            return ""
    told = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return told.stdout.strip()


# --- asking ---------------------------------------------------------------------------------------------------------


def ask(port: int, path: str) -> tuple[int, str]:
    """GET over a plain socket: a client library takes longer to load than the question to be answered."""
    limit = time.monotonic() + ASK_PATIENCE
    with socket.create_connection(("127.0.0.1", port), timeout=ASK_PATIENCE) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n".encode())
        data = b""
        while piece := connection.recv(65536):
            data += piece
            if len(data) > 1_000_000 or time.monotonic() > limit:
                raise Problem("it sent too much or too slowly")
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), body.decode(errors="replace")


def health(target: Target, port: int) -> tuple[bool, str]:
    status, text = ask(port, "/healthz")
    if status == 200:
        return True, ""
    return False, f"{target} answers /healthz with {status}: {' '.join(text.split())[:300]}"


def address(port: int) -> str:
    return f"http://127.0.0.1:{port}"


# --- files ----------------------------------------------------------------------------------------------------------


def targets() -> list[Target]:
    """Everything that was ever deployed here."""
    return sorted((Target(place.name, place.parent.name) for place in STATE.glob("*/*") if place.is_dir()), key=str)


@contextlib.contextmanager
def locked(target: Target, patience: float = LOCK_PATIENCE) -> Iterator[None]:
    """Hold the target, so that two deployments do not mix; the system lets go when we are killed."""
    target.place.mkdir(parents=True, exist_ok=True)
    with open(target.place / "lock", "wb") as file:
        limit = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > limit:
                    raise Problem(f"another deployment of {target} does not end; try again later") from None
                time.sleep(0.02)
        yield


def read_record(target: Target) -> Record | None:
    try:
        return Record(**json.loads((target.place / "current.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None


def write_whole(path: Path, text: str) -> None:
    """Replace the file at once, so that nobody ever reads half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(text)
    temporary.replace(path)


def last_lines(target: Target, count: int) -> list[str]:
    """The newest lines of the service's log."""
    text = ""
    for name in ("service.log.1", "service.log"):
        with contextlib.suppress(OSError):
            text += (target.place / name).read_text(errors="replace")
    return text.splitlines()[-count:]


def open_log(target: Target) -> int:
    """A pipe into the log. A small process at its other end keeps the log short and ends with the service."""
    log = target.place / "service.log"
    with contextlib.suppress(FileNotFoundError):
        log.replace(target.place / "previous.log")
    log.with_name("service.log.1").unlink(missing_ok=True)
    log.touch()
    read, write = os.pipe()
    if os.fork() == 0:
        try:
            keep_log(read, log)
        finally:
            os._exit(0)
    os.close(read)
    return write


def keep_log(pipe: int, log: Path) -> None:
    os.setsid()
    for sign in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(sign, signal.SIG_IGN)  # It ends when the last writer does, and hears the last words.
    os.dup2(pipe, 0)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    os.closerange(3, 1024)  # The lock too: it must not outlive the command.
    file = os.open(log, os.O_WRONLY | os.O_APPEND)
    size = 0
    while data := os.read(0, 16384):
        if size + len(data) > LOG_LIMIT:
            file, size = next_part(file, log), 0
        # A full disk costs the service its log, not its life.
        with contextlib.suppress(OSError):
            size += os.write(file, data)


def next_part(file: int, log: Path) -> int:
    """Begin the log anew, unless a later run of the service has it now."""
    with contextlib.suppress(OSError):
        if os.path.samestat(os.fstat(file), os.stat(log)):
            log.replace(log.with_name("service.log.1"))
            fresh = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            os.close(file)
            return fresh
    return file


def plain(error: BaseException) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


# --- the command line -----------------------------------------------------------------------------------------------


def name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no name of a service or an environment")
    return text


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="host.py", description="Runs the demo's services on this machine.")
    commands = parser.add_subparsers(dest="command", required=True)
    for command in ("deploy", "running", "stop"):
        one = commands.add_parser(command)
        one.add_argument("service", type=name)
        one.add_argument("environment", type=name)
        if command == "deploy":
            for option in ("--version", "--digest", "--artifact", "--revision"):
                one.add_argument(option, required=True)
    commands.add_parser("start-all")
    commands.add_parser("stop-all")
    return parser.parse_args(arguments)


def run(given: argparse.Namespace) -> int:
    if given.command == "start-all":
        return start_all()
    if given.command == "stop-all":
        stop_all()
        return 0
    target = Target(given.service, given.environment)
    if given.command == "deploy":
        deploy(target, Release(given.version, given.digest, given.revision), given.artifact)
    elif given.command == "running":
        print(json.dumps(running(target)))
    else:
        stop(target)
    return 0


def main(arguments: list[str]) -> int:
    try:
        return run(parse(arguments))
    except Problem as problem:
        print(f"error: {problem}.", file=sys.stderr)
    except OSError as error:
        print(f"error: {plain(error)}: {error.filename or 'the system'}.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
