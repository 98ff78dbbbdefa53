package place

import (
	"net"
	"strconv"
	"strings"
)

// fromTorchrun reads the variables that PyTorch's launchers set and many scripts copy.
func fromTorchrun(e env) (*claim, error) {
	if e("RANK") == "" || e("WORLD_SIZE") == "" { // either alone is anybody's
		if e("TORCHELASTIC_RUN_ID") != "" {
			return nil, errorf("RANK", "TORCHELASTIC_RUN_ID is set, but RANK and WORLD_SIZE are not both")
		}
		return nil, nil
	}
	c := &claim{Place: Place{Launcher: Torchrun}, rankName: "RANK", sizeName: "WORLD_SIZE",
		missing: "RANK and WORLD_SIZE do not say where rank 0 is", sure: e("TORCHELASTIC_RUN_ID") != ""}
	if err := e.ranks(c); err != nil {
		return nil, err
	}
	if err := e.local(c, []string{"LOCAL_RANK"}, []string{"LOCAL_WORLD_SIZE"}); err != nil {
		return nil, err
	}
	if id := e("TORCHELASTIC_RUN_ID"); id != "" && id != "none" {
		c.Job = id
	}
	if c.Job == "" && e("MASTER_PORT") != "" {
		c.Job = e("MASTER_ADDR") + ":" + e("MASTER_PORT") // no two jobs have the same
	}
	if e("TORCHELASTIC_USE_AGENT_STORE") == "True" && e("MASTER_PORT") != "" {
		// torchrun itself listens at that port. All ranks know it, so they can take another one from it.
		port, err := e.number("MASTER_PORT", 1, 65535)
		if err != nil {
			return nil, err
		}
		if c.Port = firstPort + port%ports; c.Port == port {
			c.Port++
		}
	}
	return c, nil
}

// fromOpenMPI reads what Open MPI's mpirun tells those that it starts. Under srun without mpirun there is nothing of it.
func fromOpenMPI(e env) (*claim, error) {
	if e("OMPI_COMM_WORLD_RANK") == "" {
		return nil, nil
	}
	c := &claim{Place: Place{Launcher: OpenMPI}, rankName: "OMPI_COMM_WORLD_RANK", sizeName: "OMPI_COMM_WORLD_SIZE",
		missing: "Open MPI does not say where rank 0 is"}
	if err := e.ranks(c); err != nil {
		return nil, err
	}
	if err := e.local(c, []string{"OMPI_COMM_WORLD_LOCAL_RANK"}, []string{"OMPI_COMM_WORLD_LOCAL_SIZE"}); err != nil {
		return nil, err
	}
	c.Host = e("PMIX_HOSTNAME")
	c.Job = e.first("PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid")
	// Ranks fill the hosts of an allocation in its order. Without one, rank 0 is most often where mpirun is.
	var err error
	if c.host, c.hostName, err = allocated(e); err != nil || c.host != "" {
		return c, err
	}
	c.hostName = "OMPI_MCA_orte_hnp_uri"
	c.host = hostOfURI(e(c.hostName))
	if own := hostOfURI(e("OMPI_MCA_orte_local_daemon_uri")); c.Rank == 0 && own != "" && own != c.host && e("MASTER_ADDR") == "" {
		return nil, errorf("MASTER_ADDR", "is not set, and the others look for rank 0 where mpirun is, at %s, but it is at %s: set it to the host of rank 0", c.host, own)
	}
	return c, nil
}

// hostOfURI is the first IPv4 host in an address of Open MPI's daemons, as in 6957.0;tcp://10.0.0.1,10.1.0.1:44489;tcp6://[fd00::2]:36863.
func hostOfURI(uri string) string {
	for part := range strings.SplitSeq(uri[:min(len(uri), 4096)], ";") {
		rest, ok := strings.CutPrefix(part, "tcp://")
		if !ok {
			continue
		}
		hosts, _, _ := strings.Cut(rest, ":")
		host, _, _ := strings.Cut(hosts, ",")
		if net.ParseIP(host) != nil {
			return host
		}
	}
	return ""
}

// fromMPICH reads what Hydra, the launcher of MPICH and its relatives, tells those that it starts. srun --mpi=pmi2 sets the same
// variables beside its own, which say more.
func fromMPICH(e env) (*claim, error) {
	c := &claim{Place: Place{Launcher: MPICH}, rankName: "PMI_RANK", sizeName: "PMI_SIZE", missing: "MPICH does not say where rank 0 is"}
	if e("PMI_RANK") == "" {
		if e("PMI_ID") == "" {
			return nil, nil
		}
		c.rankName = "PMI_ID"
	}
	if err := e.ranks(c); err != nil {
		return nil, err
	}
	if job := e("PMI_JOBID"); job != "" && job == slurmJob(e) {
		return nil, nil
	}
	if err := e.local(c, []string{"MPI_LOCALRANKID"}, []string{"MPI_LOCALNRANKS"}); err != nil {
		return nil, err
	}
	c.Host = e("MPIR_CVAR_CH3_INTERFACE_HOSTNAME")
	c.Job = e.first("PMI_JOBID", "PBS_JOBID", "LSB_JOBID")
	if c.Job == "" && e("SLURM_JOB_ID") != "" {
		c.Job = slurmJob(e)
	}
	var err error
	c.host, c.hostName, err = allocated(e)
	return c, err
}

// fromKubernetes reads what package k8s writes into a pod. JOB_COMPLETION_INDEX alone is any Indexed Job's.
func fromKubernetes(e env) (*claim, error) {
	if e(EnvWorkers) == "" {
		return nil, nil
	}
	c := &claim{Place: Place{Launcher: Kubernetes, Port: PodPort}, rankName: "JOB_COMPLETION_INDEX", sizeName: EnvWorkers, fixed: true}
	if e("JOB_COMPLETION_INDEX") == "" {
		return nil, errorf("JOB_COMPLETION_INDEX", "is not set, but %s is: the Job needs completionMode: Indexed", EnvWorkers)
	}
	if err := e.ranks(c); err != nil {
		return nil, err
	}
	service := e(EnvService)
	if service == "" {
		return nil, errorf(EnvService, "is not set: it names the headless Service of the Job's pods")
	}
	c.Job = e(EnvJob)
	if c.Job == "" {
		name, index, ok := cutLast(e("HOSTNAME"), "-")
		if !ok || index != strconv.Itoa(c.Rank) {
			return nil, errorf(EnvJob, "is not set, and HOSTNAME is %.80q, which is not the Job's name and -%d", e("HOSTNAME"), c.Rank)
		}
		c.Job = name
	}
	c.LocalSize = 1
	c.Address = c.Job + "-0." + service
	c.Host = c.Job + "-" + strconv.Itoa(c.Rank) + "." + service
	if err := checkHost(c.Address); err != nil {
		return nil, errorf(EnvService, "is wrong: %w", err)
	}
	return c, nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
