//go:build integration

package integration

import (
	"bytes"
	"context"
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
)

// everywhere builds the example that trains in every world, and returns it and what it prints alone.
func everywhere(t *testing.T) (program, alone string) {
	t.Helper()
	program = filepath.Join(t.TempDir(), "everywhere")
	if text, err := exec.Command("go", "build", "-o", program, "../examples/everywhere").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	alone, _ = prints(t, nil, program)
	if !strings.Contains(alone, "\nweights ") {
		t.Fatalf("alone it prints %q", alone)
	}
	return program, alone
}

// prints runs a command to its end, which has to be good, and returns what it wrote.
func prints(t *testing.T, env []string, args ...string) (out, errs string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), launchLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay, cmd.Dir = 15*time.Second, t.TempDir()
	cmd.Env = append(append(os.Environ(), "HOME="+cmd.Dir, "XDG_CONFIG_HOME="+cmd.Dir), env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(args, " "), err, stdout.Bytes(), stderr.Bytes())
	}
	return stdout.String(), stderr.String()
}

// One program prints the same alone and under every launcher, ours and others'.
func TestEverywhere(t *testing.T) {
	program, alone := everywhere(t)
	s := slurm(t, 1)
	for _, args := range [][]string{
		{covey, "launch", "-n", "4", "--", program},
		{covey, "launch", "-n", "4", "--min-workers", "2", "--", program},
		{"srun", "-n", "4", program},
		{"mpirun.openmpi", "--allow-run-as-root", "--oversubscribe", "-n", "4", program},
		{"mpirun.mpich", "-n", "4", program},
	} {
		need(t, args[0])
		if out, _ := prints(t, []string{"SLURM_CONF=" + filepath.Join(s.dir, "slurm.conf")}, args...); out != alone {
			t.Errorf("%s prints %q, alone it prints %q", strings.Join(args, " "), out, alone)
		}
	}
	out, _ := rankedRun(t, 4, func(rank int) []string {
		return []string{fmt.Sprintf("RANK=%d", rank), "WORLD_SIZE=4", "MASTER_ADDR=127.0.0.1", "MASTER_PORT=" + strconv.Itoa(20_000+os.Getpid()%10_000)}
	}, program)
	if string(out) != alone {
		t.Errorf("with torchrun's environment it prints %q, alone %q", out, alone)
	}
}

// Over a real sshd the workers find the launcher and each other, with and without certificates, and their token is on no command
// line, here or there.
func TestLaunchOverSSH(t *testing.T) {
	program, alone := everywhere(t)
	s := sshd(t)
	file, options := s.host(t, 3)
	launch := []string{covey, "launch", "--hosts", file, "--listen", "127.0.0.1:0"}
	for _, o := range options {
		launch = append(launch, "--ssh-option="+o)
	}
	dir := t.TempDir()
	token := fmt.Sprintf("token-%d-of-a-test", os.Getpid())
	// Each looks at all command lines before it begins; that of the shell itself has only the variable's name.
	look := `env | grep -c "^COVEY_TOKEN=token-" >"$1/held.$COVEY_RANK"; cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\0' ' ' >"$1/lines.$COVEY_RANK"; exec "$2"`
	out, errs := prints(t, []string{"COVEY_TOKEN=" + token}, append(launch[:len(launch):len(launch)], "--", "sh", "-c", look, "sh", dir, program)...)
	if out != alone || !strings.Contains(errs, "worker 2 is on rig") {
		t.Errorf("prints %q, alone %q\n%s", out, alone, errs)
	}
	for rank := range 3 {
		held, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("held.%d", rank)))
		lines, err2 := os.ReadFile(filepath.Join(dir, fmt.Sprintf("lines.%d", rank)))
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		if n := strings.TrimSpace(string(held)); n != "1" {
			t.Errorf("worker %d holds %s tokens", rank, n)
		}
		if bytes.Contains(lines, []byte(token)) || !bytes.Contains(lines, []byte("ConnectTimeout")) {
			t.Errorf("worker %d sees %d bytes of command lines, and the token or no ssh among them", rank, len(lines))
		}
	}

	certs := filepath.Join(t.TempDir(), "certs")
	must(t, covey, "ca", "init", certs)
	must(t, covey, "ca", "issue", certs, "here", "127.0.0.1")
	if out, _ := prints(t, nil, append(launch[:len(launch):len(launch)], "--tls", certs, "--", program)...); out != alone {
		t.Errorf("with certificates it prints %q, alone %q", out, alone)
	}

	// In the folder that --chdir names.
	if out, _ := prints(t, nil, append(launch[:len(launch):len(launch)], "-n", "1", "--chdir", filepath.Dir(program), "--", "./everywhere")...); out != alone {
		t.Errorf("with --chdir it prints %q, alone %q", out, alone)
	}
}

// When the launcher is killed, so are the workers that it has started elsewhere.
func TestLaunchOverSSHDies(t *testing.T) {
	s := sshd(t)
	file, options := s.host(t, 1)
	pidFile := filepath.Join(t.TempDir(), "pid")
	args := []string{"launch", "--hosts", file, "--listen", "127.0.0.1:0"}
	for _, o := range options {
		args = append(args, "--ssh-option="+o)
	}
	r := command(t, append(args, "--", "sh", "-c", `echo $$ >"$1.new"; mv "$1.new" "$1"; exec sleep 1000`, "sh", pidFile)...)
	r.start(t)
	pid := 0
	until(t, time.Minute, "the worker is up", func() bool {
		text, err := os.ReadFile(pidFile)
		if err == nil {
			pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
		}
		return err == nil
	})
	if err := r.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	until(t, 30*time.Second, "the worker is gone", func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) || zombie(pid) })
}

// Who is told where a run is joins it by hand.
func TestLaunchJoinedByHand(t *testing.T) {
	program, alone := everywhere(t)
	r := command(t, "launch", "-n", "2", "--join", "1", "--", program)
	r.start(t)
	var env []string
	until(t, time.Minute, "it says how to join", func() bool {
		for line := range strings.Lines(r.progress()) {
			if words, ok := strings.CutPrefix(line, "waiting for 1 worker to join: "); ok && strings.HasSuffix(line, program+"\n") {
				env = strings.Fields(words)[:3]
				return true
			}
		}
		return false
	})
	_, said := prints(t, env, program)
	if code := r.code(t); code != 0 || said != "" {
		t.Fatalf("exit code %d\n%s%s", code, r.progress(), said)
	}
	if r.out.String() != alone || !strings.Contains(r.progress(), "joined: ") {
		t.Errorf("it prints %q, alone %q\n%s", r.out.String(), alone, r.progress())
	}
}
