package cluster

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/covey-ml/covey/comm"
)

// Servers may forget who watches, as one of several does that is gone, with the connection to another one up. Who watches finds out
// before it takes anybody's silence for death.
func TestWatchForgotten(t *testing.T) {
	clock := comm.RealClock()
	server, err := Serve(ServerConfig{Listen: "127.0.0.1:0", Token: "of a test"})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	ctx, cancel := clock.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := Create(ctx, Access{Servers: []string{server.Addr()}, Token: "of a test"}, "r", clock)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	seen := make(chan string, 16)
	go s.Watch(ctx, func(e Entry) { seen <- string(e.Value) }, func() {})
	for _, value := range []string{"before", "after"} {
		if err := s.Put(ctx, "k", []byte(value)); err != nil {
			t.Fatal(err)
		}
		began := clock.Now()
		select {
		case got := <-seen:
			if took := clock.Now() - began; got != value || took > expiry {
				t.Errorf("after %v it hears of %q, expected %q within %v", took, got, value, expiry)
			}
		case <-ctx.Done():
			t.Fatalf("it does not hear of %q", value)
		}
		if value == "before" {
			forget(t, s.(*natsStore))
		}
	}
}

// forget has a server forget all who watch a run.
func forget(t *testing.T, s *natsStore) {
	t.Helper()
	js, err := jetstream.New(s.nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "KV_"+s.kv.Bucket())
	if err != nil {
		t.Fatal(err)
	}
	gone := 0
	for name := range stream.ConsumerNames(t.Context()).Name() {
		if err := stream.DeleteConsumer(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		gone++
	}
	if gone == 0 {
		t.Fatal("nobody watched")
	}
}
