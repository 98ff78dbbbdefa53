//go:build integration

package integration

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/covey-ml/covey/cluster/place"
)

// slurmCluster is a Slurm on this host: its own munged, slurmctld and slurmd on ports of their own, beside whatever the host has.
type slurmCluster struct {
	dir string
	env []string // what its commands need
}

const (
	slurmStart = time.Minute     // for the daemons to come up
	slurmStep  = 2 * time.Minute // for a command that has no deadline of its own
)

// slurm starts a cluster of nodes node1, node2 and so on, all on this host, and ends it with the test. Each claims eight processors,
// whatever the host has. The host's resolver does not know those names.
func slurm(t *testing.T, nodes int) *slurmCluster {
	t.Helper()
	for _, program := range []string{"munged", "slurmctld", "slurmd", "srun"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%v: make integration installs it", err)
		}
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	short, _, _ := strings.Cut(host, ".")
	// A socket's path is at most 108 bytes long, and munged wants folders that nobody else writes to.
	dir, err := os.MkdirTemp("", "slurm")
	if err != nil {
		t.Fatal(err)
	}
	s := &slurmCluster{dir: dir, env: append(os.Environ(), "SLURM_CONF="+filepath.Join(dir, "slurm.conf"))}
	t.Cleanup(func() { os.RemoveAll(dir) })
	key := make([]byte, 1024)
	rand.Read(key)
	ports := freePorts(t, 1+nodes)
	conf := fmt.Sprintf(`ClusterName=covey
SlurmctldHost=%[2]s(127.0.0.1)
SlurmctldPort=%[3]d
AuthType=auth/munge
AuthInfo=socket=%[1]s/munge.sock
CredType=cred/munge
SlurmUser=root
StateSaveLocation=%[1]s/state
SlurmdSpoolDir=%[1]s/spool-%%n
SlurmctldPidFile=%[1]s/slurmctld.pid
SlurmdPidFile=%[1]s/slurmd-%%n.pid
# A container has no cgroups to give, and fewer processors than tasks.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
KillWait=10
MailProg=/bin/true
PartitionName=test Nodes=ALL Default=YES State=UP MaxTime=INFINITE
`, dir, short, ports[0])
	for i, port := range ports[1:] {
		conf += fmt.Sprintf("NodeName=node%d NodeHostname=%s NodeAddr=127.0.0.1 Port=%d CPUs=8\n", i+1, short, port)
	}
	for _, err := range []error{
		os.Chmod(dir, 0o755), os.Mkdir(filepath.Join(dir, "state"), 0o755),
		os.WriteFile(filepath.Join(dir, "munge.key"), key, 0o600), os.WriteFile(filepath.Join(dir, "slurm.conf"), []byte(conf), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	munged := s.daemon(t, "munged", "--foreground", "--force", "--key-file="+in("munge.key"), "--socket="+in("munge.sock"),
		"--pid-file="+in("munged.pid"), "--log-file="+in("munge.log"), "--seed-file="+in("munge.seed"))
	s.until(t, "munged listens", func() bool {
		_, err := os.Stat(in("munge.sock"))
		return err == nil
	}, munged)
	control := s.daemon(t, "slurmctld", "-D", "-c", "-f", in("slurm.conf"))
	daemons := []*daemon{munged, control}
	for i := range nodes {
		daemons = append(daemons, s.daemon(t, "slurmd", "-D", "-f", in("slurm.conf"), "-N", fmt.Sprintf("node%d", i+1)))
	}
	s.until(t, "all nodes are idle", func() bool {
		out, _ := s.command(context.Background(), "sinfo", "-h", "-N", "-o", "%T").Output()
		return strings.TrimSpace(string(out)) == strings.TrimSpace(strings.Repeat("idle\n", nodes))
	}, daemons...)
	return s
}

// daemon is a program in the foreground, which ends with the test; its output is shown when the test has failed.
type daemon struct {
	name  string
	out   bytes.Buffer
	ended chan struct{}
}

func (s *slurmCluster) daemon(t *testing.T, name string, args ...string) *daemon {
	t.Helper()
	return startDaemon(t, s.env, name, args...)
}

func startDaemon(t *testing.T, env []string, name string, args ...string) *daemon {
	t.Helper()
	d := &daemon{name: name, ended: make(chan struct{})}
	cmd := exec.Command(name, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = env, &d.out, &d.out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		cmd.Wait()
		close(d.ended)
	}()
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		select {
		case <-d.ended:
		case <-time.After(15 * time.Second):
			cmd.Process.Kill()
			<-d.ended
		}
		if t.Failed() {
			t.Logf("%s:\n%s", name, d.out.Bytes())
		}
	})
	return d
}

// until waits for what daemons do, as long as they run.
func (s *slurmCluster) until(t *testing.T, what string, done func() bool, daemons ...*daemon) {
	t.Helper()
	until(t, slurmStart, what, done, daemons...)
}

func until(t *testing.T, limit time.Duration, what string, done func() bool, daemons ...*daemon) {
	t.Helper()
	for end := time.Now().Add(limit); !done(); time.Sleep(50 * time.Millisecond) {
		for _, d := range daemons {
			select {
			case <-d.ended:
				t.Fatalf("%s ended before %s", d.name, what)
			default:
			}
		}
		if time.Now().After(end) {
			t.Fatalf("%v went by before %s", limit, what)
		}
	}
}

// command is one that talks to this cluster.
func (s *slurmCluster) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = s.env
	return cmd
}

// run runs a command of the cluster to its end and returns what it printed; it fails the test where the command fails.
func (s *slurmCluster) run(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), slurmStep)
	defer cancel()
	cmd := s.command(ctx, name, args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, errs.Bytes())
	}
	return string(out)
}

// freePorts are ports that nothing listens at just now.
func freePorts(t *testing.T, n int) (ports []int) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

// placesOf reads what several processes printed of their environments, each line KEY=VALUE after MARK and the process's number.
func placesOf(t *testing.T, out string) (all []*place.Place) {
	t.Helper()
	envs := map[string]map[string]string{}
	line := regexp.MustCompile(`^ENV (\d+) (\w+)=(.*)$`)
	for text := range strings.Lines(out) {
		if m := line.FindStringSubmatch(strings.TrimRight(text, "\r\n")); m != nil {
			if envs[m[1]] == nil {
				envs[m[1]] = map[string]string{}
			}
			envs[m[1]][m[2]] = m[3]
		}
	}
	for pid, env := range envs {
		p, err := place.Detect(func(name string) string { return env[name] })
		if err != nil {
			t.Fatalf("process %s: %v", pid, err)
		}
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *place.Place) int { return rankOf(a) - rankOf(b) })
	return all
}

func rankOf(p *place.Place) int {
	if p == nil {
		return -1
	}
	return p.Rank
}

// printEnv has a shell print its environment for placesOf: the variables of launchers alone, on lines of their own.
const printEnv = `env | grep -E '^(SLURMD?|PMI|PMIX|OMPI|MPI|COVEY|MASTER|RANK|WORLD)[A-Za-z_]*=' | sed "s/^/ENV $$ /"`

// checkPlaces expects ranks 0 to n-1 of n on this host, which agree on where rank 0 is.
func checkPlaces(t *testing.T, launcher string, n int, all []*place.Place) {
	t.Helper()
	if len(all) != n {
		t.Fatalf("%d processes told their environments, expected %d", len(all), n)
	}
	for r, p := range all {
		if p == nil {
			t.Fatalf("process %d has no place", r)
		}
		if p.Launcher != launcher || p.Rank != r || p.Size != n || p.LocalRank != r || p.LocalSize != n || p.Address != "127.0.0.1" || p.Port != all[0].Port || p.Job != all[0].Job {
			t.Errorf("rank %d is %+v", r, *p)
		}
	}
}

// The rig works: a step's tasks run, and each finds its place; what is no task finds none.
func TestSlurmPlaces(t *testing.T) {
	s := slurm(t, 1)
	if out := s.run(t, "srun", "-n", "4", "hostname"); strings.Count(out, "\n") != 4 {
		t.Fatalf("srun -n 4 hostname: %q", out)
	}
	out := s.run(t, "srun", "-n", "4", "sh", "-c", printEnv)
	t.Logf("\n%s", out)
	checkPlaces(t, place.Slurm, 4, placesOf(t, out))
	checkPlaces(t, place.Slurm, 2, placesOf(t, s.run(t, "srun", "--mpi=pmi2", "-n", "2", "sh", "-c", printEnv)))

	if all := placesOf(t, s.run(t, "salloc", "-Q", "-n", "3", "sh", "-c", printEnv)); len(all) != 1 || all[0] != nil {
		t.Errorf("in salloc: %v", all)
	}
	// A batch script is no task, also where it inherits a task's variables; its steps are, of their own number.
	script := filepath.Join(s.dir, "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"+printEnv+"\nsrun -n 2 sh -c '"+strings.ReplaceAll(printEnv, "'", `'\''`)+"'\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for i, submit := range [][]string{{"sbatch"}, {"srun", "-n", "1", "sbatch"}} {
		printed := filepath.Join(s.dir, "printed"+strconv.Itoa(i))
		s.run(t, submit[0], append(submit[1:], "-W", "-n", "3", "-o", printed, script)...)
		text, err := os.ReadFile(printed)
		if err != nil {
			t.Fatal(err)
		}
		all := placesOf(t, string(text))
		if len(all) != 3 || all[0] != nil {
			t.Fatalf("%v: %v\n%s", submit, all, text)
		}
		checkPlaces(t, place.Slurm, 2, all[1:])
	}
}

// On two nodes, rank 0 is on the first, and the tasks of each are counted.
func TestSlurmPlacesOnTwoNodes(t *testing.T) {
	s := slurm(t, 2)
	all := placesOf(t, s.run(t, "srun", "-N", "2", "-n", "3", "--distribution=block", "sh", "-c", printEnv))
	if len(all) != 3 || slices.Contains(all, nil) {
		t.Fatalf("places %v", all)
	}
	for r, want := range []place.Place{{LocalRank: 0, LocalSize: 2, Host: "node1"}, {LocalRank: 1, LocalSize: 2, Host: "node1"}, {LocalRank: 0, LocalSize: 1, Host: "node2"}} {
		want.Launcher, want.Rank, want.Size, want.Address, want.Port, want.Job = place.Slurm, r, 3, "node1", all[0].Port, all[0].Job
		if *all[r] != want {
			t.Errorf("got  %+v\nwant %+v", *all[r], want)
		}
	}
	// A step of fewer nodes than the job has its own first.
	script := filepath.Join(s.dir, "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\nsrun -n 2 -N 1 -w node2 sh -c '"+strings.ReplaceAll(printEnv, "'", `'\''`)+"'\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	s.run(t, "sbatch", "-W", "-N", "2", "--ntasks-per-node=2", "-o", filepath.Join(s.dir, "printed"), script)
	text, err := os.ReadFile(filepath.Join(s.dir, "printed"))
	if err != nil {
		t.Fatal(err)
	}
	checkPlaces(t, place.Slurm, 2, placesOf(t, string(text)))
}

// mpirun of Open MPI and of MPICH, alone and within a Slurm job, whose variables their processes have, too.
func TestMPIPlaces(t *testing.T) {
	s := slurm(t, 1)
	for launcher, args := range map[string][]string{
		place.OpenMPI: {"mpirun.openmpi", "--allow-run-as-root", "--oversubscribe", "-n", "3", "sh", "-c", printEnv},
		place.MPICH:   {"mpiexec.hydra", "-n", "3", "sh", "-c", printEnv},
	} {
		if _, err := exec.LookPath(args[0]); err != nil {
			t.Fatalf("%v: make integration installs it", err)
		}
		checkPlaces(t, launcher, 3, placesOf(t, s.run(t, args[0], args[1:]...)))
		checkPlaces(t, launcher, 3, placesOf(t, s.run(t, "salloc", append([]string{"-Q", "-n", "4"}, args...)...)))
	}
}
