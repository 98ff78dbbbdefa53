//go:build !mpi || !cgo

package mpi

import (
	"time"

	"github.com/covey-ml/covey/comm"
)

// Available tells why this transport cannot work here, or nil.
func Available() error { return ErrUnavailable }

// Init returns ErrUnavailable in this build.
func Init(timeout time.Duration) (comm.Group, error) { return nil, ErrUnavailable }

// Finalize has nothing to let go of in this build.
func Finalize() error { return nil }

// Hosts returns nil in this build.
func Hosts(g comm.Group) []string { return nil }

// Library returns "" in this build.
func Library() string { return "" }
