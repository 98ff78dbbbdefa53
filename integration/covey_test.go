//go:build integration

// Package integration runs the covey command as its users do, beside the programs that it is compared with. Run it with
// make integration, which installs those; what is missing is a failure here, never a skip.
package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/internal/realdata"
)

var covey string // the binary under test

func TestMain(m *testing.M) {
	if certs := os.Getenv(farEnv); certs != "" {
		if _, err := linkSide(certs, 1); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	dir, err := os.MkdirTemp("", "covey-integration")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	covey = filepath.Join(dir, "covey")
	if err := build(covey, "amd64"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

func build(out, arch string) error {
	cmd := exec.Command("go", "build", "-o", out, "../cmd/covey")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building for %s: %w\n%s", arch, err, text)
	}
	return nil
}

// result is the part of the JSON report that the tests read.
type result struct {
	Accuracy      float64
	Loss          float64
	Objective     float64
	Steps         int
	Workers       int
	Transport     string
	BytesSent     int64  `json:"bytes_sent"`
	BytesExpected int64  `json:"bytes_expected"`
	BytesControl  int64  `json:"bytes_control"`
	BytesSocket   *int64 `json:"bytes_socket"`
	Weights       string `json:"weights_sha256"`
	Reproducible  string
	Run           string
}

// run is a covey command under way or done.
type run struct {
	*exec.Cmd
	out, err bytes.Buffer
	dir      string
}

func command(t *testing.T, args ...string) *run {
	t.Helper()
	r := &run{Cmd: exec.Command(covey, args...), dir: t.TempDir()}
	r.Dir, r.Stdout, r.Stderr = r.dir, &r.out, &r.err
	t.Cleanup(func() {
		if r.Process != nil && r.ProcessState == nil {
			r.Process.Kill()
			r.Wait()
		}
	})
	return r
}

// code runs the command to its end, within two minutes, and returns its exit code.
func (r *run) code(t *testing.T) int {
	t.Helper()
	if r.Process == nil {
		if err := r.Start(); err != nil {
			t.Fatal(err)
		}
	}
	timer := time.AfterFunc(4*time.Minute, func() { r.Process.Signal(syscall.SIGQUIT) })
	defer timer.Stop()
	r.Wait()
	return r.ProcessState.ExitCode()
}

// train runs covey train --json and returns its report.
func train(t *testing.T, args ...string) result {
	t.Helper()
	r := command(t, append([]string{"train", "--json", "--quiet"}, args...)...)
	if c := r.code(t); c != 0 {
		t.Fatalf("covey train %s: exit code %d\n%s", strings.Join(args, " "), c, r.err.String())
	}
	var out result
	if err := json.Unmarshal(r.out.Bytes(), &out); err != nil {
		t.Fatalf("%v in %q", err, r.out.String())
	}
	out.Run = filepath.Join(r.dir, out.Run)
	return out
}

// The main job: its accuracy, its books, and inference from what it leaves.
func TestMNIST(t *testing.T) {
	mnist := realdata.Need(t, "mnist")
	r := train(t, "--data", mnist, "--model", "mlp:128", "--workers", "2", "--epochs", "5", "--batch", "256", "--optimizer", "adam", "--lr", "0.001")
	if r.Accuracy < 0.962 {
		t.Errorf("accuracy %v, expected at least 0.962", r.Accuracy)
	}
	if r.BytesSent != r.BytesExpected || r.BytesSent == 0 {
		t.Errorf("%d bytes sent, %d expected", r.BytesSent, r.BytesExpected)
	}
	p := command(t, "predict", r.Run, "--data", mnist)
	if c := p.code(t); c != 0 {
		t.Fatalf("predict: exit code %d\n%s", c, p.err.String())
	}
	if want := fmt.Sprintf("%.2f %%", 100*r.Accuracy); !strings.Contains(p.out.String(), want) {
		t.Errorf("predict does not say the run's accuracy of %s:\n%s", want, p.out.String())
	}
}

// One job on three transports with one to four workers: twelve runs, one hash, and books that close.
func TestTwelveRunsOneHash(t *testing.T) {
	mnist := realdata.Need(t, "mnist")
	var first result
	for _, transport := range []string{"inproc", "shm", "tcp"} {
		for workers := 1; workers <= 4; workers++ {
			r := train(t, "--data", mnist, "--model", "mlp:128", "--epochs", "1", "--microshards", "12",
				"--transport", transport, "--workers", strconv.Itoa(workers))
			if first.Weights == "" {
				first = r
			}
			if r.Weights != first.Weights || r.Accuracy != first.Accuracy || r.Loss != first.Loss {
				t.Errorf("%d workers over %s: weights %.12s accuracy %v loss %v; the first run's: %.12s %v %v", workers, transport,
					r.Weights, r.Accuracy, r.Loss, first.Weights, first.Accuracy, first.Loss)
			}
			if r.Transport != transport || r.Workers != workers {
				t.Errorf("the report says %d workers over %s", r.Workers, r.Transport)
			}
			if r.BytesSent != r.BytesExpected {
				t.Errorf("%d workers over %s: %d bytes sent, %d expected", workers, transport, r.BytesSent, r.BytesExpected)
			}
			if transport == "tcp" && (r.BytesSocket == nil || *r.BytesSocket != r.BytesSent+r.BytesControl) {
				t.Errorf("%d workers: %v bytes at the sockets, %d sent and %d of control", workers, r.BytesSocket, r.BytesSent, r.BytesControl)
			}
		}
	}
	ring := train(t, "--data", mnist, "--epochs", "1", "--microshards", "12", "--workers", "3", "--algorithm", "ring")
	if !strings.Contains(ring.Reproducible, "at 3 workers only") {
		t.Errorf("the ring's report says: %s", ring.Reproducible)
	}
	if ring.BytesSent != ring.BytesExpected {
		t.Errorf("ring: %d bytes sent, %d expected", ring.BytesSent, ring.BytesExpected)
	}
}

// pids reads the workers' process numbers from what the launcher says.
func (r *run) pids(t *testing.T, n int, until string) []int {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for time.Now().Before(deadline) {
		text := r.progress()
		if !strings.Contains(text, until) {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		var pids []int
		for line := range strings.Lines(text) {
			var rank, pid int
			if k, _ := fmt.Sscanf(line, "worker %d is process %d", &rank, &pid); k == 2 {
				pids = append(pids, pid)
			}
		}
		if len(pids) != n {
			t.Fatalf("%d workers, expected %d:\n%s", len(pids), n, text)
		}
		return pids
	}
	t.Fatalf("the run did not come to %q:\n%s", until, r.progress())
	return nil
}

// checkpoint waits until the run has saved one.
func (r *run) checkpoint(t *testing.T, folder string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if _, _, err := ckpt.Latest(filepath.Join(r.dir, folder)); err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no checkpoint in a minute:\n%s", r.progress())
		}
	}
}

// progress is what the command has said so far: it writes to a file while it runs.
func (r *run) progress() string {
	b, err := os.ReadFile(filepath.Join(r.dir, "stderr"))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func (r *run) start(t *testing.T) {
	t.Helper()
	f, err := os.Create(filepath.Join(r.dir, "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r.Stderr = f
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

// Kill -9 one of four workers in the middle: the others say who, in what and when, and end within five seconds; nothing
// is left behind, and the run goes on from its last checkpoint to the calm run's weights.
func TestKilledWorker(t *testing.T) {
	job := []string{"--data", "digits:train=4000,test=500", "--model", "mlp:256", "--microshards", "4", "--save", "5", "--batch", "128", "--epochs", "40", "--timeout", "20s"}
	calm := train(t, append(job, "--workers", "1")...)
	for _, transport := range []string{"shm", "tcp"} {
		for _, victim := range []int{0, 2} {
			t.Run(fmt.Sprintf("%s-%d", transport, victim), func(t *testing.T) {
				r := command(t, append([]string{"train", "--workers", "4", "--transport", transport, "--run", "r"}, job...)...)
				r.start(t)
				pids := r.pids(t, 4, "epoch ")
				r.checkpoint(t, "r")
				if err := syscall.Kill(pids[victim], syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
				killed := time.Now()
				code := r.code(t)
				if took := time.Since(killed); took > 5*time.Second {
					t.Errorf("the others took %v to end", took)
				}
				said := r.progress()
				if code != 4 {
					t.Errorf("exit code %d\n%s", code, said)
				}
				for _, want := range []string{fmt.Sprintf("worker %d (process %d) was lost: signal: killed", victim, pids[victim]),
					fmt.Sprintf("rank %d failed in ", victim), " at step "} {
					if !strings.Contains(said, want) {
						t.Errorf("nobody says %q:\n%s", want, said)
					}
				}
				for _, pid := range pids {
					if alive(pid) {
						t.Errorf("process %d is still there", pid)
					}
				}
				if left, _ := filepath.Glob("/dev/shm/*covey*"); len(left) > 0 {
					t.Errorf("left behind: %v", left)
				}
				on := command(t, "train", "--resume", filepath.Join(r.dir, "r"), "--workers", "2", "--json", "--quiet")
				if c := on.code(t); c != 0 {
					t.Fatalf("resume: exit code %d\n%s", c, on.err.String())
				}
				var out result
				if err := json.Unmarshal(on.out.Bytes(), &out); err != nil {
					t.Fatal(err)
				}
				if out.Weights != calm.Weights || out.Steps != calm.Steps {
					t.Errorf("resumed to step %d, weights %.12s; the calm run's %d, %.12s", out.Steps, out.Weights, calm.Steps, calm.Weights)
				}
			})
		}
	}
}

// Ctrl-C on the launcher: a checkpoint, exit code 130, and a resumed run with the calm one's weights.
func TestInterrupt(t *testing.T) {
	job := []string{"--data", "digits:train=4000,test=500", "--model", "mlp:256", "--microshards", "4", "--batch", "128", "--epochs", "30"}
	calm := train(t, append(job, "--workers", "1")...)
	for _, transport := range []string{"inproc", "shm", "tcp"} {
		r := command(t, append([]string{"train", "--workers", "3", "--transport", transport, "--run", "r"}, job...)...)
		r.start(t)
		n := 3
		if transport == "inproc" {
			n = 0
		}
		r.pids(t, n, "epoch ")
		r.Process.Signal(os.Interrupt)
		if c := r.code(t); c != 130 {
			t.Fatalf("%s: exit code %d\n%s", transport, c, r.progress())
		}
		on := command(t, "train", "--resume", "r", "--workers", "2", "--json", "--quiet")
		on.Dir = r.dir
		if c := on.code(t); c != 0 {
			t.Fatalf("%s: resume: exit code %d\n%s", transport, c, on.err.String())
		}
		var out result
		if err := json.Unmarshal(on.out.Bytes(), &out); err != nil {
			t.Fatal(err)
		}
		if out.Weights != calm.Weights {
			t.Errorf("%s: resumed weights %.12s, the calm run's %.12s", transport, out.Weights, calm.Weights)
		}
	}
}

// cpu is a process's processor time so far.
func cpu(t *testing.T, pid int) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+2:]))
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// Workers that wait, for others to join or for one that is stopped, burn no processor time to speak of.
func TestWaitingBurnsNothing(t *testing.T) {
	const watch = 3 * time.Second
	atRest := func(t *testing.T, pids []int, but int) {
		before := map[int]time.Duration{}
		for _, p := range pids {
			before[p] = cpu(t, p)
		}
		time.Sleep(watch) // what is measured is what happens in this time
		for i, p := range pids {
			if used := cpu(t, p) - before[p]; i != but && used > watch/20 {
				t.Errorf("worker %d used %v of processor time in %v of waiting", i, used, watch)
			}
		}
	}
	for _, transport := range []string{"shm", "tcp"} {
		t.Run(transport, func(t *testing.T) {
			r := command(t, "train", "--workers", "4", "--transport", transport, "--data", "digits:train=2000,test=100", "--epochs", "100000", "--timeout", "60s")
			r.start(t)
			pids := r.pids(t, 4, "epoch ")
			if err := syscall.Kill(pids[3], syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			defer syscall.Kill(pids[3], syscall.SIGKILL)
			time.Sleep(200 * time.Millisecond) // until the others have come to the end of their step
			atRest(t, pids, 3)
		})
	}
	t.Run("join", func(t *testing.T) {
		r := command(t, "train", "--workers", "3", "--join", "1", "--data", "digits:train=2000,test=100")
		r.start(t)
		pids := r.pids(t, 2, "waiting for 1 worker")
		time.Sleep(500 * time.Millisecond) // they start
		atRest(t, pids, -1)
		r.Process.Signal(os.Interrupt)
		if c := r.code(t); c != 130 {
			t.Errorf("exit code %d\n%s", c, r.progress())
		}
	})
}
