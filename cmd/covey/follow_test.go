package main

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/covey-ml/covey/cluster"
	"github.com/covey-ml/covey/cluster/clustertest"
)

// exited is a process that has exited with an error.
type exited struct{ ended chan struct{} }

func (p exited) Ended() <-chan struct{}   { return p.ended }
func (exited) End() (how string, ok bool) { return "exit status 3", false }
func (exited) Died() bool                 { return false }
func (exited) Kill()                      {}

// What a worker said before it exited is why the run ends, also when its process is known to have ended before that is heard. A worker that
// says nothing is named.
func TestLastWordBeforeTheStart(t *testing.T) {
	said, silent := &codedError{errors.New("pipe is a pipe"), exitData}, &codedError{errors.New("worker 1 ended before the start: exit status 3"), exitFailed}
	for after, want := range map[time.Duration]*codedError{0: said, 500 * time.Millisecond: said, time.Hour: silent} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(context.Background())
			f := newFollower(ctx, newWatcher(io.Discard, true))
			f.local = 2
			store := clustertest.New(clustertest.Config{Clock: f.clock, Seed: 1}).Open("launcher")
			if err := f.coordinate(ctx, store); err != nil {
				t.Fatal(err)
			}
			p := &child{exited{make(chan struct{})}, 1, "b", "a process"}
			f.procs = append(f.procs, p)
			f.clock.Go(func() { f.ended(p) })
			close(p.process.(exited).ended)
			synctest.Wait()
			rank := 1
			f.clock.Go(func() {
				if f.clock.Sleep(ctx, after) == nil {
					m := cluster.Member{ID: "b", Want: &rank, State: cluster.Ended, Error: "pipe is a pipe", Code: exitData}
					f.hear(cluster.News{Joined: &m})
					f.hear(cluster.News{Ended: &m})
				}
			})
			<-f.done
			f.mu.Lock()
			err := f.failure(2)
			f.mu.Unlock()
			var got *codedError
			if !errors.As(err, &got) || got.Error() != want.Error() || got.code != want.code {
				t.Errorf("its last word comes after %v: %+v, expected %+v", after, err, want)
			}
			f.c.Close()
			store.Close()
			cancel()
		})
	}
}
