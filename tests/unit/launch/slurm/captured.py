"""What a real SLURM (22.05.8) has printed, with SLURM_TIME_FORMAT=%s; scripts are named as in a run directory."""

SQUEUE = """\
5|CANCELLED|batch|1|1795629486|1795629490|1795629490||JobHeldUser|/runs/5/slurm/script.sh
1|PENDING|batch|2|1795629489|1795629610|1795633210||BeginTime|/runs/1/slurm/script.sh
3_0|PENDING|batch|1|1795629486|1795636680|1795640280||Resources|/runs/3/slurm/script.sh
3_1|PENDING|batch|1|1795629486|1795636680|1795640280||Priority|/runs/3/slurm/script.sh
4|PENDING|batch|1|1795629486|N/A|N/A||Dependency|/runs/4/slurm/script.sh
8_0|PENDING|batch|1|1795629504|1795630080|1795633680||Nodes required for job are DOWN, DRAINED or reserved for jobs \
in higher priority partitions|/runs/8/slurm/script.sh
2|RUNNING|batch|2|1795629486|1795629489|1795633089|zv[1-2]|None|/runs/2/slurm/script.sh
6|FAILED|urgent|1|1795629486|1795629487|1795629487|zv1|NonZeroExitCode|/runs/6/slurm/script.sh
"""
UNKNOWN_JOB = "slurm_load_jobs error: Invalid job id specified\n"
NO_ACCOUNTING = "Slurm accounting storage is disabled\n"
NO_CONTROLLER = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n"
NO_CONFIGURATION = """\
squeue: error: resolve_ctls_from_dns_srv: res_nsearch error: Unknown host
squeue: error: fetch_config: DNS SRV lookup failed
squeue: error: _establish_config_source: failed to fetch config
squeue: fatal: Could not establish a configuration source
"""

# Of a site with accounting, in the format of `sacct --parsable2 --allocations`; its manual gives the words.
SACCT = """\
12|TIMEOUT|batch|2|1795629486|1795629489|1795633089|zv[1-2]|0:0|sbatch --dependency=afterany:11 /runs/12/slurm/script.sh
13|CANCELLED by 1000|batch|1|1795629486|1795629489|1795629490|zv1|0:0|sbatch /runs/13/slurm/script.sh
14_1|FAILED|batch|1|1795629486|1795629489|1795629490|zv1|3:0|sbatch /runs/14/slurm/script.sh
15|NODE_FAIL|batch|1|1795629486|1795629489|Unknown|zv1|1:0|sbatch /runs/15/slurm/script.sh
15|COMPLETED|batch|1|1795629489|1795629499|1795629590|zv2|0:0|sbatch /runs/15/slurm/script.sh
"""
