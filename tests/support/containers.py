"""Docker from a test: commands with a deadline, and conditions that are waited for. Everything here blocks."""

import functools
import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

COMMAND_S = 60.0
WITHIN_S = 40.0
_LOOK_EVERY_S = 0.2


def run(*command: str, within_s: float = COMMAND_S, env: Mapping[str, str] | None = None) -> str:
    """The command's standard output; AssertionError with all it said if it fails or takes too long."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=within_s, stdin=subprocess.DEVNULL, env=env
        )
    except subprocess.TimeoutExpired as error:
        raise AssertionError(f"{' '.join(command)}: not done within {within_s:g} s: {error.stderr!r}") from error
    assert done.returncode == 0, f"{' '.join(command)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def docker(*arguments: str, within_s: float = COMMAND_S) -> str:
    """`docker` with these arguments, as `run`."""
    return run("docker", *arguments, within_s=within_s).strip()


def logs(container: str) -> str:
    """All that the container wrote, to either stream."""
    done = subprocess.run(
        ["docker", "logs", container],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=COMMAND_S,
        stdin=subprocess.DEVNULL,
    )
    return done.stdout


def works(*command: str, within_s: float = 20.0) -> bool:
    """Whether the command is there and ends well."""
    try:
        return subprocess.run(command, capture_output=True, timeout=within_s, stdin=subprocess.DEVNULL).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


@functools.cache
def compose_command() -> Sequence[str] | None:
    """Compose 2 where it is there, else 1, else None."""
    for command in (("docker", "compose"), ("docker-compose",)):
        if works(*command, "version"):
            return command
    return None


def no_base_image(image: str) -> str | None:
    """Why the image that ours is built from is not to be had; None if it is here, or could be fetched."""
    if works("docker", "image", "inspect", image) or works("docker", "pull", "--quiet", image, within_s=120.0):
        return None
    return f"the image {image} is not here, and no registry gives it"


def asked(container: str, *arguments: str) -> Any:
    """What `litecast ... --json` says inside of a container; None as long as it fails."""
    done = subprocess.run(
        ["docker", "exec", container, "litecast", *arguments, "--json"],
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
        stdin=subprocess.DEVNULL,
    )
    return json.loads(done.stdout) if done.returncode == 0 else None


def wait_for(what: str, seen: Callable[[], Any], wanted: Callable[[Any], object], within_s: float = WITHIN_S) -> Any:
    """What was seen when it was first as wanted; AssertionError with the last that was seen at the deadline."""
    deadline = time.monotonic() + within_s
    while True:
        now = seen()
        if wanted(now):
            return now
        assert time.monotonic() < deadline, f"{what}: not so within {within_s:g} s: {now!r}"
        time.sleep(_LOOK_EVERY_S)
