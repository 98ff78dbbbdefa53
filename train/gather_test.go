package train

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/inproc"
	"github.com/covey-ml/covey/data"
)

// together runs f on every rank of a counted group and returns the ranks' errors and the books of all.
func together(n int, f func(g comm.Group) error) ([]error, comm.Books) {
	errs, ledger := make([]error, n), comm.NewLedger()
	var wg sync.WaitGroup
	for r, g := range inproc.New(n, time.Minute) {
		wg.Go(func() {
			errs[r] = f(comm.Count(g, ledger))
			g.Close()
		})
	}
	wg.Wait()
	return errs, ledger.Totals()
}

// Rank 0 decides with the values of all in order, everybody hears the same, and a decision of P workers takes 4(P-1)
// messages.
func TestDecide(t *testing.T) {
	for _, n := range []int{1, 2, 3, 8, 13} {
		want := ""
		for r := range n {
			want += strings.Repeat("x", r) + ","
		}
		errs, books := together(n, func(g comm.Group) error {
			got, err := decide(t.Context(), g, strings.Repeat("x", int(g.Rank())), func(all []string) (string, error) {
				if g.Rank() != 0 {
					return "", errors.New("another rank than 0 decides")
				}
				return strings.Join(all, ",") + ",", nil
			})
			if err == nil && got != want {
				err = fmt.Errorf("heard %q, expected %q", got, want)
			}
			return err
		})
		if err := errors.Join(errs...); err != nil {
			t.Errorf("%d workers: %v", n, err)
		}
		if sum := books.Sum(); sum.Messages != int64(4*(n-1)) || !sum.Closes() {
			t.Errorf("%d workers: the books say\n%v", n, &books)
		}
	}
}

// An error of rank 0's is everybody's, in its words, and a ConfigError stays one.
func TestTellErrors(t *testing.T) {
	for _, cause := range []error{
		errors.New("planted"),
		&ConfigError{Key: "seed", Err: errors.New("planted")},
		fmt.Errorf("around: %w", &ConfigError{Key: "seed", Err: errors.New("planted")}),
	} {
		errs, _ := together(3, func(g comm.Group) error {
			_, err := tell(t.Context(), g, 7, cause)
			return err
		})
		var config *ConfigError
		is := errors.As(cause, &config)
		for r, err := range errs {
			if err == nil || err.Error() != cause.Error() {
				t.Errorf("rank %d hears %v, rank 0 says %v", r, err, cause)
			}
			if config = nil; errors.As(err, &config) != is || is && (config.Key != "seed" || config.Err.Error() != "planted") {
				t.Errorf("rank %d hears %#v of %#v", r, err, cause)
			}
		}
	}
}

// Workers that were started for different runs all refuse, and say whose setting is another.
func TestDisagreement(t *testing.T) {
	for key, change := range map[string]func(*who){
		"seed":     func(w *who) { w.Setting.Seed = 4 },
		"strategy": func(w *who) { w.Setting.Strategy = "local:K=2" },
		"":         func(w *who) { w.Test = "another" },
	} {
		errs, _ := together(4, func(g comm.Group) error {
			me := who{Setting: setting{Seed: 3, Strategy: "allreduce"}, Test: "this", Resume: g.Rank() == 0}
			if g.Rank() == 2 {
				change(&me)
			}
			first, err := decide(t.Context(), g, me, agreed)
			if err == nil && !first.Resume {
				return errors.New("what rank 0 resumes is not everybody's")
			}
			return err
		})
		for r, err := range errs {
			var config *ConfigError
			if err == nil || !strings.HasPrefix(err.Error(), "worker 2 ") || key != "" && (!errors.As(err, &config) || config.Key != key) {
				t.Errorf("%s differs: rank %d returns %v", key, r, err)
			}
		}
	}
}

// The books of all workers are merged on the way to rank 0, however often it asks.
func TestAuditMergesBooks(t *testing.T) {
	const n, samples = 11, 1000
	errs, books := together(n, func(g comm.Group) error {
		r := &run{g: g, books: newSampleBooks(samples)}
		for i := int(g.Rank()); i < samples; i += n {
			if i != 500 && i != 77 {
				r.books.use([]int{i})
			}
		}
		if g.Rank() == 5 {
			r.books.use([]int{3, 999})
		}
		r.books.commit(0)
		for range 2 { // a second time nothing is counted twice
			exactly, missing, repeated, err := r.audit(t.Context())
			if err != nil {
				return err
			}
			if exactly || !slices.Equal(missing, []int{77, 500}) || !slices.Equal(repeated, []int{3, 999}) {
				return fmt.Errorf("exactly %v, missing %v, repeated %v", exactly, missing, repeated)
			}
		}
		return nil
	})
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
	// Everybody sends the books of all below it as large as its own.
	if e := books[comm.OpGather]; e.Messages != 2*2*(n-1) || e.Payload != 2*(n-1)*(8+16*((samples+63)/64)) || !e.Closes() {
		t.Errorf("%+v", e)
	}
}

// The report's lines of ranks survive the way.
func TestPackedRanks(t *testing.T) {
	want := []RankSum{{0, 1 << 60, -1, 0.1, 1e-300, 3}, {1, 0, 7, 0, 0, 0}, {2, 5, 6, 7, 8, 9}}
	var b []byte
	for _, k := range want {
		b = packed(b, k)
	}
	if got := unpacked(b); !slices.Equal(got, want) || len(b) != len(want)*packedBytes {
		t.Errorf("%v, expected %v", got, want)
	}
}

// sized is a data set of which only the length is known.
type sized struct {
	data.Dataset
	n int
}

func (s sized) Len() int { return s.n }

func TestLocalWorkersShareTheSampler(t *testing.T) {
	c := Config{shared: new(shared)}
	c.Train, c.Batch, c.Microshards = sized{n: 100}, 10, 2
	a, err := c.batches()
	if err != nil {
		t.Fatal(err)
	}
	other := c // as here copies it
	b, err := other.batches()
	if err != nil || a != b {
		t.Errorf("two workers of one process have samplers of their own, %v", err)
	}
	c.shared = nil
	if own, err := c.batches(); err != nil || own == a {
		t.Errorf("a worker by itself has another's sampler, %v", err)
	}
}

// FuzzUnframed: what workers are said to say is read or refused.
func FuzzUnframed(f *testing.F) {
	good := slices.Concat(framed([]byte(`"a"`)), framed([]byte(`"bc"`)))
	f.Add(good, uint8(2))
	f.Add(good[:len(good)-1], uint8(2))
	f.Add(good, uint8(3))
	f.Add(append(good, 0), uint8(2))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 'x'}, uint8(1))
	f.Fuzz(func(t *testing.T, b []byte, n uint8) {
		all, err := unframed[string](b, int(n))
		if err != nil {
			return
		}
		var again []byte
		for _, s := range all {
			j, err := json.Marshal(s)
			if err != nil {
				t.Fatal(err)
			}
			again = append(again, framed(j)...)
		}
		if back, err := unframed[string](again, int(n)); err != nil || !slices.Equal(back, all) {
			t.Fatalf("%q became %q, %v", all, back, err)
		}
	})
}

// A worker that ends in the middle of what it says, or whose words are none, is named.
func TestUnframedNamesTheWorker(t *testing.T) {
	for want, b := range map[string][]byte{
		"worker 1 says of itself ends":    append(framed([]byte("1")), 9, '2'),
		"worker 1 says of itself: ":       append(framed([]byte("1")), framed([]byte("{"))...),
		"3 bytes beyond what 2 workers":   bytes.Join([][]byte{framed([]byte("1")), framed([]byte("2")), []byte("abc")}, nil),
		"worker 0 says of itself ends in": nil,
	} {
		if _, err := unframed[int](b, 2); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, expected %s", b, err, want)
		}
	}
	if _, err := decide(context.Background(), nil, make(chan int), func(all []chan int) (int, error) { return len(all), nil }); err != nil {
		t.Errorf("a worker by itself need not say anything: %v", err)
	}
}
