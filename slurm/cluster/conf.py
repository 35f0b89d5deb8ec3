"""slurm.conf of a plan."""

from __future__ import annotations

import socket

from .plan import Plan

# The timeouts are short, so that tests need not wait for minutes, and yet long enough for a busy machine of two cores:
# a node that does not answer is down after SlurmdTimeout, and a job that was requeued may start again after cred_expire (two
# minutes elsewhere; who shortens that wait with `scontrol update StartTime=now` loses the job, whose new start nodes take for
# the old one). KillWait is SLURM's default: how long a job that was told to end may take to save.
_TEMPLATE = """\
# Written by slurm/local-cluster: the cluster {name}. `slurm/local-cluster down` removes it.
ClusterName={name}
SlurmctldHost={hostname}({controller_address})
SlurmctldPort={controller_port}
SlurmUser={user}
SlurmdUser=root

AuthType=auth/munge
AuthInfo=socket={munge_socket},cred_expire=5
CredType=cred/munge

StateSaveLocation={state_dir}/controller
SlurmdSpoolDir={state_dir}/spool/%n
SlurmctldPidFile={state_dir}/slurmctld.pid
SlurmdPidFile={state_dir}/%n.pid
SlurmctldLogFile={logs}/slurmctld.log
SlurmdLogFile={logs}/%n.log
SlurmctldDebug=info
MailProg=/bin/true
SlurmdDebug=info

# Several slurmd on one machine, with more processors than it has; no cgroups, no accounting.
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
PropagateResourceLimits=NONE
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU={memory_per_cpu_mb}
# As where a firewall lets SLURM's own ports through; below those that Linux hands out by itself.
SrunPortRange=20000-21999
# The controller asks each node itself: one that is cut off must not keep others from answering.
TreeWidth=65533

SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,bf_interval=1,sched_interval=5,sched_min_interval=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
MaxJobCount=10000
MaxArraySize=10001
MinJobAge=600

ReturnToService=2
SlurmctldTimeout=20
SlurmdTimeout=20
MessageTimeout=10
KillWait=30
UnkillableStepTimeout=60
InactiveLimit=0

{nodes}
PartitionName=DEFAULT Nodes=ALL DefaultTime=01:00:00 MaxTime=1-00:00:00 State=UP OverSubscribe=NO
PartitionName=batch Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=10
PartitionName=urgent PriorityTier=10 PreemptMode=OFF
"""


def render(plan: Plan) -> str:
    """The whole file; equal plans on the same machine give equal text."""
    nodes = [
        f"NodeName={node.name} NodeAddr={node.address} Port={node.port} CPUs={plan.cpus_per_node} "
        f"RealMemory={plan.memory_per_node_mb} State=UNKNOWN"
        for node in plan.nodes
    ]
    return _TEMPLATE.format(
        name=plan.name,
        hostname=socket.gethostname().split(".")[0],
        controller_address=plan.controller_address,
        controller_port=plan.controller_port,
        user="root",
        munge_socket=plan.munge_socket,
        state_dir=plan.state_dir,
        logs=plan.logs,
        memory_per_cpu_mb=max(1, plan.memory_per_node_mb // plan.cpus_per_node),
        nodes="\n".join(nodes),
    )
