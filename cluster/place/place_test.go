package place

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// recorded is an environment of testdata: what Slurm 22.05.8, Open MPI 4.1.4 and MPICH 4.0.2 gave processes of one host.
func recorded(t *testing.T, name string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name+".env"))
	if err != nil {
		t.Fatal(err)
	}
	vars := map[string]string{}
	for line := range strings.Lines(string(text)) {
		key, value, ok := strings.Cut(strings.TrimRight(line, "\r\n"), "=")
		if !ok {
			t.Fatalf("%s: %q is not a variable", name, line)
		}
		vars[key] = value
	}
	return vars
}

// lines makes an environment from KEY=VALUE words, over those of a recorded one.
func lines(base map[string]string, words string) func(string) string {
	vars := map[string]string{}
	for k, v := range base {
		vars[k] = v
	}
	for w := range strings.FieldsSeq(words) {
		key, value, _ := strings.Cut(w, "=")
		vars[key] = value
	}
	return func(name string) string { return vars[name] }
}

func show(p *Place) string {
	if p == nil {
		return "none"
	}
	return fmt.Sprintf("%s %d/%d local %d/%d %s:%d %s", p.Launcher, p.Rank, p.Size, p.LocalRank, p.LocalSize, p.Address, p.Port, p.Job)
}

// Who started a process is told from what the launchers themselves were seen to set.
func TestRecordedEnvironments(t *testing.T) {
	for _, c := range []struct{ file, more, want string }{
		{"srun", "", "slurm 3/4 local 3/4 127.0.0.1:20002 2.0"},
		{"srun-in-batch", "", "slurm 2/4 local 2/4 127.0.0.1:20003 3.0"},
		{"srun-pmi2", "", "slurm 1/2 local 1/2 127.0.0.1:20012 12.0"}, // PMI_RANK is srun's own
		{"batch", "", "none"},
		{"batch-from-task", "", "none"}, // it has the step of the task that submitted it
		{"salloc", "", "none"},
		{"salloc-from-task", "", "none"},
		{"srun-pty", "", "none"},
		{"openmpi", "", "openmpi 2/3 local 2/3 127.0.0.1:21900 695730177"},
		{"openmpi-alone", "", "openmpi 1/2 local 1/2 127.0.0.1:27198 2122711041"},
		{"mpich", "", "mpich 1/2 local 1/2 127.0.0.1:26261 "},
		{"mpich-in-slurm", "", "mpich 2/3 local 2/3 127.0.0.1:24102 3.1"}, // beside the step of Hydra's daemon

		{"srun", "SLURM_STEP_ID=4294967290 SLURM_STEPID=4294967290", "none"}, // the shell of salloc, where it is a step
		{"srun", "SLURM_STEP_ID=4294967291 SLURM_STEPID=4294967291", "none"},
		{"srun", "COVEY_LAUNCHER=none", "none"},
		{"openmpi", "COVEY_LAUNCHER=none", "none"},
		{"srun", "RANK=3 WORLD_SIZE=4", "slurm 3/4 local 3/4 127.0.0.1:20002 2.0"}, // a script's copy
		{"srun", "MASTER_PORT=29500 MASTER_ADDR=node1", "slurm 3/4 local 3/4 127.0.0.1:29500 2.0"},
		{"srun", "JOB_COMPLETION_INDEX=0 COVEY_WORKERS=2 COVEY_SERVICE=s COVEY_JOB=j", "slurm 3/4 local 3/4 127.0.0.1:20002 2.0"},
		{"srun", "JOB_COMPLETION_INDEX=0 COVEY_WORKERS=2 COVEY_SERVICE=s COVEY_JOB=j COVEY_LAUNCHER=kubernetes", "kubernetes 0/2 local 0/1 j-0.s:7000 j"},
		{"srun", "RANK=5 WORLD_SIZE=8 LOCAL_RANK=1 LOCAL_WORLD_SIZE=4 MASTER_ADDR=n1 MASTER_PORT=29400 TORCHELASTIC_RUN_ID=77",
			"torchrun 5/8 local 1/4 n1:29400 77"}, // torchrun as srun's task
	} {
		got, err := Detect(lines(recorded(t, c.file), c.more))
		if err != nil {
			t.Errorf("%s %s: %v", c.file, c.more, err)
		} else if s := show(got); s != c.want {
			t.Errorf("%s %s:\n got %s\nwant %s", c.file, c.more, s, c.want)
		}
	}
}

// On several hosts, which the recorded environments are not of, rank 0's host must be told, too.
func TestSeveralHosts(t *testing.T) {
	slurm := "SLURM_JOB_ID=10042 SLURM_STEP_ID=1 SLURM_PROCID=5 SLURM_NTASKS=7 SLURM_STEP_NUM_TASKS=7 SLURM_LOCALID=1 SLURM_NODEID=2 " +
		"SLURM_STEP_TASKS_PER_NODE=2(x3),1 SLURM_GTIDS=4,5 SLURM_STEP_NODELIST=node[02-04,9] SLURM_JOB_NODELIST=node[01-04,9]"
	ompi := "OMPI_COMM_WORLD_RANK=3 OMPI_COMM_WORLD_SIZE=4 OMPI_COMM_WORLD_LOCAL_RANK=1 OMPI_COMM_WORLD_LOCAL_SIZE=2 PMIX_NAMESPACE=1 "
	pod := "JOB_COMPLETION_INDEX=2 COVEY_WORKERS=3 COVEY_SERVICE=mnist "
	for _, c := range []struct{ env, want string }{
		{"", "none"},
		{slurm, "slurm 5/7 local 1/2 node02:24141 10042.1"},
		{slurm + " SLURM_STEP_NODELIST=", "slurm 5/7 local 1/2 node01:24141 10042.1"},
		{slurm + " MASTER_ADDR=10.0.0.9", "slurm 5/7 local 1/2 10.0.0.9:24141 10042.1"},
		{slurm + " SLURM_NODEID=3 SLURM_PROCID=6 SLURM_LOCALID=0 SLURM_GTIDS=6", "slurm 6/7 local 0/1 node02:24141 10042.1"},
		{ompi + "OMPI_MCA_orte_hnp_uri=695.0;tcp://10.1.2.3,10.9.2.3:44489;tcp6://[fd00::2]:36863", "openmpi 3/4 local 1/2 10.1.2.3:24444 1"},
		{ompi + "SLURM_JOB_ID=3 SLURM_JOB_NODELIST=a[7-9] SLURM_PROCID=0 SLURM_NTASKS=4", "openmpi 3/4 local 1/2 a7:24444 1"},
		{ompi + "MASTER_ADDR=head", "openmpi 3/4 local 1/2 head:24444 1"},
		{"PMI_RANK=1 PMI_SIZE=2 MPI_LOCALRANKID=0 MPI_LOCALNRANKS=1 MASTER_ADDR=h PBS_JOBID=81.pbs", "mpich 1/2 local 0/1 h:22619 81.pbs"},
		{"PMI_ID=1 PMI_SIZE=2 MPI_LOCALRANKID=1 MPI_LOCALNRANKS=2", "mpich 1/2 local 1/2 127.0.0.1:26261 "},
		{"RANK=1 WORLD_SIZE=2 MASTER_ADDR=fd00::7 MASTER_PORT=29500", "torchrun 1/2 local 0/0 fd00::7:29500 fd00::7:29500"},
		{"RANK=1 WORLD_SIZE=2 LOCAL_RANK=1 LOCAL_WORLD_SIZE=2 MASTER_ADDR=me.example MASTER_PORT=29500", "torchrun 1/2 local 1/2 127.0.0.1:29500 me.example:29500"},
		{"RANK=1 WORLD_SIZE=2 MASTER_ADDR=h MASTER_PORT=29500 TORCHELASTIC_USE_AGENT_STORE=True TORCHELASTIC_RUN_ID=x", "torchrun 1/2 local 0/0 h:29501 x"},
		{"RANK=0 WORLD_SIZE=1", "torchrun 0/1 local 0/1 127.0.0.1:26261 "},
		{"RANK=3", "none"}, {"WORLD_SIZE=3", "none"}, {"RANK=3 MASTER_ADDR=h", "none"},
		{pod + "COVEY_JOB=mnist", "kubernetes 2/3 local 0/1 mnist-0.mnist:7000 mnist"},
		{pod + "HOSTNAME=my-job-2", "kubernetes 2/3 local 0/1 my-job-0.mnist:7000 my-job"},
		{"JOB_COMPLETION_INDEX=2", "none"}, // somebody's sweep
	} {
		got, err := Detect(lines(nil, c.env))
		if err != nil {
			t.Errorf("%s: %v", c.env, err)
		} else if s := show(got); s != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.env, s, c.want)
		}
	}
}

// Others reach a process by the name that its launcher gives its host, and on one host by loopback.
func TestHost(t *testing.T) {
	two := "OMPI_COMM_WORLD_LOCAL_SIZE=1 OMPI_COMM_WORLD_LOCAL_RANK=0 MPI_LOCALNRANKS=1 MPI_LOCALRANKID=0 MASTER_ADDR=node7 "
	for _, c := range []struct{ file, more, want string }{
		{"srun", "", "127.0.0.1"},
		{"srun", "SLURM_STEP_TASKS_PER_NODE=3,1 SLURM_NODEID=1 SLURM_LOCALID=0 SLURM_GTIDS=3 SLURM_STEP_NODELIST=node[7,1]", "node1"},
		{"openmpi", two, "node1"},
		{"mpich", two, "node1"},
		{"mpich", two + "MPIR_CVAR_CH3_INTERFACE_HOSTNAME=a/b", ""},
		{"mpich", "COVEY_LAUNCHER=kubernetes JOB_COMPLETION_INDEX=2 COVEY_WORKERS=3 COVEY_SERVICE=s COVEY_JOB=j", "j-2.s"},
	} {
		p, err := Detect(lines(recorded(t, c.file), c.more))
		if err != nil || p == nil || p.Host != c.want {
			t.Errorf("%s %s: %+v, %v; want %s", c.file, c.more, p, err, c.want)
		}
	}
}

// What is missing or wrong is named, with the launcher and the way out.
func TestErrorsNameTheVariable(t *testing.T) {
	for _, c := range []struct{ env, launcher, variable, says string }{
		{"COVEY_LAUNCHER=slrum", "", "COVEY_LAUNCHER", `did you mean "slurm"?`},
		{"COVEY_LAUNCHER=slurm", "", "COVEY_LAUNCHER", "srun"},
		{"SLURM_STEP_ID=0 SLURM_NTASKS=4", "slurm", "SLURM_PROCID", "is not set"},
		{"SLURM_STEP_ID=x SLURM_NTASKS=4", "slurm", "SLURM_STEP_ID", "whole number"},
		{"SLURM_STEP_ID=0 SLURM_PROCID=0", "slurm", "SLURM_NTASKS", "is not set"},
		{"SLURM_STEP_ID=0 SLURM_PROCID=4 SLURM_NTASKS=4", "slurm", "SLURM_PROCID", "expected 0 to 3"},
		{"SLURM_STEP_ID=0 SLURM_PROCID=-1 SLURM_NTASKS=4", "slurm", "SLURM_PROCID", `"-1"`},
		{"SLURM_STEP_ID=0 SLURM_PROCID=1 SLURM_NTASKS=4 SLURM_JOB_NODELIST=a[1", "slurm", "SLURM_JOB_NODELIST", "no ]"},
		{"SLURM_STEP_ID=0 SLURM_PROCID=1 SLURM_NTASKS=4", "slurm", "MASTER_ADDR", "SLURM_STEP_NODELIST"},
		{"SLURM_STEP_ID=0 SLURM_PROCID=1 SLURM_NTASKS=4 SLURM_NODEID=0 SLURM_TASKS_PER_NODE=2(y3)", "slurm", "SLURM_TASKS_PER_NODE", "2(x3),1"},
		{"SLURM_STEP_ID=0 SLURM_PROCID=1 SLURM_NTASKS=4 SLURM_NODEID=9 SLURM_TASKS_PER_NODE=2(x2)", "slurm", "SLURM_TASKS_PER_NODE", "SLURM_NODEID is 9"},
		{"SLURM_STEP_ID=0 SLURM_PROCID=1 SLURM_NTASKS=4 MASTER_ADDR=-oProxyCommand", "slurm", "MASTER_ADDR", "not a host"},
		{"SLURM_STEP_ID=0 SLURM_PROCID=1 SLURM_NTASKS=4 MASTER_ADDR=h MASTER_PORT=70000", "slurm", "MASTER_PORT", "1 to 65535"},
		{"OMPI_COMM_WORLD_RANK=1", "openmpi", "OMPI_COMM_WORLD_SIZE", "is not set"},
		{"OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=2", "openmpi", "MASTER_ADDR", "is not set"},
		{"OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=2 OMPI_COMM_WORLD_LOCAL_RANK=2 OMPI_COMM_WORLD_LOCAL_SIZE=2", "openmpi", "OMPI_COMM_WORLD_RANK", "locally this is 2 of 2"},
		{"OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE=2 OMPI_MCA_orte_hnp_uri=1.0;tcp://10.0.0.1:4 OMPI_MCA_orte_local_daemon_uri=1.1;tcp://10.0.0.2:4",
			"openmpi", "MASTER_ADDR", "10.0.0.2"},
		{"PMI_ID=1", "mpich", "PMI_SIZE", "is not set"},
		{"PMI_RANK=0 PMI_SIZE=2 MPI_LOCALRANKID=0 MPI_LOCALNRANKS=1", "mpich", "MASTER_ADDR", "MPICH does not say"},
		{"RANK=0 WORLD_SIZE=2", "torchrun", "MASTER_ADDR", "is not set"},
		{"RANK=gold WORLD_SIZE=2", "torchrun", "RANK", `"gold"`},
		{"RANK=0 WORLD_SIZE=1000001", "torchrun", "WORLD_SIZE", "1000000"},
		{"TORCHELASTIC_RUN_ID=7", "torchrun", "RANK", "not both"},
		{"COVEY_WORKERS=3", "kubernetes", "JOB_COMPLETION_INDEX", "completionMode: Indexed"},
		{"COVEY_WORKERS=3 JOB_COMPLETION_INDEX=0", "kubernetes", "COVEY_SERVICE", "headless"},
		{"COVEY_WORKERS=3 JOB_COMPLETION_INDEX=1 COVEY_SERVICE=s HOSTNAME=x-2", "kubernetes", "COVEY_JOB", `"x-2"`},
		{"COVEY_WORKERS=3 JOB_COMPLETION_INDEX=1 COVEY_SERVICE=a/b COVEY_JOB=x", "kubernetes", "COVEY_SERVICE", "not a host"},
		{"COVEY_WORKERS=3 JOB_COMPLETION_INDEX=3 COVEY_SERVICE=s COVEY_JOB=x", "kubernetes", "JOB_COMPLETION_INDEX", "expected 0 to 2"},
	} {
		p, err := Detect(lines(nil, c.env))
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("%s: %v, %v: expected an error", c.env, show(p), err)
			continue
		}
		if e.Launcher != c.launcher || e.Variable != c.variable || !strings.Contains(e.Error(), c.says) {
			t.Errorf("%s: %v\nwant %s %s ... %s", c.env, err, c.launcher, c.variable, c.says)
		}
		if c.launcher != "" && !strings.Contains(e.Error(), "COVEY_LAUNCHER=none") {
			t.Errorf("%s: %v: does not say how to go on without", c.env, err)
		}
	}
}

// Where two launchers say different things and neither is known to be inside the other, nobody guesses.
func TestConflicts(t *testing.T) {
	ompi := "OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=2 OMPI_COMM_WORLD_LOCAL_RANK=1 OMPI_COMM_WORLD_LOCAL_SIZE=2 "
	torch := "RANK=0 WORLD_SIZE=3 MASTER_ADDR=h "
	for _, c := range []struct{ env, choice, want string }{
		{torch + ompi, "torchrun", "torchrun 0/3"},
		{torch + ompi, "openmpi", "openmpi 1/2"},
		{ompi + "PMI_RANK=0 PMI_SIZE=2 MPI_LOCALRANKID=0 MPI_LOCALNRANKS=2", "mpich", "mpich 0/2"},
		{torch + "SLURM_STEP_ID=0 SLURM_PROCID=1 SLURM_NTASKS=4", "slurm", "slurm 1/4"},
	} {
		if p, err := Detect(lines(nil, c.env)); err == nil || !strings.Contains(err.Error(), "COVEY_LAUNCHER") || !strings.Contains(err.Error(), c.choice) {
			t.Errorf("%s: %v, %v: expected an error that offers %s", c.env, show(p), err, c.choice)
		}
		p, err := Detect(lines(nil, c.env+" COVEY_LAUNCHER="+c.choice))
		if err != nil || !strings.HasPrefix(show(p), c.want) {
			t.Errorf("%s with %s: %v, %v; want %s", c.env, c.choice, show(p), err, c.want)
		}
	}
}

// Slurm's jobs get ports of their own: ten thousand jobs in a row, and the steps of one.
func TestPortsOfSlurmJobs(t *testing.T) {
	seen := map[int]string{}
	add := func(job string) {
		p := portOf(job)
		if p < firstPort || p >= firstPort+ports {
			t.Fatalf("%s: port %d", job, p)
		}
		if seen[p] != "" {
			t.Errorf("%s and %s share port %d", job, seen[p], p)
		}
		seen[p] = job
	}
	for i := range ports {
		add(fmt.Sprintf("%d.0", 7_654_321+i))
	}
	clear(seen)
	for i := range 100 {
		add(fmt.Sprintf("99.%d", i))
	}
}

func TestNodes(t *testing.T) {
	for _, c := range []struct{ list, want string }{
		{"vm", "vm"},
		{"a,b", "a b"},
		{"node[01-04,7],gpu1", "node01 node02 node03 node04 node7 gpu1"},
		{"n[9-11]", "n9 n10 n11"},
		{"n[098-101]", "n098 n099 n100 n101"},
		{"rack[0-1]n[1,3]", "rack0n1 rack0n3 rack1n1 rack1n3"},
		{"c[1-2]-ib.site", "c1-ib.site c2-ib.site"},
		{"[1-2]x", "1x 2x"},
	} {
		got, err := Nodes(c.list)
		if err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v, %v; want %s", c.list, got, err, c.want)
		}
		if first, err := FirstNode(c.list); err != nil || first != got[0] {
			t.Errorf("%s: first %q, %v", c.list, first, err)
		}
	}
	for list, says := range map[string]string{
		"": "empty name", ",a": "empty name", "a,": "empty name", "a[": "no ]", "a[1-": "no ]", "a[]": "in brackets", "a[2-1]": "in brackets",
		"a[x]": "in brackets", "a[1-2-3]": "in brackets", "a[1,,2]": "in brackets", "a b": "in a name", "a]": "in a name", "-a": "begins with -",
		"a[0-99999999]": "more than", "a[0-999]b[0-999]": "more than", "a[1234567890]": "in brackets",
		strings.Repeat("a", 254): "longer", strings.Repeat("a,", 40_000): "bytes", "a[0-65535],b": "more than",
	} {
		if got, err := Nodes(list); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%.20s: %d nodes, %v; want an error with %q", list, len(got), err, says)
		}
	}
}

func FuzzNodes(f *testing.F) {
	for _, s := range []string{"vm", "node[01-04,7],gpu1", "rack[0-1]n[1,3]x", "a[", "a[0-99999999]", ",", "[1]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, list string) {
		all, err := Nodes(list)
		first, err1 := FirstNode(list)
		if (err == nil) != (err1 == nil) {
			t.Fatalf("Nodes: %v, FirstNode: %v", err, err1)
		}
		if err != nil {
			return
		}
		if len(all) == 0 || len(all) > maxNodes || all[0] != first {
			t.Fatalf("%d nodes, first %q", len(all), first)
		}
		for _, n := range all {
			if checkHost(n) != nil {
				t.Fatalf("%q is no host's name", n)
			}
		}
		again, err := Nodes(strings.Join(all, ","))
		if len(strings.Join(all, ",")) <= maxList && (err != nil || !slices.Equal(again, all)) {
			t.Fatalf("%v read again: %v, %v", all, again, err)
		}
	})
}

// Whatever the variables hold, a place that comes out is one.
func FuzzDetect(f *testing.F) {
	names := []string{"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE",
		"OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE", "OMPI_MCA_orte_hnp_uri", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS",
		"SLURM_STEP_ID", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_STEP_TASKS_PER_NODE", "SLURM_STEP_NODELIST",
		"SLURM_JOB_ID", "JOB_COMPLETION_INDEX", "COVEY_WORKERS", "COVEY_SERVICE", "COVEY_JOB", "HOSTNAME"}
	f.Add("1\n2")
	f.Add(strings.Repeat("\n", 15) + "0\n1\n4\n1\n0\n4\nn[1-2]\n77")
	f.Add(strings.Repeat("\n", 6) + "1\n2\n1\n2\n1.0;tcp://10.0.0.1:4")
	f.Add(strings.Repeat("\n", 23) + "1\n2\ns\nj")
	f.Fuzz(func(t *testing.T, text string) {
		values := strings.Split(text, "\n")
		p, err := Detect(func(name string) string {
			if i := slices.Index(names, name); i >= 0 && i < len(values) {
				return values[i]
			}
			return ""
		})
		if err != nil || p == nil {
			return
		}
		if p.Rank < 0 || p.Rank >= p.Size || p.LocalRank < 0 || p.LocalSize > p.Size || p.LocalRank > max(0, p.LocalSize-1) || p.Port < 1 || p.Port > 65535 || checkHost(p.Address) != nil {
			t.Fatalf("%+v", *p)
		}
	})
}

func Example() {
	vars := map[string]string{"SLURM_JOB_ID": "4711", "SLURM_STEP_ID": "0", "SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_LOCALID": "1",
		"SLURM_NODEID": "1", "SLURM_STEP_TASKS_PER_NODE": "4(x2)", "SLURM_STEP_NODELIST": "node[07-08]"}
	p, err := Detect(func(name string) string { return vars[name] })
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%v, local %d of %d; rank 0 is at %s:%d\n", p, p.LocalRank, p.LocalSize, p.Address, p.Port)
	// Output: slurm: rank 5 of 8 of job 4711.0, local 1 of 4; rank 0 is at node07:24711
}
