package main

import (
	"errors"
	"io"
	"testing"
	"time"

	"github.com/covey-ml/covey/cluster"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/job"
)

// A run is taken for gone whose workers have not joined when its launcher is killed: before another one begins it is called off, so that
// they do not begin it, too.
func TestTakeUpCallsOff(t *testing.T) {
	clock := comm.RealClock()
	ctx, cancel := clock.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	at := meeting{Run: "r", Token: "of a test"}
	server, err := cluster.Serve(cluster.ServerConfig{Listen: "127.0.0.1:0", Token: at.Token})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	at.Servers = []string{server.Addr()}
	store, err := cluster.Create(ctx, cluster.Access{Servers: at.Servers, Token: at.Token}, at.Run, clock)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	c, err := cluster.Coordinate(ctx, store, clock, func(cluster.News) {})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	limits := cluster.Limits{Min: 1, Max: 1, Meet: time.Minute, Wait: time.Minute, Patience: time.Minute}
	if err := c.Start(ctx, cluster.Run{Limits: limits, Elastic: true, Orphan: time.Minute}, 1); err != nil {
		t.Fatal(err)
	}
	j := &job.Job{Run: t.TempDir()}
	if err := at.save(j.Run); err != nil {
		t.Fatal(err)
	}
	o := &trainOptions{resume: j.Run}
	if taken, err := o.takeUp(ctx, j, o.follower(ctx, newWatcher(io.Discard, true))); taken || err != nil {
		t.Fatalf("taken up: %v, %v", taken, err)
	}
	if _, err := cluster.Join(ctx, store, cluster.Joining{ID: "late", Want: 0}, clock); !errors.Is(err, cluster.ErrCalledOff) {
		t.Errorf("who comes late hears %v, expected %v", err, cluster.ErrCalledOff)
	}
}
