package hosts

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/covey-ml/covey/comm"
)

// Command is what to run on a host. It goes over the connection's standard input, so that neither ssh's command line nor the
// login shell sees it. Every part is one line.
type Command struct {
	Args           []string          // the program and its arguments, which those on the host can read
	Env            map[string]string // beside what the host sets: tokens go here
	Stdout, Stderr io.Writer
	Grace          time.Duration // from being asked to end until it is killed; 0: 10 seconds

	Program string   // empty: ssh
	Options []string // more for it, as in -F FILE
	Connect time.Duration
}

const (
	defaultGrace   = 10 * time.Second
	defaultConnect = 15 * time.Second
	alive          = 5 // seconds between signs of life, three of which may be missed
	failed         = 255
)

// script runs on the host in sh. It reads lines: E and a variable, A and an argument, then an empty one. It runs the program beside
// a watcher of standard input: when that ends, because we stop the worker, because we died, or because the connection did, the
// program is asked to end, and after a while made to. The script itself is one line in which no login shell finds anything to
// change: no single quote, no backslash, and no ! but before a blank.
const script = `ok=; while IFS= read -r v; do case "$v" in E*) export "${v#E}";; A*) set -- "$@" "${v#A}";; *) ok=1; break;; esac; done; [ -n "$ok" ] || exit 255; ` +
	`grace=$1; shift; exec 3<&0; "$@" 3<&- </dev/null & p=$! ; ` +
	`{ cat <&3; kill -TERM $p; sleep $grace; kill -KILL $p; } >/dev/null 2>&1 & w=$! ; ` +
	`exec 3<&-; wait $p; c=$?; kill $w 2>/dev/null; exit $c`

// Argv is the command line of ssh that runs a command on a host. Whose key the host must show, and with what key we are let in, is as
// ssh's own configuration says; it asks nobody for anything, and forwards nothing.
func (h Host) Argv(c Command) ([]string, error) {
	if !isName(h.Name) && !strings.Contains(h.Name, ":") || h.User != "" && !isName(h.User) {
		return nil, fmt.Errorf("%.80q is no host", h)
	}
	program, connect, grace := c.Program, c.Connect, c.Grace
	if program == "" {
		program = "ssh"
	}
	if connect <= 0 {
		connect = defaultConnect
	}
	if grace <= 0 {
		grace = defaultGrace
	}
	argv := append([]string{program, "-T", "-o", "BatchMode=yes", "-o", "ClearAllForwardings=yes", "-o", fmt.Sprintf("ConnectTimeout=%d", seconds(connect)),
		"-o", fmt.Sprintf("ServerAliveInterval=%d", alive), "-o", "ServerAliveCountMax=3"}, c.Options...)
	if h.Port != 0 {
		argv = append(argv, "-p", strconv.Itoa(h.Port))
	}
	dest := h.Name
	if h.User != "" {
		dest = h.User + "@" + dest
	}
	return append(argv, "--", dest, fmt.Sprintf("exec sh -c '%s' covey %d", script, seconds(grace))), nil
}

func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

// lines are what script reads.
func (c Command) lines() ([]byte, error) {
	if len(c.Args) == 0 || c.Args[0] == "" {
		return nil, errors.New("no program to run on the host")
	}
	var b bytes.Buffer
	for _, k := range slices.Sorted(maps.Keys(c.Env)) {
		if k == "" || strings.Trim(k, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "" || k[0] >= '0' && k[0] <= '9' {
			return nil, fmt.Errorf("%.80q cannot name a variable", k)
		}
		if !isLine(c.Env[k]) {
			return nil, fmt.Errorf("the variable %s cannot be passed to a host: it is more than a line", k)
		}
		fmt.Fprintf(&b, "E%s=%s\n", k, c.Env[k])
	}
	for _, a := range c.Args {
		if !isLine(a) {
			return nil, fmt.Errorf("%.80q cannot be passed to a host: it is more than a line", a)
		}
		fmt.Fprintf(&b, "A%s\n", a)
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}

func isLine(s string) bool { return !strings.ContainsAny(s, "\n\x00") }

// Process is a command that runs on a host.
type Process struct {
	Host  Host
	cmd   *exec.Cmd
	stdin io.Closer
	ended chan struct{}
	err   error // read after ended
}

// Start runs a command on a host. It returns as soon as ssh runs; that the host cannot be reached shows when the process ends.
func (h Host) Start(c Command, clock comm.Clock) (*Process, error) {
	argv, err := h.Argv(c)
	if err != nil {
		return nil, err
	}
	lines, err := c.lines()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = c.Stdout, c.Stderr
	cmd.WaitDelay = time.Second // for what a shared connection of ssh leaves open
	ownGroup(cmd)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("running %s for %s: %w", argv[0], h.Name, err)
	}
	p := &Process{Host: h, cmd: cmd, stdin: stdin, ended: make(chan struct{})}
	clock.Go(func() {
		stdin.Write(lines) // fails when ssh has ended, which Wait tells
	})
	clock.Go(func() {
		p.err = cmd.Wait()
		close(p.ended)
	})
	return p, nil
}

// Ended is closed when the process has ended, or the connection to it.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// End says how it ended, in words, and whether that was well. Call it after Ended.
func (p *Process) End() (how string, well bool) {
	var exit *exec.ExitError
	switch {
	case p.err == nil:
		return "done", true
	case errors.As(p.err, &exit) && exit.ExitCode() == failed:
		return "the connection to " + p.Host.Name + " failed", false
	case errors.As(p.err, &exit):
		return exit.String(), false
	}
	return p.err.Error(), false
}

// Code is the exit code, -1 when there is none: the connection failed, or ssh itself was killed. Call it after Ended.
func (p *Process) Code() int {
	if c := p.cmd.ProcessState.ExitCode(); c != failed {
		return c
	}
	return -1
}

// Stop asks the program to end, as SIGTERM does, and has it killed on its host when it has not after the command's grace.
func (p *Process) Stop() { p.stdin.Close() }

// Kill ends the connection at once. The host then ends the program as Stop does.
func (p *Process) Kill() {
	select {
	case <-p.ended:
	default:
		p.cmd.Process.Kill()
	}
}
