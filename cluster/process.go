package cluster

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/covey-ml/covey/comm"
)

// The environment by which a started worker knows what it is. The token is not on the command line, where other users
// could read it.
const (
	EnvRank  = "COVEY_RANK"
	EnvID    = "COVEY_MEMBER" // see Member.ID
	EnvToken = "COVEY_TOKEN"
	EnvShm   = "COVEY_SHM" // the descriptor of the shared memory
)

// Process is a worker on this host.
type Process struct {
	Rank  int    // that it was started as
	ID    string // by which the others know it
	cmd   *exec.Cmd
	ended chan struct{}
	err   error // how it ended; read after ended
}

// StartOne runs one worker: this same binary with args.
func StartOne(rank int, args []string, token string, shm *os.File, clock comm.Clock) (*Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return Program{Args: append([]string{self}, args...), Stderr: os.Stderr, Token: token, Shm: shm}.Start(rank, clock)
}

// Program is what a worker's process runs.
type Program struct {
	Args           []string  // it and its arguments
	Dir            string    // to run in; empty: this process's
	Env            []string  // KEY=VALUE, beside what this process has
	Stdout, Stderr io.Writer // nil: nowhere
	ID             string    // see Process; empty: a new one
	Token          string
	Shm            *os.File // inherited; nil: none
}

// Start runs a worker. It lives in a process group of its own, so that a Ctrl-C on the terminal reaches only the launcher,
// which passes it on in order.
func (w Program) Start(rank int, clock comm.Clock) (*Process, error) {
	p := &Process{Rank: rank, ID: w.ID, cmd: exec.Command(w.Args[0], w.Args[1:]...), ended: make(chan struct{})}
	if p.ID == "" {
		p.ID = NewID()
	}
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = w.Dir, w.Stdout, w.Stderr
	p.cmd.WaitDelay = time.Second // for children of its own that hold what it writes to
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); !slices.Contains([]string{EnvRank, EnvID, EnvToken, EnvShm}, name) {
			p.cmd.Env = append(p.cmd.Env, v)
		}
	}
	p.cmd.Env = append(append(p.cmd.Env, w.Env...), fmt.Sprintf("%s=%d", EnvRank, rank), EnvID+"="+p.ID, EnvToken+"="+w.Token)
	if w.Shm != nil {
		p.cmd.ExtraFiles = []*os.File{w.Shm}
		p.cmd.Env = append(p.cmd.Env, EnvShm+"=3") // ExtraFiles start after standard error
	}
	ownGroup(p.cmd)
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting worker %d: %w", rank, err)
	}
	clock.Go(func() {
		p.err = p.cmd.Wait()
		if errors.Is(p.err, exec.ErrWaitDelay) { // it has ended well, and what it wrote is lost in part
			p.err = nil
		}
		close(p.ended)
	})
	return p, nil
}

// Pid is the process number.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Ended is closed when the process has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// End says how the process ended, in words, and whether that was well. Call it after Ended.
func (p *Process) End() (how string, well bool) {
	var exit *exec.ExitError
	switch {
	case p.err == nil:
		return "done", true
	case errors.As(p.err, &exit):
		return exit.String(), false
	}
	return p.err.Error(), false
}

// Died tells whether the process was ended by a signal or could not be waited for: it did not exit. Call it after Ended.
func (p *Process) Died() bool {
	var exit *exec.ExitError
	return p.err != nil && !(errors.As(p.err, &exit) && exit.Exited())
}

// Kill ends the process, if it still runs, at once.
func (p *Process) Kill() {
	select {
	case <-p.ended:
	default:
		p.cmd.Process.Kill()
	}
}

// KillMember ends a member whose process is on this host, though somebody else started it. It tells whether there was one.
func KillMember(m Member) bool {
	if m.Host != HostID() || m.PID <= 1 || m.ID == "" {
		return false
	}
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", m.PID)) // another process may have its number by now
	if err != nil || !strings.Contains("\x00"+string(env), "\x00"+EnvID+"="+m.ID+"\x00") {
		return false
	}
	p, err := os.FindProcess(m.PID)
	return err == nil && p.Kill() == nil
}

// KillSelf ends this process as kill -9 does.
func KillSelf() {
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Kill()
	}
	if err != nil {
		panic(err) // a process may end itself
	}
	select {} // the signal is on its way
}
