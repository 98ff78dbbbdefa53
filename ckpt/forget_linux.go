package ckpt

import (
	"os"

	"golang.org/x/sys/unix"
)

// forget asks the system to keep none of a synced file in memory. It is advice: a system that does not take it reads the
// file back from memory, which shows less.
func forget(f *os.File) { _ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) }
