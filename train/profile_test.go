package train

import (
	"context"
	"math"
	"runtime"
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/sim"
	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/model/profile"
	"github.com/covey-ml/covey/network"
)

// profiled is one step of a built-in profile, for times alone, with one sample a worker and summed by the ring.
func profiled(t *testing.T, name string, workers, bucket int, compress string) *Report {
	t.Helper()
	net, err := network.Parse("test", []byte(`
machine: {cores: 2, flops: 1TFLOP/s, memory: 1000GB/s}
hosts: {name: h, count: 16, uplink: {bandwidth: 1GB/s, latency: 0s}}
messages: {send: 0s, receive: 0s, send_byte: 0s, receive_byte: 0s, wire: 1}`))
	if err != nil {
		t.Fatal(err)
	}
	w, err := sim.New(sim.Config{Network: net, Workers: workers, Timeout: time.Hour, Hollow: true})
	if err != nil {
		t.Fatal(err)
	}
	m, err := profile.New(name, 0)
	if err != nil {
		t.Fatal(err)
	}
	ds, _, err := data.Open(context.Background(), "synthetic:16", data.Options{})
	if err != nil {
		t.Fatal(err)
	}
	rep, err := Simulate(context.Background(), w, Config{Model: m, Train: ds, Batch: workers, Steps: 1, Optimizer: "sgd", Algorithm: comm.Ring, Bucket: bucket, Replicate: true, Compress: compress})
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

// TestProfileStep: a step takes what a worker computes, and after it what of the ring's 2(P-1)/P of the vector (Patarasuk and
// Yuan, 2009, theorem 1) the backward pass does not hide: all of it when the gradient goes at once, and in buckets less.
func TestProfileStep(t *testing.T) {
	const workers, flops, rate = 8, 1e12, 1e9
	m, err := profile.New("resnet50", 0)
	if err != nil {
		t.Fatal(err)
	}
	compute := float64(m.FLOPs(1)) / flops
	vector := 4 * float64(m.Layout().Len())
	ring := 2 * (workers - 1.0) / workers * vector / rate
	passes := func(seconds float64) float64 { return seconds + 40*vector/4/1e12 } // at most, of memory: sums and the update

	single := profiled(t, "resnet50", 1, 0, "").Wall
	if single < compute || single > passes(compute) {
		t.Errorf("one worker takes %.6f s, expected its FLOPs' %.6f and some memory", single, compute)
	}
	once := profiled(t, "resnet50", workers, math.MaxInt32, "")
	if once.Wall < compute+ring || once.Wall > 1.02*passes(compute+ring) {
		t.Errorf("all at once takes %.6f s, expected %.6f of FLOPs and %.6f of the ring", once.Wall, compute, ring)
	}
	hidden := profiled(t, "resnet50", workers, 4<<20, "")
	if hidden.Wall < ring || hidden.Wall > once.Wall-float64(2.0/3*compute)*0.9 {
		t.Errorf("in buckets %.6f s, expected at least the ring's %.6f, and the backward pass hidden of %.6f", hidden.Wall, ring, once.Wall)
	}
	if hidden.Weights != "" || hidden.BytesSent != hidden.BytesExpected {
		t.Errorf("weights %q, %d bytes sent and %d expected", hidden.Weights, hidden.BytesSent, hidden.BytesExpected)
	}
}

// TestHollowMemory: workers of a run for times alone share their vectors and their codes, so its memory does not grow with
// them.
func TestHollowMemory(t *testing.T) {
	var before, after runtime.MemStats
	for _, c := range []string{"", "fp16", "onebit+ef", "topk:0.01+ef", "powersgd:rank=2+ef"} {
		runtime.ReadMemStats(&before)
		profiled(t, "resnet50", 16, 0, c)
		runtime.ReadMemStats(&after)
		// Parameters are 97 MiB, codes of fp16 half of that, and 16 workers would have 16 of each.
		if mib := (after.TotalAlloc - before.TotalAlloc) >> 20; mib > 400 {
			t.Errorf("%q: %d MiB allocated for 16 workers", c, mib)
		}
	}
}
