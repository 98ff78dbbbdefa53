//go:build integration

package integration

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/covey-ml/covey/cluster/hosts"
	"github.com/covey-ml/covey/comm"
)

// host is the rig in a file of hosts, with what ssh needs to reach it.
func (s *sshServer) host(t *testing.T, slots int) (file string, options []string) {
	t.Helper()
	file = filepath.Join(s.dir, "hosts")
	if err := os.WriteFile(file, []byte(fmt.Sprintf("rig slots=%d # by ssh's own configuration\n", slots)), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, []string{"-F", s.Config}
}

// ended waits for a worker on a host.
func ended(t *testing.T, p *hosts.Process) {
	t.Helper()
	select {
	case <-p.Ended():
	case <-time.After(time.Minute):
		p.Kill()
		t.Fatal("the worker did not end")
	}
}

// Workers over a real sshd: their environment comes whole and is on no command line, their exit code comes back, and they end when
// they are stopped, when ssh is killed, and when the server drops the connection.
func TestWorkersOverSSH(t *testing.T) {
	s := sshd(t)
	file, options := s.host(t, 3)
	all, err := hosts.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	places, err := hosts.Spread(all, 3)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	token := fmt.Sprintf("token-%d", os.Getpid())
	p, err := places[0].Start(hosts.Command{Options: options, Args: []string{"sh", "-c", `echo "$COVEY_TOKEN $1"; cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\0' ' '; exit 3`, "sh", `it's a \ and a !`},
		Env: map[string]string{"COVEY_TOKEN": token}, Stdout: &out}, comm.RealClock())
	if err != nil {
		t.Fatal(err)
	}
	ended(t, p)
	first, processes, _ := strings.Cut(out.String(), "\n")
	if p.Code() != 3 || first != token+` it's a \ and a !` {
		t.Errorf("code %d, printed %q", p.Code(), first)
	}
	if strings.Contains(processes, token) || !strings.Contains(processes, "ConnectTimeout") {
		t.Errorf("the processes' command lines:\n%s", processes)
	}

	for name, cut := range map[string]func(*hosts.Process, int){
		"stopped":    func(p *hosts.Process, _ int) { p.Stop() },
		"ssh killed": func(p *hosts.Process, _ int) { p.Kill() },
		"server's side killed": func(_ *hosts.Process, worker int) {
			// The worker's parent is our script, its parent the server of the connection.
			if err := syscall.Kill(parent(t, parent(t, worker)), syscall.SIGKILL); err != nil {
				t.Error(err)
			}
		},
	} {
		pidFile := filepath.Join(t.TempDir(), "pid")
		p, err := places[1].Start(hosts.Command{Options: options, Grace: 2 * time.Second,
			Args: []string{"sh", "-c", `trap "" TERM; echo $$ >"$1.new"; mv "$1.new" "$1"; exec sleep 1000`, "sh", pidFile}}, comm.RealClock())
		if err != nil {
			t.Fatal(err)
		}
		worker := 0
		until(t, time.Minute, name+": the worker is up", func() bool {
			text, err := os.ReadFile(pidFile)
			if err == nil {
				worker, err = strconv.Atoi(strings.TrimSpace(string(text)))
			}
			return err == nil
		})
		cut(p, worker)
		ended(t, p)
		if how, well := p.End(); well {
			t.Errorf("%s: %s", name, how)
		}
		// It is deaf to being asked to end, so it must have been made to.
		until(t, 30*time.Second, name+": the worker is gone", func() bool { return errors.Is(syscall.Kill(worker, 0), syscall.ESRCH) || zombie(worker) })
	}

	gone := hosts.Host{Name: "127.0.0.1", Port: freePorts(t, 1)[0], Slots: 1}
	var errs bytes.Buffer
	if p, err = gone.Start(hosts.Command{Options: options, Args: []string{"true"}, Stderr: &errs}, comm.RealClock()); err != nil {
		t.Fatal(err)
	}
	ended(t, p)
	if how, _ := p.End(); how != "the connection to 127.0.0.1 failed" || !strings.Contains(errs.String(), "refused") {
		t.Errorf("%s: %s", how, errs.String())
	}
}

// parent is a process's parent.
func parent(t *testing.T, pid int) int {
	t.Helper()
	out, err := exec.Command("ps", "-o", "ppid=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil || n <= 1 {
		t.Fatalf("the parent of %d is %q", pid, out)
	}
	return n
}

// zombie tells whether a process has ended and only its parent does not know yet: in a container nobody may ask.
func zombie(pid int) bool {
	out, err := exec.Command("ps", "-o", "stat=", "-p", strconv.Itoa(pid)).Output()
	return err == nil && strings.HasPrefix(strings.TrimSpace(string(out)), "Z")
}
