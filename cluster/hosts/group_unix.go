//go:build unix

package hosts

import (
	"os/exec"
	"syscall"
)

// ownGroup keeps a Ctrl-C on the terminal from ending the connections before we have said goodbye over them.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
