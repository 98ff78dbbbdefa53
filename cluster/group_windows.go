package cluster

import (
	"errors"
	"os/exec"
	"syscall"
)

func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}

var errStand = errors.New("processes cannot be stopped on Windows")

// CanStand tells whether processes of this system can stop and go on.
const CanStand = false

// Stand makes this process stand still until its parent lets it Continue. It may return shortly before.
func Stand() error { return errStand }

// Continue lets a process that stands still go on.
func (p *Process) Continue() error { return errStand }
