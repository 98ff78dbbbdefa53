package table

import (
	"fmt"
	"slices"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/optim"
	"github.com/covey-ml/covey/rng"
	"github.com/covey-ml/covey/vec"
)

// batch is what one call works with. The rule is package optim's, whose moments are given to it with the rows, one or many at a time,
// so that there is one set of formulas.
type batch struct {
	rule    localRule
	moments int       // of the rule
	order   []uint64  // of a store; see there
	ends    []int     // by stripe: where its rows end in order
	x       []float32 // rows that are updated together, moment by moment
}

type localRule interface {
	optim.Optimizer
	optim.Placed
}

// take returns a batch that no other call uses.
func (t *Table) take() (*batch, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, errClosed
	}
	if n := len(t.idle); n > 0 {
		b := t.idle[n-1]
		t.idle = t.idle[:n-1]
		return b, nil
	}
	b, _, err := t.newBatch()
	return b, err
}

func (t *Table) give(b *batch) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.idle = append(t.idle, b)
}

// newBatch also returns the rule's moments of one row, as they begin.
func (t *Table) newBatch() (*batch, []ckpt.Tensor, error) {
	c := &t.c
	l := model.Layout(nil).Add("row", c.Width)
	o, err := optim.New(c.Rule, l)
	if err != nil {
		return nil, nil, err
	}
	rule, ok := o.(localRule)
	if !ok || !rule.Local() {
		return nil, nil, fmt.Errorf("the rule %v needs norms of all parameters, and a table updates some rows at a time: take a rule such as adagrad or adam, without clip=", c.Rule)
	}
	for _, m := range rule.State() {
		if m.Type != ckpt.F32 || m.Len() != l.Len() {
			return nil, nil, fmt.Errorf("the rule %v keeps %s, %s %v: a table has room for one float32 for each element", c.Rule, m.Name, m.Type, m.Shape)
		}
	}
	return &batch{rule: rule, moments: len(rule.State()), ends: make([]int, t.stripes)}, rule.State(), nil
}

// update moves a row, with its state beside it, along scale*g.
func (b *batch) update(x, g []float32, scale float32) {
	w := len(g)
	var m optim.Moments
	for k := range b.moments {
		m[k] = x[(k+1)*w : (k+2)*w]
	}
	b.rule.ApplyAt(x[:w], g, m, scale)
}

// updateAll moves the rows in some slots of x, each stride elements with its state, along scale*g.
func (b *batch) updateAll(x []float32, slots []uint64, stride int, g []float32, scale float32) {
	n := len(g)
	if len(slots) == 1 {
		b.update(x[int(slots[0])*stride:][:stride], g, scale)
		return
	}
	w := n / len(slots)
	b.x = vec.Resized(b.x, n*(1+b.moments))
	var all [4][]float32 // the values, and each moment
	for k := range 1 + b.moments {
		all[k] = b.x[k*n : (k+1)*n]
		vec.GatherRows(all[k], x[k*w:], slots, stride, w)
	}
	b.rule.ApplyAt(all[0], g, optim.Moments(all[1:]), scale)
	for k := range 1 + b.moments {
		vec.ScatterRows(all[k], x[k*w:], slots, stride, w)
	}
}

// group sorts the positions of rows by their stripes.
func (b *batch) group(rows []uint64) {
	b.order = slices.Grow(b.order[:0], len(rows))[:len(rows)]
	clear(b.ends)
	mask := uint64(len(b.ends) - 1)
	for _, r := range rows {
		b.ends[hash(r)&mask]++
	}
	at := 0
	for i, n := range b.ends {
		b.ends[i] = at
		at += n
	}
	for i, r := range rows {
		k := hash(r) & mask
		b.order[b.ends[k]] = uint64(i)
		b.ends[k]++
	}
}

// hash spreads rows over stripes and their indexes. What spreads rows over servers may use rng.Mix, too, and this must not
// depend on it: the constant tells the two apart.
func hash(row uint64) uint64 { return rng.Mix(row ^ 0x7461626c65) }
