//go:build unix

package main

import (
	"runtime"
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

// peakMemory is the most memory that this process has had, in bytes; nil where that cannot be told.
var peakMemory = func() int64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	if runtime.GOOS == "darwin" {
		return int64(u.Maxrss)
	}
	return 1024 * int64(u.Maxrss)
}
