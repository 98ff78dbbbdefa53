package train

import (
	"fmt"
	"strings"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/reduce"
)

// other is a reducer beside the worker's first. A strategy asks for it when it needs it, which is after a checkpoint was
// read: until then other holds what the checkpoint has for it.
type other struct {
	reduce.Reducer               // nil: not asked for yet
	waiting        []ckpt.Tensor // this worker's part of the checkpoint, until then
}

// State implements ckpt.Stateful: what nobody has asked for goes on into the next checkpoint.
func (o *other) State() []ckpt.Tensor {
	if s, ok := o.Reducer.(ckpt.Stateful); ok {
		return s.State()
	}
	return o.waiting
}

// Load implements ckpt.Stateful.
func (o *other) Load(ts []ckpt.Tensor) error {
	s, ok := o.Reducer.(ckpt.Stateful)
	switch {
	case o.Reducer == nil:
		o.waiting = ts
		return nil
	case ok:
		return s.Load(ts)
	case len(ts) > 0:
		return fmt.Errorf("tensor %q is saved of a reducer that keeps nothing", ts[0].Name)
	}
	return nil
}

// another implements strategy.Worker.Another.
func (r *run) another(name string) (reduce.Reducer, error) {
	o := r.others[name]
	if o != nil && o.Reducer != nil {
		return o.Reducer, nil
	}
	if name == "" || strings.Contains(name, "/") {
		return nil, fmt.Errorf("train: the name of a second reducer is %q: expected one without slashes", name)
	}
	red, err := r.reducer(r.w.Tree, name)
	if err != nil {
		return nil, err
	}
	made := &other{Reducer: red}
	if o != nil {
		ts, err := fits(o.waiting, made.State())
		if err == nil {
			err = made.Load(ts)
		}
		if err != nil {
			return nil, fmt.Errorf("the checkpoint's state of the reducer %s: %w", name, err)
		}
	}
	r.setOther(name, made)
	return red, nil
}

func (r *run) setOther(name string, o *other) {
	if r.others == nil {
		r.others = map[string]*other{}
	}
	r.others[name] = o
}

// expect makes room for each reducer beside the first of which a checkpoint holds state.
func (r *run) expect(state []ckpt.Tensor) {
	for _, t := range ckpt.Under(othersPrefix, state) {
		if name, _, ok := strings.Cut(t.Name, "/"); ok && r.others[name] == nil {
			r.setOther(name, &other{})
		}
	}
}
