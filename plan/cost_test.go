package plan

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/inproc"
	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/job"
	"github.com/covey-ml/covey/strategy/local"
	"github.com/covey-ml/covey/train"
)

const digits = "digits:train=120,test=10"

// samples are made once.
var samples = sync.OnceValues(func() (data.Dataset, error) {
	tr, _, err := data.Open(context.Background(), digits, data.Options{})
	return tr, err
})

// conf is a job of keys such as "workers=3 strategy=local:K=4", and how many ranks it has.
func conf(t *testing.T, keys string) (train.Config, int) {
	t.Helper()
	j := &job.Job{Data: digits, Model: "mlp:20", Transport: job.TCP, Batch: 20, Test: "none"}
	for _, k := range strings.Fields(keys) {
		key, value, _ := strings.Cut(k, "=")
		if err := j.Set(key, value, "here"); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Fill(); err != nil {
		t.Fatal(err)
	}
	tr, err := samples()
	if j.Data != digits {
		tr, _, err = j.Open(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	c, err := j.Build(tr, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c, j.Ranks()
}

// bare is a group that sends messages, framed as TCP's: what else it can do is hidden.
type bare struct{ comm.Group }

func (bare) Overhead(n int) int { return TCP(1).Framer.Overhead(n) }
func (bare) Costs() comm.Costs  { return comm.TCPCosts }

func messages(ctx context.Context, n int, f func(context.Context, comm.Group) error) error {
	groups := inproc.New(n, time.Minute)
	for i, g := range groups {
		groups[i] = bare{g}
	}
	return together(ctx, groups, f)
}

// The formulas say what the ledger counts, to the message and the byte, for each worker: every algorithm, several strategies and
// compressors, 2 to 5 workers, one microshard a worker, several, and workers without any.
func TestFormulaIsTheLedger(t *testing.T) {
	for n := 2; n <= 5; n++ {
		algorithms := []string{"auto", "direct", "gather", "tree", "ring", "hierarchical:hosts=2", "direct bucket=512", "gather bucket=900", "auto shard=no"}
		if n == 2 || n == 4 {
			algorithms = append(algorithms, "doubling")
		}
		if n >= 4 {
			algorithms = append(algorithms, "torus")
		}
		for _, a := range algorithms {
			for _, shards := range []int{n - 1, n, 2*n + 1, 4 * n} {
				if shards < n && a == "doubling" || shards == 2*n+1 && a == "doubling" {
					continue
				}
				verify(t, fmt.Sprintf("workers=%d microshards=%d steps=3 algorithm=%s", n, shards, a), true)
			}
		}
		for _, s := range []string{"local:K=3", "local:K=4,fragments=2", "local:K=6,fragments=2,overlap=2", "postlocal:K=3,start=2", "hierarchical:K=1,groups=2,outer=3",
			"diloco:K=3", "fedprox:K=2", "easgd:K=2", "bmuf:K=3", "scaffold:K=2 optimizer=sgd", "scaffold:K=3,option=1 optimizer=sgd"} {
			for _, shards := range []int{n, 2*n + 1} {
				verify(t, fmt.Sprintf("workers=%d microshards=%d steps=6 strategy=%s", n, shards, s), true)
			}
		}
		for _, c := range []string{"none", "fp16", "bf16", "uniform:4", "sign", "onebit+ef", "randomk:0.1", "powersgd:2+ef", "powersgd:1", "natural", "qsgd:4", "terngrad"} {
			for i, s := range []string{"allreduce", "local:K=2"} {
				verify(t, fmt.Sprintf("workers=%d microshards=%d steps=3 strategy=%s compress=%s", n, []int{n - 1, 2*n + 1}[(i+n)%2], s, c), true)
			}
		}
		verify(t, fmt.Sprintf("workers=%d steps=3 compress=vote optimizer=sgd lr=0.001", n), true)
		for _, c := range []string{"topk:0.01+ef", "qsgd:levels=4,code=elias", "dgc optimizer=sgd", "bernoulli:0.05"} {
			verify(t, fmt.Sprintf("workers=%d steps=3 compress=%s", n, c), false)
		}
		verify(t, fmt.Sprintf("workers=%d steps=6 strategy=local:K=2,period=loss", n), false)
	}
}

// verify checks a job. exact says that its exchanges have an exact formula.
func verify(t *testing.T, keys string, exact bool) {
	t.Helper()
	c, n := conf(t, keys)
	got, err := Verify(context.Background(), c, n, nil, 1<<20, messages)
	if err != nil {
		t.Errorf("%s: %v", keys, err)
		return
	}
	exchanges := 0
	for _, r := range got.Rows {
		if r.Phase == Exchanges {
			exchanges++
			if r.Exact != exact && r.Op != comm.OpAllReduce.String() {
				t.Errorf("%s: %s is called exact: %v", keys, r.Op, r.Exact)
			}
			if off := math.Abs(float64(r.Ledger.Bytes())/float64(r.Formula.Bytes()) - 1); !exact && off > 0.6 {
				t.Errorf("%s: %s: %d bytes, and %d were foretold", keys, r.Op, r.Ledger.Bytes(), r.Formula.Bytes())
			}
		}
		if r.Exact && !r.Agrees {
			t.Errorf("%s: %s, %s: formula %+v, ledger %+v", keys, r.Phase, r.Op, r.Formula, r.Ledger)
		}
		if !r.Exact && (r.Phase == Start || r.Op == comm.OpGather.String() && r.Phase == EpochEnds) {
			t.Errorf("%s: %s of %s is not called exact", keys, r.Op, r.Phase)
		}
	}
	if !got.Agrees || exchanges == 0 {
		t.Errorf("%s: %s, of %d operations", keys, got.Words, exchanges)
	}
}

// What is said when workers meet is exact to the byte, too, of a run that is tested and leaves checkpoints, which all write.
func TestMeetingIsTheLedger(t *testing.T) {
	c, n := conf(t, "workers=3 epochs=1")
	c.Test, c.Dir, c.SaveTogether = c.Train, t.TempDir(), 1000
	k, err := Of(c, TCP(n))
	if err != nil {
		t.Fatal(err)
	}
	seen := make([]counted, n)
	if err := messages(t.Context(), n, func(ctx context.Context, g comm.Group) error {
		return seen[g.Rank()].train(ctx, g, c)
	}); err != nil {
		t.Fatal(err)
	}
	rows := 0
	for _, r := range k.compare(seen).Rows {
		if r.Phase != Start {
			continue
		}
		if rows++; !r.Exact || !r.Agrees {
			t.Errorf("%s: exact: %v; formula %+v, ledger %+v", r.Op, r.Exact, r.Formula, r.Ledger)
		}
	}
	if rows != 2 {
		t.Errorf("%d operations", rows)
	}
}

// A closed form is one exchange, of exponents and of sums that are exact.
func TestFormulaOfAClosedForm(t *testing.T) {
	var rows strings.Builder
	rows.WriteString("a,b,c,y\n")
	for i := range 40 {
		fmt.Fprintf(&rows, "%d,%d,%d,%d\n", i%7, i%5, i*i%11, i)
	}
	path := filepath.Join(t.TempDir(), "d.csv")
	if err := os.WriteFile(path, []byte(rows.String()), 0o666); err != nil {
		t.Fatal(err)
	}
	for n := 2; n <= 5; n++ {
		j := &job.Job{Data: path, Task: "regression", Model: "ridge", Test: "none", Workers: n, Transport: job.TCP}
		if err := j.Fill(); err != nil {
			t.Fatal(err)
		}
		tr, _, err := j.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		c, err := j.Build(tr, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Verify(t.Context(), c, n, nil, 10, messages)
		if err != nil || !got.Agrees || len(got.Rows) < 5 {
			t.Errorf("%d workers: %+v, error %v", n, got, err)
			continue
		}
		for _, r := range got.Rows {
			if r.Phase == Exchanges && r.Op == comm.OpAllReduce.String() && (!r.Exact || !r.Agrees) {
				t.Errorf("%d workers: %+v", n, r)
			}
		}
	}
}

// The same over real sockets, in shared memory and in the simulator, whose groups say themselves what messages cost.
func TestFormulaIsTheLedgerElsewhere(t *testing.T) {
	for name, run := range map[string]Run{"tcp": Loopback(time.Minute), "memory": Goroutines(time.Minute)} {
		for _, keys := range []string{"workers=3 steps=2", "workers=2 steps=3 microshards=7 compress=onebit+ef", "workers=4 steps=4 strategy=scaffold:K=2 optimizer=sgd"} {
			c, n := conf(t, keys)
			got, err := Verify(context.Background(), c, n, nil, 100, run)
			if err != nil || !got.Agrees {
				t.Errorf("%s, %s: %+v, error %v", name, keys, got, err)
			}
		}
	}
}

// A ledger with one byte more than the formula is seen, and so is one that differs in a worker and not in the sum.
func TestCheckSeesDifferences(t *testing.T) {
	c, n := conf(t, "workers=3 steps=2")
	k, err := Of(c, TCP(n))
	if err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []struct {
		change func(seen []counted)
		words  string
	}{
		{func([]counted) {}, "agrees exactly"},
		{func(seen []counted) { (*seen[1][Exchanges])[comm.OpAllReduce].Payload++ }, "DIFFERS, first at worker 1"},
		{func(seen []counted) {
			(*seen[0][Exchanges])[comm.OpAllReduce].Payload++
			(*seen[2][Exchanges])[comm.OpAllReduce].Payload--
		}, "DIFFERS at worker 0, though not in the sum"},
	} {
		seen := make([]counted, n)
		for r := range seen {
			seen[r] = counted{}
			for _, p := range []Phase{Exchanges} {
				seen[r][p] = &comm.Books{}
				for _, l := range k.Lines {
					if l.Phase == p {
						e := &seen[r][p][l.op]
						e.Messages += int64(l.Times) * l.sent[r].Messages
						e.Payload += int64(l.Times) * l.sent[r].Payload
						e.Header += int64(l.Times) * l.sent[r].Header
					}
				}
			}
		}
		wrong.change(seen)
		for _, r := range k.compare(seen).Rows {
			if r.Phase == Exchanges && !strings.HasPrefix(r.Words, wrong.words) {
				t.Errorf("says %q, expected %q", r.Words, wrong.words)
			}
		}
	}
}

// What the papers say of an all-reduce of S bytes by P workers: rounds, and the bytes of the busiest one.
func TestFormsOfThePapers(t *testing.T) {
	costs := comm.Costs{Alpha: 3, Beta: 5, Gamma: 7}
	for _, p := range []int{2, 4, 8, 16} {
		const n = 1 << 10
		s, lg, share := 4.0*n, math.Log2(float64(p)), float64(p-1)/float64(p)
		b := &builder{scene: Scene{Workers: p, Costs: costs}}
		for _, want := range []struct {
			paper     string
			algorithm comm.Algorithm
			rounds    float64
			bytes     float64 // of the busiest
			time      float64
		}{
			// Patarasuk and Yuan, theorem 1: no algorithm sends less than 2(P-1)/P S from some process; section 3: the ring does it in 2(P-1) rounds.
			// Thakur, Rabenseifner and Gropp, section 4.5: T_ring = 2(p-1) alpha + 2 (p-1)/p n beta + (p-1)/p n gamma.
			{"ring", comm.Ring, 2 * float64(p-1), 2 * share * s, 2*float64(p-1)*3 + 2*share*s*5 + share*s*7},
			// The same, section 4.5: T_rec_dbl = lg p alpha + n lg p beta + n lg p gamma.
			{"recursive doubling", comm.Doubling, lg, lg * s, lg*3 + lg*s*5 + lg*s*7},
			// The bytes of theorem 1 in two rounds.
			{"direct", comm.Direct, 2, 2 * share * s, 2*3 + 2*share*s*5 + share*s*7},
			// The same, section 4.4, the binomial tree: reduce in lg p (alpha + n beta + n gamma), broadcast, section 4.3, in lg p (alpha + n beta).
			{"binomial tree", comm.Binomial, 2 * lg, 0, 2*lg*3 + 2*lg*s*5 + lg*s*7},
		} {
			l := b.exact("", comm.NewTree(p, p), nil, costs, want.algorithm, n)
			near := func(got, want float64) bool { return math.Abs(got-want) <= 1e-9*want }
			if float64(l.Rounds) != want.rounds || want.bytes > 0 && float64(l.Busiest) != want.bytes {
				t.Errorf("%s, %d workers: %d rounds and %d bytes, the paper says %v and %v", want.paper, p, l.Rounds, l.Busiest, want.rounds, want.bytes)
			}
			if want.paper == "binomial tree" { // the paper's sends S down once a round, and its root is one end of each
				continue
			}
			if !near(l.Time(), want.time) {
				t.Errorf("%s, %d workers: %v, the paper says %v", want.paper, p, l.Time(), want.time)
			}
		}
	}
}

// Talking every K steps divides the bytes by K (Stich, arXiv 1805.09767, section 1), and SCAFFOLD doubles those of a round
// (Karimireddy et al., arXiv 1910.06378, section 3), but for the head, which is loss and votes.
func TestWhatLocalMethodsSave(t *testing.T) {
	payload := func(keys string) float64 {
		c, n := conf(t, keys)
		k, err := Of(c, TCP(n))
		if err != nil {
			t.Fatal(err)
		}
		return float64(k.Exchange.Payload)
	}
	each := payload("workers=4 steps=48 algorithm=ring strategy=local:K=1 optimizer=sgd")
	for _, k := range []int{2, 4, 16} {
		if got := payload(fmt.Sprintf("workers=4 steps=48 algorithm=ring strategy=local:K=%d optimizer=sgd", k)); got*float64(k) != each {
			t.Errorf("K=%d: %v bytes, and %v with an exchange in each step", k, got, each)
		}
	}
	if r := payload("workers=4 steps=48 algorithm=ring strategy=scaffold:K=1 optimizer=sgd") / each; r > 2 || r < 1.99 {
		t.Errorf("SCAFFOLD sends %v times what local SGD does", r)
	}
}

// How often a fragment is exchanged, against the rule that the strategy goes by, step by step.
func TestRounds(t *testing.T) {
	for _, c := range []local.Config{
		{Method: local.Local, K: 1}, {Method: local.Local, K: 7}, {Method: local.Local, K: 7, Fragments: 3}, {Method: local.DiLoCo, K: 12, Fragments: 5},
		{Method: local.PostLocal, K: 5, Start: 0}, {Method: local.PostLocal, K: 5, Start: 9}, {Method: local.Hierarchical, K: 3, Outer: 4},
	} {
		n := max(1, c.Fragments)
		for steps := 1; steps < 60; steps++ {
			since, count := make([]int, n), make([]int, n)
			for i := range since {
				since[i] = c.K - (i+1)*c.K/n
			}
			for s := range steps {
				period := c.K
				if c.Method == local.PostLocal && s < c.Start {
					period = 1
				}
				if c.Method == local.Hierarchical {
					period *= c.Outer
				}
				for i := range since {
					if since[i]++; since[i] >= period || s == steps-1 {
						since[i] = 0
						count[i]++
					}
				}
			}
			for i := range count {
				if got := rounds(c, steps, i, n); got != count[i] {
					t.Fatalf("%+v: fragment %d is exchanged %d times in %d steps, the formula says %d", c, i, count[i], steps, got)
				}
			}
		}
	}
}

// What has no closed form says what to do instead.
func TestNoClosedForm(t *testing.T) {
	for keys, words := range map[string]string{
		"workers=2 adapt=auto":          "adapt: what is chosen while training depends on measured times",
		"workers=2 compress=fp16+hosts": "all workers are on one",
	} {
		c, n := conf(t, keys)
		if _, err := Of(c, TCP(n)); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: error %v, expected %q", keys, err, words)
		}
	}
}

// Tables are whole, and one worker sends nothing.
func TestPrint(t *testing.T) {
	c, n := conf(t, "workers=3 steps=10 bucket=512")
	k, err := Of(c, TCP(n))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := k.Print(&b); err != nil {
		t.Fatal(err)
	}
	for _, words := range []string{"10 steps by allreduce: 15,910 parameters", "3 workers over tcp", "gradient, bucket 1 of", "to meet", "whole run"} {
		if !strings.Contains(b.String(), words) {
			t.Errorf("%q is not in\n%s", words, b.String())
		}
	}
	c, _ = conf(t, "workers=1 steps=10")
	if k, err = Of(c, TCP(1)); err != nil || len(k.Lines) > 0 || k.Exchange.Messages > 0 {
		t.Errorf("one worker sends %+v, error %v", k.Lines, err)
	}
}
