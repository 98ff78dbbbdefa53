package train_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/commtest"
	"github.com/covey-ml/covey/comm/inproc"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/train"
)

// trained is rank 0's report, what it sent in steps, and what all workers spent.
type trained struct {
	*train.Report
	sent         comm.Books
	flops, bytes int64
}

// runPriced trains on n workers of one process.
func runPriced(t *testing.T, n int, empty bool, c train.Config) (out trained) {
	t.Helper()
	clock := &commtest.Tally{}
	reports, errs := make([]*train.Report, n), make([]error, n)
	var wg sync.WaitGroup
	for r, g := range inproc.New(n, timeout) {
		if r == 0 {
			clock.Clock = g.Clock()
		}
		p, c := &commtest.Priced{Group: g, Tally: clock}, c
		if r == 0 {
			c.Events.Step = func(s train.StepInfo) {
				s.Books[comm.OpGather], s.Books[comm.OpBroadcast] = comm.Entry{}, comm.Entry{} // between steps
				out.sent.Add(&s.Books)
			}
		}
		wg.Go(func() {
			if empty {
				reports[r], errs[r] = train.Run(t.Context(), commtest.Hollow{Priced: p}, c)
			} else {
				reports[r], errs[r] = train.Run(t.Context(), p, c)
			}
			g.Close()
		})
	}
	wg.Wait()
	for r, err := range errs {
		if err != nil {
			t.Fatalf("rank %d: %v", r, err)
		}
	}
	out.Report, out.flops, out.bytes = reports[0], clock.FLOPs.Load(), clock.Bytes.Load()
	return out
}

// Workers together spend the gradients of each epoch's samples and the forward pass over the test set, however many they
// are; on a hollow group as much, for the same messages of the method, with nothing computed.
func TestRunSpends(t *testing.T) {
	c := config(t, "mlp:24")
	c.Algorithm = comm.Binomial
	costed := c.Model.(model.Costed)
	want := int64(c.Epochs) * (costed.FLOPs(c.Train.Len()) + costed.Forward(c.Test.Len()))
	alone := runPriced(t, 1, false, c)
	for _, n := range []int{1, 3, 4} {
		full, empty := runPriced(t, n, false, c), runPriced(t, n, true, c)
		if full.flops != want || empty.flops != want {
			t.Errorf("%d workers: %d FLOPs, and %d on a hollow group; expected %d", n, full.flops, empty.flops, want)
		}
		if full.bytes != empty.bytes || full.bytes < alone.bytes {
			t.Errorf("%d workers: %d bytes, and %d on a hollow group; one worker spends %d", n, full.bytes, empty.bytes, alone.bytes)
		}
		if full.Weights != alone.Weights || empty.Weights == alone.Weights {
			t.Errorf("%d workers: weights %.12s, and %.12s on a hollow group; one worker's are %.12s", n, full.Weights, empty.Weights, alone.Weights)
		}
		if !strings.HasSuffix(empty.SamplesBooked, "samples were not booked, for times alone were asked for") {
			t.Error(empty.SamplesBooked)
		}
		if full.sent != empty.sent || n > 1 && full.sent[comm.OpAllReduce].Messages == 0 {
			t.Errorf("%d workers: rank 0 sent\n%von a hollow group\n%v", n, &full.sent, &empty.sent)
		}
	}
}

// Every strategy and compressor runs on a hollow group.
func TestHollowRuns(t *testing.T) {
	for _, compress := range []string{"", "fp16", "topk:0.1+ef", "powersgd:2+ef", "onebit+ef", "vote", "qsgd:4", "dgc:0.1"} {
		c := config(t, "mlp:64")
		c.Compress = compress
		if compress == "vote" {
			c.Optimizer = "sgd"
		}
		full, empty := runPriced(t, 3, false, c), runPriced(t, 3, true, c)
		if full.flops != empty.flops || full.bytes > empty.bytes || full.sent.Sum().Messages != empty.sent.Sum().Messages {
			t.Errorf("%s: %d FLOPs, %d bytes, and sent\n%von a hollow group %d, %d, and\n%v", compress,
				full.flops, full.bytes, &full.sent, empty.flops, empty.bytes, &empty.sent)
		}
	}
	for _, method := range []string{"local:K=2", "postlocal:K=2,start=3", "hierarchical:K=2,outer=2,groups=2", "fedprox:K=2,mu=0.1",
		"scaffold:K=2", "scaffold:K=2,option=1", "easgd:K=2", "bmuf:K=2", "diloco:K=4,fragments=2,overlap=1"} {
		c := replicas(t, config(t, "mlp:64"), method)
		full, empty := runPriced(t, 3, false, c), runPriced(t, 3, true, c)
		if full.Rounds != empty.Rounds || full.Rounds == 0 {
			t.Errorf("%s: %d rounds, %d on a hollow group", method, full.Rounds, empty.Rounds)
		}
		if full.flops != empty.flops || full.bytes != empty.bytes || full.sent != empty.sent {
			t.Errorf("%s: %d FLOPs, %d bytes, and sent\n%von a hollow group %d, %d, and\n%v", method,
				full.flops, full.bytes, &full.sent, empty.flops, empty.bytes, &empty.sent)
		}
	}
}
