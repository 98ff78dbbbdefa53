//go:build !linux

package shm

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// TestUnavailable: a system without this transport says so, and what to use instead.
func TestUnavailable(t *testing.T) {
	_, create := Create(2, Options{})
	_, attach := Attach(nil, 0, time.Second, time.Second)
	for _, err := range []error{Available(), create, attach} {
		if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "tcp") || !strings.Contains(err.Error(), "inproc") {
			t.Errorf("%v", err)
		}
	}
}
