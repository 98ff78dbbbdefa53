package sim

import (
	"fmt"
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/commtest"
	"github.com/covey-ml/covey/network"
)

// parse reads a network.
func parse(t testing.TB, text string, args ...any) *network.Network {
	t.Helper()
	n, err := network.Parse("test.yaml", fmt.Appendf(nil, text, args...))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// The groups sit every transport's exam in a world that keeps real time, over links that cost next to nothing.
func TestExam(t *testing.T) {
	worlds := map[comm.Group]*World{}
	commtest.Run(t, func(t *testing.T, n int, timeout time.Duration) []comm.Group {
		net := parse(t, `
name: near
hosts: {name: h, count: %d, uplink: {bandwidth: 100000Gbit/s, latency: 0s}}
messages: {send: 0s, receive: 0s, send_byte: 0s, receive_byte: 0s, wire: 1}`, n)
		w, groups, end, err := Paced(Config{Network: net, Workers: n, Timeout: timeout, Seed: 1})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(end)
		for _, g := range groups {
			worlds[g] = w
		}
		return groups
	}, commtest.Options{Sizes: []int{1, 2, 3, 4, 5, 8}, Kill: func(_ *testing.T, groups []comm.Group, r comm.Rank) { worlds[groups[0]].Kill(r) }})
}
