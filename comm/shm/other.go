//go:build !linux

package shm

import (
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/covey-ml/covey/comm"
)

// Available tells why this transport cannot work here, or nil.
func Available() error { return fmt.Errorf("shm: %s: %w", runtime.GOOS, ErrUnavailable) }

// Create returns Available's error on this system.
func Create(n int, o Options) (*os.File, error) {
	if err := o.validate(n); err != nil {
		return nil, err
	}
	return nil, Available()
}

// Stat returns Available's error on this system.
func Stat(f *os.File) (Info, error) { return Info{}, Available() }

// Attach returns Available's error on this system.
func Attach(f *os.File, rank comm.Rank, setup, timeout time.Duration) (comm.Group, error) {
	return nil, Available()
}

func addressSpace() int { return 1 << 30 }
