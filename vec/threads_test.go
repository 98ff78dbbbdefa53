package vec

import (
	"testing"

	"go.uber.org/goleak"
)

func TestSetThreadsOneLeavesNoGoroutine(t *testing.T) {
	SetThreads(5)
	SetThreads(3)
	SetThreads(0)
	if Threads() != 1 {
		t.Errorf("Threads() is %d after SetThreads(0), want 1", Threads())
	}
	goleak.VerifyNone(t)
}
