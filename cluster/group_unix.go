//go:build unix

package cluster

import (
	"os"
	"os/exec"
	"syscall"
)

func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// CanStand tells whether processes of this system can stop and go on.
const CanStand = true

// Stand makes this process stand still until its parent lets it Continue. It may return shortly before.
func Stand() error { return syscall.Kill(os.Getpid(), syscall.SIGSTOP) }

// Continue lets a process that stands still go on.
func (p *Process) Continue() error { return p.cmd.Process.Signal(syscall.SIGCONT) }
