//go:build unix

package main

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/covey-ml/covey/ckpt"
)

// allow is how long a run that cannot go on may take to end once it was struck: a second's timeout, and the four after which a
// launcher kills, on a busy machine. One that goes on has training to do first, and all the time that a command has.
const allow = 15 * time.Second

// scriptStrike is "strike SIGNAL VICTIMS PATTERN CODE covey ARGS...": start the command, wait for a line of its standard
// error that matches the pattern, send the signal to the victims (ranks with commas, or launcher), and want this exit
// code. Then none of its workers may be there any more. Its standard error goes to the file struck. The pattern saved
// waits for the first checkpoint in the folder that --run names. The signal TAKE is none: it makes the files that the victims are.
func scriptStrike(ts *testscript.TestScript, neg bool, args []string) {
	sig := map[string]syscall.Signal{"KILL": syscall.SIGKILL, "STOP": syscall.SIGSTOP, "TERM": syscall.SIGTERM,
		"INT": syscall.SIGINT, "HUP": syscall.SIGHUP}[args[0]]
	when, folder := regexp.MustCompile(args[2]), ""
	if i := slices.Index(args, "--run"); args[2] == "saved" {
		when, folder = regexp.MustCompile("^epoch "), ts.MkAbs(args[i+1])
	}
	code, err := strconv.Atoi(args[3])
	ts.Check(err)
	cmd := exec.Command(lookPath(ts.Getenv("PATH"), args[4]))
	cmd.Args = append(cmd.Args, args[5:]...)
	cmd.Dir = ts.MkAbs(".")
	for _, k := range []string{"PATH", "HOME", "TMPDIR", "GOCOVERDIR"} {
		cmd.Env = append(cmd.Env, k+"="+ts.Getenv(k))
	}
	pipe, err := cmd.StderrPipe()
	ts.Check(err)
	if signal.Ignored(sig) { // as under nohup; what a process catches, its children have by default
		caught := make(chan os.Signal, 1)
		signal.Notify(caught, sig)
		defer signal.Stop(caught)
	}
	ts.Check(cmd.Start())
	over := time.AfterFunc(2*time.Minute, func() { cmd.Process.Kill() })
	defer over.Stop()

	pids := map[string]int{"launcher": cmd.Process.Pid}
	start := regexp.MustCompile(`^worker (\d+) is process (\d+)$`)
	var said strings.Builder
	var struck time.Time
	for in := bufio.NewScanner(pipe); in.Scan(); {
		said.WriteString(in.Text() + "\n")
		if m := start.FindStringSubmatch(in.Text()); m != nil {
			pids[m[1]], _ = strconv.Atoi(m[2])
		}
		if struck.IsZero() && when.MatchString(in.Text()) {
			if folder != "" {
				ts.Check(awaitCheckpoint(folder))
			}
			struck = time.Now()
			for _, v := range strings.Split(args[1], ",") {
				if args[0] == "TAKE" {
					ts.Check(os.WriteFile(ts.MkAbs(v), []byte("the rack goes down\n"), 0o666))
					continue
				}
				ts.Check(syscall.Kill(pids[v], sig))
			}
		}
	}
	err = cmd.Wait()
	ts.Check(os.WriteFile(ts.MkAbs("struck"), []byte(said.String()), 0o666))
	if struck.IsZero() {
		ts.Fatalf("no line matched %s:\n%s", when, &said)
	}
	if took := time.Since(struck); took > allow && code != 0 {
		ts.Fatalf("took %v to end:\n%s", took, &said)
	}
	var exit *exec.ExitError
	if got := cmd.ProcessState.ExitCode(); got != code || err != nil && !errors.As(err, &exit) {
		ts.Fatalf("%v, want exit code %d:\n%s", cmd.ProcessState, code, &said)
	}
	for who, pid := range pids {
		for until := time.Now().Add(allow); there(pid) && time.Now().Before(until); time.Sleep(time.Millisecond) {
			// its standard error is closed a moment before it is gone
		}
		if there(pid) {
			ts.Fatalf("%s (process %d) is still there:\n%s", who, pid, &said)
		}
	}
}

// there tells whether a process is there. Of one whose launcher was killed a zombie may stay, until whoever took it over looks.
func there(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	_, state, ok := strings.Cut(string(stat), ") ")
	return err != nil || !ok || !strings.HasPrefix(state, "Z")
}

// awaitCheckpoint waits until a run has saved one.
func awaitCheckpoint(run string) error {
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if _, _, err := ckpt.Latest(run); err == nil {
			return nil
		}
	}
	return errors.New("no checkpoint in a minute")
}

// lookPath finds a command of the script's.
func lookPath(path, name string) string {
	for _, dir := range filepath.SplitList(path) {
		p := filepath.Join(dir, name)
		if _, err := os.Stat(p); err == nil {
			return p
		}
	}
	return name
}

func init() { words["strike"] = scriptStrike }
