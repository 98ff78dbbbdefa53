//go:build unix

package main

import (
	"syscall"
	"time"
)

// processorTime is what this process has used of the processors; nil where that cannot be told.
var processorTime = func() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
