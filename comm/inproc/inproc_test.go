package inproc_test

import (
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/commtest"
	"github.com/covey-ml/covey/comm/inproc"
)

func TestExam(t *testing.T) {
	commtest.Run(t, func(_ *testing.T, n int, timeout time.Duration) []comm.Group {
		return inproc.New(n, timeout)
	}, commtest.Options{Shared: true, Kill: func(_ *testing.T, groups []comm.Group, r comm.Rank) { inproc.Kill(groups[r]) }})
}

func BenchmarkAllReduce(b *testing.B) {
	commtest.Bench(b, func(_ *testing.B, n int, timeout time.Duration) []comm.Group {
		return inproc.New(n, timeout)
	}, 2, 4)
}
