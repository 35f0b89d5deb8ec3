"""The packages of Debian and Ubuntu, without the services that they would start."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import ClusterError

_PACKAGE_OF = {
    "sbatch": "slurm-wlm",
    "slurmctld": "slurm-wlm",
    "slurmd": "slurm-wlm",
    "munged": "munge",
    "ip": "iproute2",
}
_SERVICES = ("munge", "slurmd", "slurmctld")
_POLICY = Path("/usr/sbin/policy-rc.d")
_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
_SECONDS = 900


def program(name: str) -> str:
    """Where it is.

    Raises:
        ClusterError: it is not installed.
    """
    path = _which(name)
    if path is None:
        raise ClusterError(f"{name} is not installed", fix="run `slurm/local-cluster install` as root")
    return path


def install() -> list[str]:
    """Installs what is missing and returns its names. An installation that is there already is left alone.

    Raises:
        ClusterError: no root, no apt-get, or a package could not be installed.
    """
    missing = sorted({package for name, package in _PACKAGE_OF.items() if _which(name) is None})
    if not missing:
        return []
    require_root()
    if shutil.which("apt-get") is None:
        raise ClusterError(
            "there is no apt-get", fix=f"install {' and '.join(missing)} with your system's package manager"
        )
    with _no_services_started():
        _apt_get("update", "-qq")
        _apt_get("install", "-y", "-qq", "--no-install-recommends", *missing)
    if shutil.which("systemctl"):  # the packages are new: what they have enabled is ours to disable
        subprocess.run(["systemctl", "disable", *_SERVICES], capture_output=True, timeout=60, check=False)
    return missing


def require_root() -> None:
    """
    Raises:
        ClusterError: somebody else.
    """
    if os.geteuid() != 0:
        raise ClusterError(
            "only root can do this: nodes start jobs for others, and their names go to /etc/hosts", fix="use sudo"
        )


def _which(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", os.defpath), _SBIN)))


@contextmanager
def _no_services_started() -> Iterator[None]:
    """Debian's packages ask this file before they start a service."""
    if _POLICY.exists():
        yield  # the machine has a policy of its own
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()


def _apt_get(*arguments: str) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "-o", "DPkg::Lock::Timeout=300", *arguments]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_SECONDS, check=False)
    if result.returncode:
        words = (result.stderr or result.stdout).strip().splitlines()[-5:]
        raise ClusterError(f"`{' '.join(command)}` failed: {' / '.join(words)}", fix="repair that, then repeat it")
