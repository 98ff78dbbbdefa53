package comm

import (
	"context"
	"time"
)

// RealClock returns the clock of this machine. Its zero is the start of the program, Spend does nothing, and Go is
// the go statement.
func RealClock() Clock { return realClock{} }

type realClock struct{}

var start = time.Now()

func (realClock) Now() time.Duration { return time.Since(start) }

// Sleep returns nil after d, or the context's cause when it ends first.
func (realClock) Sleep(ctx context.Context, d time.Duration) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (realClock) WithTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, d)
}

func (realClock) Go(f func())  { go f() }
func (realClock) Event() Event { return make(event, 1) }
func (realClock) Spend(Cost)   {}

// event holds one token while it is raised.
type event chan struct{}

func (e event) Set() {
	select {
	case e <- struct{}{}:
	default:
	}
}

func (e event) Wait(ctx context.Context) error {
	select { // a raised flag wins over an ended context
	case <-e:
		return nil
	default:
	}
	select {
	case <-e:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
