"""A real SLURM on one machine, for development, demonstrations and tests: munged, slurmctld, and one slurmd a node.

Everything lies in one state directory, and every process of the cluster carries its name in its environment, so that ``down``
finds all of them whatever has happened in between. The standard library only: it runs before anything is installed.

    plan.py         which nodes, addresses and ports; remembered in the state directory
    conf.py         slurm.conf, from the plan
    processes.py    starts daemons, finds and kills what belongs to the cluster
    hosts.py        the marked block in /etc/hosts
    network.py      a network namespace a node, whose link can be cut
    start.py        starts what does not run yet, and waits until all nodes take jobs
    lifecycle.py    up, down, status, cut, heal
    install.py      the packages, without their services
"""
