package reduce

import (
	"context"
	"fmt"
	"testing"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/compress"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/spec"
)

// The payload that the ledger counts is the closed form of each way's page, to the byte: two-way 2(P-1) codes of a P-th of the
// vector, gather P-1 codes of all of it, vote a bit an element each way, low rank two exact sums of few numbers. A code's length
// is MaxLen, and a message has one byte more.
func TestBytes(t *testing.T) {
	const rows, cols = 96, 100
	const n = rows * cols // whose parts are all multiples of 8
	ctx := context.Background()
	for p := 2; p <= 5; p++ {
		code := func(text string, n int) int {
			s, err := spec.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			c, err := compress.New(s)
			if err != nil {
				t.Fatal(err)
			}
			if _, fixed := c.(compress.Fixed); !fixed {
				t.Fatalf("%s has codes of varying length", text)
			}
			return c.MaxLen(n)
		}
		for rules, want := range map[string]int{ // of one rank
			"uniform:8":      2 * (p - 1) * (code("uniform:8", n/p) + 1),
			"qsgd:7+ef":      2 * (p - 1) * (code("qsgd:7", n/p) + 1),
			"onebit+ef":      2 * (p - 1) * (code("onebit", n/p) + 1),
			"natural":        2 * (p - 1) * (n/p + n/p/8 + 1), // 9 bits
			"bf16":           2 * (p - 1) * (2*n/p + 1),
			"vote":           2 * (p - 1) * (n/p/8 + 1),
			"uniform:4+ef21": (p - 1) * (code("uniform:4", n) + 1),
			"fp16+ef21":      (p - 1) * (2*n + 4 + 1),
			"powersgd:3+ef":  -1, // of all ranks: below
		} {
			w := newWorld(t, p, p, "none", nil)
			r, err := ParseRules(rules)
			if err != nil {
				t.Fatal(err)
			}
			layout := model.Layout{}.Add("w", rows, cols)
			all := func(f func(rank int, g comm.Group) error) (sent []int, total int) {
				errs := make(chan error)
				for rank, g := range w.groups {
					w.books[rank].Take()
					go func() { errs <- f(rank, g) }()
				}
				for range w.groups {
					if err := <-errs; err != nil {
						t.Fatal(err)
					}
				}
				for rank, l := range w.books {
					_, b := l.Take()
					if e := b.Sum(); !e.Closes() {
						t.Errorf("%s, rank %d: the books do not close", rules, rank)
					}
					sent = append(sent, int(b.Sum().Payload))
					total += sent[rank]
				}
				return sent, total
			}
			sent, total := all(func(rank int, g comm.Group) error {
				c := NewCompressed(Config{Group: g, Tree: w.tree, Exact: w.red[rank], Layout: layout, Rules: r})
				x := make([]float32, n)
				for i := range x {
					x[i] = float32(i%13 - 6)
				}
				return c.Sum(ctx, Vector{Parts: [][]float32{x}, Total: 1})
			})
			if want >= 0 {
				if got := fmt.Sprint(sent); got != fmt.Sprint(vecOf(p, want)) {
					t.Errorf("%s, %d ranks: %v bytes, expected %d from each", rules, p, got, want)
				}
				continue
			}
			_, exact := all(func(rank int, g comm.Group) error {
				for _, k := range []int{3 * rows, 3 * cols} {
					if err := comm.AllReduce(ctx, g, w.tree, [][]float32{make([]float32, k)}); err != nil {
						return err
					}
				}
				return nil
			})
			if total != exact {
				t.Errorf("%s, %d ranks: %d bytes in all, two sums of %d and %d numbers take %d", rules, p, total, 3*rows, 3*cols, exact)
			}
			if least := 2 * (p - 1) * 4 * 3 * (rows + cols); total < least || total > least*p/2 {
				t.Errorf("%s, %d ranks: %d bytes in all, expected %d, or in one round %d", rules, p, total, least, least*p/2)
			}
		}
	}
}

func vecOf(n, v int) []int {
	x := make([]int, n)
	for i := range x {
		x[i] = v
	}
	return x
}
