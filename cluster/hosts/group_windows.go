package hosts

import (
	"os/exec"
	"syscall"
)

// ownGroup keeps a Ctrl-C in the console from ending the connections before we have said goodbye over them.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}
