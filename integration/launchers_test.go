//go:build integration

package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// The launchers train one job. It is small, and eight microshards give it the same weights with any number of workers.
var launched = []string{"train", "--json", "--quiet", "--data", "digits:train=800,test=200", "--model", "mlp:16", "--epochs", "2", "--batch", "80", "--microshards", "8", "--run", "run"}

// launchedWeights are those of the launchers' job on goroutines.
var launchedWeights = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "covey-launched")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	cmd := exec.Command(covey, append(launched[:len(launched):len(launched)], "--transport", "inproc")...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		return "", err
	}
	var r result
	err = json.Unmarshal(out, &r)
	return r.Weights, err
})

const launchLimit = 4 * time.Minute // for a whole launch

// launch runs a launcher that starts the job and its arguments, and wants the first worker's report, alone, with the weights of
// goroutines.
func launch(t *testing.T, workers int, transport string, env []string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), launchLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // so that what it started ends, too
	cmd.WaitDelay = 15 * time.Second
	cmd.Dir = t.TempDir()
	cmd.Env = append(append(os.Environ(), "HOME="+cmd.Dir, "XDG_CONFIG_HOME="+cmd.Dir), env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(args, " "), err, out.Bytes(), errs.Bytes())
	}
	checkLaunched(t, strings.Join(args, " "), workers, transport, filepath.Join(cmd.Dir, "run"), out.Bytes())
}

// checkLaunched holds a report to what the launchers' job has to come to, and its run folder to be there, once.
func checkLaunched(t *testing.T, what string, workers int, transport, folder string, report []byte) {
	t.Helper()
	want, err := launchedWeights()
	if err != nil {
		t.Fatal(err)
	}
	var r result
	if err := json.Unmarshal(report, &r); err != nil {
		t.Fatalf("%s: %v in %q", what, err, report)
	}
	if r.Weights != want || r.Workers != workers || r.Transport != transport {
		t.Errorf("%s: %d workers over %s end with weights %.12s, expected %d over %s and %.12s", what, r.Workers, r.Transport, r.Weights, workers, transport, want)
	}
	if r.BytesSent != r.BytesExpected || r.BytesSent == 0 {
		t.Errorf("%s: %d bytes sent, %d expected", what, r.BytesSent, r.BytesExpected)
	}
	saved, err := os.ReadFile(filepath.Join(folder, "report.json"))
	if err != nil || !bytes.Contains(saved, []byte(want)) {
		t.Errorf("%s: the run folder's report: %v\n%s", what, err, saved)
	}
}

// need ends a test whose program nobody has installed.
func need(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Fatalf("%v: integration/setup.sh installs it", err)
	}
}

// The tasks of a step of Slurm train together, on one node and on two, whose names the resolver of this host does not know.
func TestSrunTrains(t *testing.T) {
	s := slurm(t, 2)
	env := []string{"SLURM_CONF=" + filepath.Join(s.dir, "slurm.conf")}
	launch(t, 4, "tcp", env, append([]string{"srun", "-N", "1", "-n", "4", covey}, launched...)...)
	env = append(env, "MASTER_ADDR=127.0.0.1")
	launch(t, 3, "tcp", env, append([]string{"srun", "-N", "2", "-n", "3", "--distribution=block", covey}, launched...)...)
}

// The processes of mpirun train together: of either library from its environment alone, and over it where covey was built with it.
func TestMpirunTrains(t *testing.T) {
	for _, library := range mpiLibraries {
		run := map[string][]string{
			"openmpi": {"mpirun.openmpi", "--allow-run-as-root", "--oversubscribe", "-n", "4"},
			"mpich":   {"mpirun.mpich", "-n", "4"},
		}[library]
		need(t, run[0])
		launch(t, 4, "tcp", nil, append(append(run[:len(run):len(run)], covey), launched...)...)
		with := append(append(run[:len(run):len(run)], mpiBuild(t, library, "build", "../cmd/covey")), launched...)
		launch(t, 4, "mpi", nil, append(with, "--transport", "mpi")...)
	}
}

// rankedRun starts a program once for each rank, with an environment of its own, and returns what rank 0 printed.
func rankedRun(t *testing.T, n int, env func(rank int) []string, args ...string) (first []byte, dir string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), launchLimit)
	defer cancel()
	dir = t.TempDir()
	outs, errs, fails := make([]bytes.Buffer, n), make([]bytes.Buffer, n), make([]error, n)
	var all sync.WaitGroup
	for rank := range n {
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &outs[rank], &errs[rank]
		cmd.Env = append(append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+dir), env(rank)...)
		all.Go(func() { fails[rank] = cmd.Run() })
	}
	all.Wait()
	if err := errors.Join(fails...); err != nil {
		for rank := range n {
			t.Logf("rank %d: %v\n%s%s", rank, fails[rank], outs[rank].Bytes(), errs[rank].Bytes())
		}
		t.Fatal(err)
	}
	for rank := 1; rank < n; rank++ {
		if outs[rank].Len() > 0 || errs[rank].Len() > 0 {
			t.Errorf("rank %d has something to say: %s%s", rank, outs[rank].Bytes(), errs[rank].Bytes())
		}
	}
	return outs[0].Bytes(), dir
}

// Processes with the variables of torchrun train together, also where they do not say which of them are on one host.
func TestTorchrunTrains(t *testing.T) {
	port := freePorts(t, 1)[0]
	for _, local := range []bool{true, false} {
		out, dir := rankedRun(t, 4, func(rank int) []string {
			env := []string{fmt.Sprintf("RANK=%d", rank), "WORLD_SIZE=4", "MASTER_ADDR=127.0.0.1", fmt.Sprintf("MASTER_PORT=%d", port)}
			if local {
				env = append(env, fmt.Sprintf("LOCAL_RANK=%d", rank), "LOCAL_WORLD_SIZE=4")
			}
			return env
		}, append([]string{covey}, launched...)...)
		checkLaunched(t, fmt.Sprintf("torchrun's environment (local ranks: %v)", local), 4, "tcp", filepath.Join(dir, "run"), out)
	}
}

// Beyond loopback the processes show each other certificates, which are for the address by which the first is known and no other.
func TestTorchrunTrainsBeyondLoopback(t *testing.T) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	at := ""
	for _, a := range addrs {
		if ip, ok := a.(*net.IPNet); ok && ip.IP.To4() != nil && !ip.IP.IsLoopback() {
			at = ip.IP.String()
		}
	}
	if at == "" {
		t.Fatal("this host has no address but loopback")
	}
	certs := filepath.Join(t.TempDir(), "certs")
	must(t, covey, "ca", "init", certs)
	must(t, covey, "ca", "issue", certs, "here", at)
	program, alone := everywhere(t)
	port := freePorts(t, 1)[0]
	env := func(rank int) []string {
		return []string{fmt.Sprintf("RANK=%d", rank), "WORLD_SIZE=3", "MASTER_ADDR=" + at, fmt.Sprintf("MASTER_PORT=%d", port), "COVEY_TLS=" + certs}
	}
	out, dir := rankedRun(t, 3, env, append([]string{covey}, append(launched[:len(launched):len(launched)], "--tls", certs)...)...)
	checkLaunched(t, "torchrun's environment beyond loopback", 3, "tcp", filepath.Join(dir, "run"), out)
	if out, _ := rankedRun(t, 3, env, program); string(out) != alone {
		t.Errorf("a program prints %q, alone %q", out, alone)
	}
}
