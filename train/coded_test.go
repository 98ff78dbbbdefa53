package train_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/strategy/ps"
	"github.com/covey-ml/covey/train"
)

// By way of servers, too, compressed gradients come to a loss like that of exact ones, as the same compressor does in an all-reduce, for
// fewer bytes; and so do parameters that come down compressed. The books close.
func TestCodedServersLearn(t *testing.T) {
	c := config(t, "mlp:64")
	c.Optimizer, c.Rate, c.Epochs = "momentum", 0.02, 20
	run := func(workers int, c train.Config) *train.Report {
		t.Helper()
		r, err := train.Local(t.Context(), workers, timeout, c)
		if err != nil {
			t.Fatalf("%s: %v", c.Compress, err)
		}
		if r.BytesSent != r.BytesExpected {
			t.Errorf("%s: %d bytes sent, %d expected", c.Compress, r.BytesSent, r.BytesExpected)
		}
		return r
	}
	c.Compress = ""
	whole, p := served(t, c, "ps:servers=2")
	exact := run(3+p.Servers, whole)
	for _, of := range []struct {
		compress, pull string
		fewer          float64 // times, at least
	}{
		{"topk:0.05+ef", "", 1.6}, {"topk:0.05+ef21", "", 1.6}, {"uniform:8+ef", "", 1.4}, {"onebit+ef", "", 1.6}, {"qsgd:levels=127,code=elias", "", 1.5},
		{"dgc:0.1", "", 1.5}, {"fp16", "", 1.2}, {"randomk:0.3+ef", "", 1.2},
		{"", "uniform:8", 1.3}, {"uniform:8+ef", "uniform:8", 2.5}, {"topk:0.05+ef", "topk:0.1", 4}, {"topk:0.05+ef", "bf16", 2.5},
	} {
		c := c
		c.Compress = of.compress
		if strings.HasPrefix(of.compress, "dgc") {
			c.Optimizer = "sgd"
		}
		reduced := run(3, c)
		choice := "ps:servers=2"
		if of.pull != "" {
			choice += ",pull=" + of.pull
		}
		c, p := served(t, c, choice)
		r := run(3+p.Servers, c)
		if fewer := float64(exact.BytesSent) / float64(r.BytesSent); fewer < of.fewer {
			t.Errorf("push %q, pull %q: %.2f times fewer bytes, expected %v", of.compress, of.pull, fewer, of.fewer)
		}
		if r.Loss > 1.25*reduced.Loss+0.02 || *r.Accuracy < *reduced.Accuracy-0.04 {
			t.Errorf("push %q, pull %q: loss %v and accuracy %v; all-reduce comes to %v and %v", of.compress, of.pull, r.Loss, *r.Accuracy, reduced.Loss, *reduced.Accuracy)
		}
	}
}

// Synchronously, the bits are the same on goroutines and in the simulator; and a run that was stopped after any step goes on as if it had
// not been: what codes left out, and what workers had of the parameters, come back. With other workers and servers it goes on, too.
func TestCodedServedRunIsResumed(t *testing.T) {
	for _, of := range []struct{ compress, pull, optimizer string }{
		{"topk:0.05+ef", "", "momentum"}, {"topk:0.1+ef21", "", "momentum"}, {"dgc:0.02,warmup=6", "", "sgd"}, {"onebit+ef", "topk:0.1", "adam"}, {"", "uniform:8", "momentum"},
		{"randomk:0.3", "natural", "momentum"},
	} {
		c := config(t, "mlp:24")
		c.Compress, c.Optimizer, c.Rate = of.compress, of.optimizer, 0.0005
		choice := func(servers int) string {
			s := fmt.Sprintf("ps:servers=%d", servers)
			if of.pull != "" {
				s += ",pull=" + of.pull
			}
			return s
		}
		c, p := served(t, c, choice(2))
		calm, err := train.Local(t.Context(), 3+p.Servers, timeout, c)
		if err != nil {
			t.Fatal(err)
		}
		if r, err := train.Simulate(t.Context(), worldFor(t, "home", 3+p.Servers, nil), c); err != nil || r.Weights != calm.Weights {
			t.Errorf("%+v: simulated: %v, other weights: %v", of, err, err == nil)
		}
		for at := 1; at < calm.Steps; at += 3 {
			c := c
			c.Dir = t.TempDir()
			step := 0
			c.Stop = func() bool { step++; return step == at }
			if _, err := train.Local(t.Context(), 3+p.Servers, timeout, c); !errors.Is(err, train.ErrStopped) {
				t.Fatalf("%+v, stopped at step %d: error %v", of, at, err)
			}
			c.Stop = nil
			if c.Resume, _, err = ckpt.Latest(c.Dir); err != nil {
				t.Fatal(err)
			}
			c.Dir = ""
			for _, n := range [][2]int{{3, 2}, {2, 1}, {4, 3}} {
				c, p := served(t, c, choice(n[1]))
				r, err := train.Local(t.Context(), n[0]+p.Servers, timeout, c)
				if err != nil {
					t.Fatalf("%+v, resumed at step %d with %d workers and servers: %v", of, at, n, err)
				}
				if n[0] == 3 && r.Weights != calm.Weights {
					t.Errorf("%+v, resumed at step %d: weights %.12s, the calm run's %.12s", of, at, r.Weights, calm.Weights)
				}
				if r.Steps != calm.Steps || r.BytesSent != r.BytesExpected {
					t.Errorf("%+v, resumed with %d: %d steps of %d, %d bytes of %d", of, n, r.Steps, calm.Steps, r.BytesSent, r.BytesExpected)
				}
			}
		}
	}
}

// What workers kept is shared out among workers, and none of it goes to a server, which would never say it.
func TestServersGetNoResiduals(t *testing.T) {
	c := config(t, "mlp:24")
	c.Compress, c.Dir, c.Steps = "topk:0.02+ef", t.TempDir(), 3
	c, p := served(t, c, "ps:servers=2")
	kept := func(workers int) (rows [][]float32) {
		t.Helper()
		if _, err := train.Local(t.Context(), workers+p.Servers, timeout, c); err != nil {
			t.Fatal(err)
		}
		path, _, err := ckpt.Latest(c.Dir)
		if err != nil {
			t.Fatal(err)
		}
		saved, err := ckpt.Load(path)
		if err != nil {
			t.Fatal(err)
		}
		c.Resume = path
		at := slices.IndexFunc(saved.State, func(t ckpt.Tensor) bool { return strings.HasPrefix(t.Name, "strategy/pushes/kept/") })
		all := make([]float32, saved.State[at].Len())
		if err := saved.State[at].CopyTo(all); err != nil {
			t.Fatal(err)
		}
		return slices.Collect(slices.Chunk(all, len(all)/(workers+p.Servers)))
	}
	kept(3)
	c.Dir, c.Steps = t.TempDir(), 4
	for rank, row := range kept(2) {
		some := slices.ContainsFunc(row, func(x float32) bool { return x != 0 })
		if some != (rank < 2) {
			t.Errorf("rank %d of 2 workers and 2 servers keeps something: %v", rank, some)
		}
	}
}

// Every mode learns by codes, both ways.
func TestCodedModes(t *testing.T) {
	for _, mode := range ps.Modes() {
		c := config(t, "mlp:24")
		c.Optimizer, c.Rate, c.Epochs, c.Microshards, c.Compress = "sgd", 0.2, 20, 4, "topk:0.1+ef"
		if mode == ps.Async || mode == ps.Downpour || mode == ps.DC {
			c.Rate = 0.05 // each worker's push is a step
		}
		c, p := served(t, c, "ps:servers=2,pull=uniform:8,mode="+mode)
		r, err := train.Local(t.Context(), 4+p.Servers, timeout, c)
		if err != nil {
			t.Fatalf("%s: %v", mode, err)
		}
		if *r.Accuracy < 0.6 || r.BytesSent != r.BytesExpected {
			t.Errorf("%s: accuracy %v; %d bytes sent, %d expected", mode, *r.Accuracy, r.BytesSent, r.BytesExpected)
		}
	}
}

// Tables' rows stay exact beside codes of the dense parameters.
func TestCodesBesideTables(t *testing.T) {
	tr := clicks(t, "train", 200)
	for _, mode := range []string{"bsp", "async,guard=off"} {
		c := train.Config{Model: build(t, "wide-deep:64,32", tr), Train: tr, Optimizer: "adagrad", Batch: 20, Microshards: 6, Epochs: 2, Seed: 3, Compress: "topk:0.1+ef"}
		c, p := served(t, c, "ps:servers=2,pull=uniform:8,mode="+mode)
		if r, err := train.Local(t.Context(), 4+p.Servers, timeout, c); err != nil || r.BytesSent != r.BytesExpected {
			t.Errorf("%s: %+v, %v", mode, r, err)
		}
	}
}

// On a group for times alone as many messages go, of at least as many bytes: as many where codes have one length.
func TestHollowCodes(t *testing.T) {
	for _, of := range []struct{ compress, pull string }{{"", ""}, {"uniform:8+ef", ""}, {"onebit+ef", "uniform:8"}, {"topk:0.1+ef", "topk:0.1"}} {
		c := config(t, "mlp:64")
		c.Compress = of.compress
		choice := "ps:servers=1"
		if of.pull != "" {
			choice += ",pull=" + of.pull
		}
		c, _ = served(t, c, choice)
		full, empty := runPriced(t, 4, false, c), runPriced(t, 4, true, c)
		a, b := full.sent.Sum(), empty.sent.Sum()
		if full.flops != empty.flops || full.bytes != empty.bytes || a.Messages != b.Messages || a.Sent() > b.Sent() || a.Sent() < b.Sent()*9/10 || !strings.Contains(of.compress, "topk") && a.Sent() != b.Sent() {
			t.Errorf("%+v: %d FLOPs, %d bytes, and sent\n%von a hollow group %d, %d, and\n%v", of, full.flops, full.bytes, &full.sent, empty.flops, empty.bytes, &empty.sent)
		}
	}
}

// What cannot be pushed or pulled by codes is refused before anything is trained, with what can be done instead.
func TestCodesAreRefused(t *testing.T) {
	for _, of := range []struct{ compress, choice, why string }{
		{"topk:0.1+ef", "ps:deal=dynamic", "leave out one of the two"},
		{"topk:0.1+ef21", "ps:mode=async", "take mode=bsp, or +ef"},
		{"powersgd:2+ef", "ps", "use topk:0.01+ef or uniform:8+ef"},
		{"vote", "ps", "use sign+ef"},
		{"uniform:8+ef+hosts", "ps", "leave it out"},
	} {
		c := config(t, "mlp:24")
		c.Compress, c.Optimizer = of.compress, "sgd"
		c, p := served(t, c, of.choice)
		_, err := train.Local(t.Context(), 2+p.Servers, timeout, c)
		var config *train.ConfigError
		if !errors.As(err, &config) || !strings.Contains(err.Error(), of.why) {
			t.Errorf("%+v: %v", of, err)
		}
	}
}

// forged changes what a rank sends with a tag.
type forged struct {
	comm.Group
	tag  comm.Tag
	bend func(p []byte) []byte
}

func (g *forged) Send(ctx context.Context, to comm.Rank, tag comm.Tag, p []byte) error {
	if g.bend != nil && tag == g.tag && len(p) > 1000 {
		p = g.bend(slices.Clone(p))
	}
	return g.Group.Send(ctx, to, tag, p)
}

// A push that no worker can have meant is refused in its sender's name, and changes nothing: an index beyond the last element, a number
// that is none, a message that is short or long, a part too many. So are codes that a server sends.
func TestBentCodesAreRefused(t *testing.T) {
	const headBytes = 64
	nan := func(p []byte) { copy(p, "\xff\xff\xff\xff\xff\xff\xff") } // wherever in these a number begins
	for _, of := range []struct {
		name string
		bend func(p []byte) []byte
		why  string
	}{
		{"cut", func(p []byte) []byte { return p[:len(p)-8] }, "code"},
		{"not in fours", func(p []byte) []byte { return p[:len(p)-1] }, "in fours"},
		{"more", func(p []byte) []byte { return append(p, 0, 0, 0, 0) }, "bytes too many"},
		{"parts", func(p []byte) []byte { p[20] = 2; return p }, "2 parts in"},
		{"no number", func(p []byte) []byte { nan(p[len(p)-400:]); return p }, ""},
		{"length", func(p []byte) []byte { p[headBytes+64+3] = 0x7f; return p }, "says it has"},
		{"indices", func(p []byte) []byte {
			for i := headBytes + 64 + 4; i < headBytes+64+80; i++ {
				p[i] = 0xff
			}
			return p
		}, "not a code of"},
	} {
		for _, mode := range []string{"bsp", "async"} {
			c := config(t, "mlp:64")
			c.Compress = "topk:0.1+ef"
			c, p := served(t, c, "ps:mode="+mode)
			c.Around = func(g comm.Group) comm.Group {
				f := &forged{Group: g, tag: comm.MakeTag(comm.OpPush, 0)}
				if g.Rank() == 1 {
					f.bend = of.bend
				}
				return f
			}
			_, err := train.Local(t.Context(), 2+p.Servers, timeout, c)
			if err == nil || !strings.Contains(err.Error(), "server 0 refuses worker 1's push") || !strings.Contains(err.Error(), of.why) {
				t.Errorf("%s, %s: %v, expected %q", of.name, mode, err, of.why)
			}
		}
	}
	c := config(t, "mlp:64")
	c, p := served(t, c, "ps:pull=topk:0.1")
	c.Around = func(g comm.Group) comm.Group {
		f := &forged{Group: g, tag: comm.MakeTag(comm.OpPull, 0)}
		if g.Rank() == 2 {
			f.bend = func(p []byte) []byte { p[64+3] = 0x7f; return p }
		}
		return f
	}
	if _, err := train.Local(t.Context(), 2+p.Servers, timeout, c); err == nil || !strings.Contains(err.Error(), "from server 0 came parameters that cannot be read") {
		t.Errorf("codes of a server: %v", err)
	}
}
