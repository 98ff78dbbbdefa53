package comm

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"
)

// The work that the model counts is the work of the bills: what the busiest rank sends or receives, by the closed forms
// of what each rank sends, over a tree where all ranks own equally much and so send as much as they receive.
func TestWorkAgreesWithTheBills(t *testing.T) {
	const n = 1 << 12 // elements: a chunk a rank, and no message in segments
	for _, ranks := range []int{2, 4, 8, 16} {
		for _, leaves := range []int{ranks, 4 * ranks} {
			tree := NewTree(leaves, ranks)
			for _, a := range []Algorithm{Direct, Doubling, Gather, Ring, Torus, Torus.Rows(2), Hierarchical.Hosts(2), Hierarchical} {
				if !a.Fits(tree) {
					continue
				}
				most, messages := int64(0), int64(0)
				for r := range Rank(ranks) {
					b := AllReduceBill(a, tree, r, n)
					most, messages = max(most, b.Payload()), max(messages, b.Messages())
				}
				w := a.Work(tree)
				if got := int64(w.Bytes * word * n); got != most {
					t.Errorf("%v over %d leaves on %d ranks: the work has %d bytes, the bill %d", a, leaves, ranks, got, most)
				}
				if int64(w.Messages) != 2*messages {
					t.Errorf("%v over %d leaves on %d ranks: the work has %d messages at both ends, the bill %d sent", a, leaves, ranks, w.Messages, messages)
				}
			}
		}
	}
}

// Each algorithm of the constants, by hand.
func TestWork(t *testing.T) {
	four, hosts := NewTree(4, 4), NewTree(4, 4).On(Hosts{0, 2})
	for _, c := range []struct {
		what string
		got  Work
		want Work
	}{
		{"direct: half of it from three others, and added", Direct.Work(four), Work{Rounds: 2, Messages: 12, Bytes: 1.5, Added: 0.75}},
		{"doubling", Doubling.Work(four), Work{Rounds: 2, Messages: 4, Bytes: 2, Added: 2}},
		{"gather: three additions and two copies", Gather.Work(four), Work{Rounds: 1, Messages: 6, Bytes: 3, Added: 5}},
		{"tree: the root hears two and tells two", Binomial.Work(four), Work{Rounds: 4, Messages: 4, Bytes: 4, Added: 2}},
		{"ring", Ring.Work(four), Work{Rounds: 6, Messages: 12, Bytes: 1.5, Added: 0.75}},
		{"torus of 2 by 2: halves along rows, a swap of halves", Torus.Work(four), Work{Rounds: 3, Messages: 6, Bytes: 1.5, Added: 1}},
		{"direct, two hosts: each rank of a host sends a quarter to two others, twice", Direct.Work(hosts),
			Work{Rounds: 2, Messages: 12, Bytes: 1.5, Added: 0.75, FarRounds: 2, FarBytes: 2}},
		{"hierarchical: one vector leaves a host", Hierarchical.Work(hosts),
			Work{Rounds: 3, Messages: 6, Bytes: 1.5, Added: 1, FarRounds: 1, FarBytes: 1}},
		{"torus with rows that are the hosts", Torus.Work(hosts),
			Work{Rounds: 3, Messages: 6, Bytes: 1.5, Added: 1, FarRounds: 1, FarBytes: 1}},
		{"doubling: the second round is between hosts", Doubling.Work(hosts),
			Work{Rounds: 2, Messages: 4, Bytes: 2, Added: 2, FarRounds: 1, FarBytes: 2}},
		{"tree: one goes up and one comes down between hosts", Binomial.Work(hosts),
			Work{Rounds: 4, Messages: 4, Bytes: 4, Added: 2, FarRounds: 2, FarBytes: 2}},
		{"ring: every round crosses", Ring.Work(hosts),
			Work{Rounds: 6, Messages: 12, Bytes: 1.5, Added: 0.75, FarRounds: 6, FarBytes: 1.5}},
	} {
		if c.got != c.want {
			t.Errorf("%s: %+v, want %+v", c.what, c.got, c.want)
		}
	}
}

var rewrite = flag.Bool("rewrite", false, "write the golden tables anew")

// The golden table of choices, with the transports' compiled-in costs.
func TestChoices(t *testing.T) {
	var got strings.Builder
	messages := ShmCosts
	messages.Name, messages.Board = "shm by messages", BoardCosts{}
	for _, c := range []Costs{InprocCosts, ShmCosts, messages, TCPCosts} {
		for _, shape := range []struct {
			leaves, ranks int
			hosts         Hosts
		}{{2, 2, nil}, {4, 4, nil}, {6, 3, nil}, {16, 16, nil}, {8, 8, Hosts{0, 4}}} {
			if shape.hosts != nil && c.Name != "tcp" {
				continue
			}
			tree := NewTree(shape.leaves, shape.ranks).On(shape.hosts)
			last := ""
			for bytes := 4; bytes <= 1<<30; bytes <<= 1 {
				if e := Explain(c, tree, bytes); e.Chosen != last {
					fmt.Fprintf(&got, "%s, %d ranks on %d hosts, %d leaves, from %d bytes: %s: %s\n", c.Name, e.Ranks, e.Hosts, e.Leaves, bytes, e.Chosen, e.Reason)
					last = e.Chosen
				}
			}
		}
	}
	const golden = "testdata/choices.txt"
	if *rewrite {
		if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("the choices are now (see -rewrite)\n%s", got.String())
	}
}

func TestExplain(t *testing.T) {
	e := Explain(TCPCosts, NewTree(6, 3), 1<<20)
	if e.Choice != Choose(TCPCosts, NewTree(6, 3), 1<<20) || e.Estimates[0].Algorithm != e.Choice || len(e.Estimates) != int(numKinds-Direct) {
		t.Fatalf("%+v", e)
	}
	for i, s := range e.Estimates {
		if i > 1 && s.Note == "" && s.Time < e.Estimates[i-1].Time {
			t.Errorf("%v comes after %v", s, e.Estimates[i-1])
		}
	}
	text := e.String()
	for _, want := range []string{"direct", "doubling      -", "does not fit: doubling needs a power of two", "by name only", "tcp costs"} {
		if !strings.Contains(text, want) {
			t.Errorf("the table does not say %q:\n%s", want, text)
		}
	}
	if e := Explain(TCPCosts, NewTree(4, 1), 100); e.Reason != "one worker has nothing to exchange" || e.Choice != Direct {
		t.Errorf("%+v", e)
	}
}

// A price that goes up makes no algorithm cheaper, and time grows with size.
func TestTimeGrows(t *testing.T) {
	tree := NewTree(12, 5).On(Hosts{0, 2})
	for a := Direct; a < numKinds; a++ {
		if !a.Fits(tree) {
			continue
		}
		last := time.Duration(0)
		for bytes := 1; bytes < 1<<28; bytes *= 3 {
			now := ShmCosts.Time(a, tree, bytes)
			if now < last {
				t.Errorf("%v of %d bytes takes %v, a third of it %v", a, bytes, now, last)
			}
			last = now
			for _, dear := range []func(*Costs){func(c *Costs) { c.Alpha *= 2 }, func(c *Costs) { c.Message *= 2 }, func(c *Costs) { c.Beta *= 2 },
				func(c *Costs) { c.Gamma *= 2 }, func(c *Costs) { c.Far.Alpha *= 2 }, func(c *Costs) { c.Far.Beta *= 2 }} {
				c := ShmCosts
				if dear(&c); c.Time(a, tree, bytes) < now {
					t.Errorf("%v of %d bytes is cheaper at %+v", a, bytes, c)
				}
			}
		}
	}
}

func TestBucketBytes(t *testing.T) {
	seed := rand.Uint64()
	draw := rand.New(rand.NewPCG(seed, 0))
	for range 2000 {
		ranks, total := 2+draw.IntN(15), 4+draw.IntN(1<<28)
		tree := NewTree(ranks, ranks)
		c := Costs{Alpha: 1e-4 * draw.Float64(), Message: 1e-5 * draw.Float64(), Beta: 1e-11 + 1e-8*draw.Float64(), Gamma: 1e-10 * draw.Float64()}
		b := BucketBytes(c, tree, total)
		if b < 4 || b > total || b != total && b > total/2 {
			t.Fatalf("seed %d: %d of %d bytes with %+v", seed, b, total, c)
		}
		w := c.of(Direct.Work(tree), b)
		if start := w[termRounds] + w[termMessages]; b < total && start > w.sum()/bucketStart*1.001 {
			t.Errorf("seed %d: starting a bucket of %d takes %v of %v s", seed, b, start, w.sum())
		}
		for what, d := range map[string]int{
			"twice the alpha":   BucketBytes(Costs{Alpha: 2 * c.Alpha, Message: c.Message, Beta: c.Beta, Gamma: c.Gamma}, tree, total),
			"half the beta":     BucketBytes(Costs{Alpha: c.Alpha, Message: c.Message, Beta: c.Beta / 2, Gamma: c.Gamma}, tree, total),
			"twice the message": BucketBytes(Costs{Alpha: c.Alpha, Message: 2 * c.Message, Beta: c.Beta, Gamma: c.Gamma}, tree, total),
		} {
			if d < b {
				t.Errorf("seed %d: with %s a bucket shrinks from %d to %d of %d", seed, what, b, d, total)
			}
		}
		c.Busy = true
		if BucketBytes(c, tree, total) != total {
			t.Errorf("seed %d: a busy transport cuts %d bytes", seed, total)
		}
	}
	if BucketBytes(TCPCosts, NewTree(4, 1), 1<<20) != 1<<20 || BucketBytes(TCPCosts, NewTree(4, 4), 0) != 0 {
		t.Error("one worker, or no bytes, are cut")
	}
}

func TestSquareRows(t *testing.T) {
	for ranks, want := range map[int]int{4: 2, 5: 2, 6: 3, 7: 2, 8: 2, 9: 3, 12: 3, 16: 4, 24: 6, 32: 4, 35: 5, 64: 8, 1024: 32} {
		if got := squareRows(ranks); got != want {
			t.Errorf("%d ranks: %d rows, want %d", ranks, got, want)
		}
		if !Torus.Fits(NewTree(ranks, ranks)) {
			t.Errorf("no torus of %d ranks", ranks)
		}
	}
}

func TestHosts(t *testing.T) {
	h := HostsOf([]string{"a", "a", "b", "a", "c", "c"})
	if fmt.Sprint(h) != "[0 2 3 4]" || fmt.Sprint(EvenHosts(3, 8)) != "[0 2 5]" || HostsOf(nil) != nil {
		t.Errorf("%v, %v", h, EvenHosts(3, 8))
	}
	for _, bad := range []Hosts{{1}, {0, 0}, {0, 6}, {0, 3, 2}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("a tree of 6 ranks on %v", bad)
				}
			}()
			NewTree(6, 6).On(bad)
		}()
	}
}
