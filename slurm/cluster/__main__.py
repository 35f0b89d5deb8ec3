"""The command line of ``slurm/local-cluster``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from .errors import ClusterError
from .install import install
from .lifecycle import DEFAULT_CPUS, DEFAULT_NODES, Wish, down, existing, set_link, status, up
from .plan import STATE_PARENT, state_directory

_DESCRIPTION = """\
A real SLURM on this machine in one command: a controller and several nodes, for development, demonstrations and
tests. Everything of it lies in one directory, and names of nodes in a marked block of /etc/hosts; an existing
cluster's files are neither read nor written.

  sudo slurm/local-cluster install            once: slurm-wlm and munge (Debian, Ubuntu), without their services
  sudo slurm/local-cluster up --nodes 2       a second or two; prints the next line
  export SLURM_CONF=...                       from now on sinfo, sbatch and zerostream speak to it
  zerostream submit CONFIG --cluster slurm/profiles/local.yaml --nodes 2
  sudo slurm/local-cluster down               ends its jobs and leaves nothing

Its partitions: `batch`, the default; and `urgent`, whose jobs take nodes from those of `batch`, which are requeued.
"""
_EPILOG = """\
Exit codes: 0 done; 1 `status`: it is not there, or not all of it is; 2 refused, with the cause and what to do.
"""


def main() -> int:
    arguments = _parser().parse_args()
    try:
        return _run(arguments)
    except ClusterError as error:
        print(f"local-cluster: {error}", file=sys.stderr)
        return 2


def _run(arguments: argparse.Namespace) -> int:
    if arguments.command == "install":
        packages = install()
        print(f"installed {', '.join(packages)}" if packages else "all there")
        return 0
    state_dir = state_directory(arguments.name, arguments.state_dir)
    if arguments.command == "up":
        plan = up(
            arguments.name, state_dir, Wish(arguments.nodes, arguments.cpus_per_node, arguments.network_namespaces)
        )
        names = ", ".join(node.name for node in plan.nodes)
        print(f"cluster {plan.name} is up: {names}. To use it:\n\n  {plan.export_line}\n")
    elif arguments.command == "down":
        print(f"cluster {arguments.name} is {'down' if down(state_dir) else 'not there'}")
    elif arguments.command == "status":
        return _print_status(state_dir, as_json=arguments.json)
    elif arguments.command == "env":
        print(existing(state_dir).export_line)
    else:
        set_link(state_dir, arguments.node, connected=arguments.command == "heal")
        print(f"{arguments.node} is {'cut off' if arguments.command == 'cut' else 'connected'}")
    return 0


def _print_status(state_dir: Path, *, as_json: bool) -> int:
    found = status(state_dir)
    if as_json:
        print(json.dumps(found or {"state_dir": str(state_dir), "nodes": [], "ready": False}))
    elif found is None:
        print(f"no cluster in {state_dir}; `slurm/local-cluster up` starts one")
    else:
        seen = os.geteuid() == 0  # others do not see root's processes
        for daemon in ("munged", "slurmctld") if seen else ():
            print(f"{daemon:<12} {_process(found[f'{daemon}_pid'])}")
        for node in found["nodes"]:
            daemon = f", {_process(node['slurmd_pid'])}" if seen else ""
            link = "" if node["connected"] else ", cut off"
            print(f"{node['name']:<12} {node['state']}{daemon}, {node['address']}:{node['port']}{link}")
        print(f"\n  export SLURM_CONF={found['slurm_conf']}")
    return 0 if found and found["ready"] else 1


def _process(pid: int | None) -> str:
    return f"process {pid}" if pid else "does not run"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="slurm/local-cluster",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--name", default="zs", help="of the cluster; its nodes are NAME1, NAME2 ... (default: zs)")
    common.add_argument(
        "--state-dir", type=Path, help=f"everything of the cluster (default: {STATE_PARENT}/zerostream-slurm-NAME)"
    )

    def command(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, parents=[common], help=text, description=f"{text[0].upper()}{text[1:]}.")

    starting = command("up", "start the cluster, or what is missing of it; returns when its nodes take jobs")
    starting.add_argument("--nodes", type=int, help=f"how many (default: {DEFAULT_NODES})")
    starting.add_argument("--cpus-per-node", type=int, help=f"that each claims to have (default: {DEFAULT_CPUS})")
    starting.add_argument(
        "--network-namespaces",
        action="store_true",
        default=None,
        help="each node has its own network and host name, so that `cut` can cut it off",
    )
    command("down", "end all jobs and processes of the cluster, and remove everything of it")
    command("status", "tell what lives of it").add_argument("--json", action="store_true", help="one JSON object")
    command("env", "print the line that makes a shell use it")
    for name, text in (("cut", "cut a node's network link"), ("heal", "mend it, and wait until the node takes jobs")):
        command(name, text).add_argument("node", metavar="NODE")
    commands.add_parser("install", help="install slurm-wlm and munge with apt-get, without their services")
    return parser


if __name__ == "__main__":
    sys.exit(main())
