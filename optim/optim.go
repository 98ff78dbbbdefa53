// Package optim turns a gradient into a step: update rules, and the schedule of their rate.
//
// New makes a rule by name for a model's layout and NewSchedule a schedule; the training loop asks the schedule for
// the rate of update t (from 1), calls Begin once and then Apply, for the whole vector or, with rules that treat each
// element alone, range by range as gradients arrive. A rule owns its moments and is ckpt.Stateful. A Schedule holds
// nothing: its rate is a function of t.
//
// Names, parameters, defaults and formulas are PyTorch's where PyTorch has the rule, and the paper's where it has
// not (LARS, LAMB). All arithmetic on vectors is float32 and gives the same bits on every processor, and for every
// way to cut the vector into ranges; coefficients that depend on t are worked out in float64 and rounded once.
//
// Segments of the layout whose kind is model.Buffer are running statistics: no rule changes them or counts them in a
// norm.
package optim

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/spec"
	"github.com/covey-ml/covey/vec"
)

// Optimizer is an update rule over the flat vector. It owns its moments, which are as long as the vector.
type Optimizer interface {
	// Begin starts update t (from 1 on: the number of updates including this one) at the given rate.
	Begin(t int, rate float32)
	// Apply updates the elements of x, the whole flat vector, from lo on, as many as g has, along scale*g, rounded to float32:
	// the gradient of the mean objective, for g the sum of the samples' and scale one over their number. The ranges of one
	// update must not overlap and must cover the vector once; a Local rule's ranges may be applied from several goroutines at
	// a time. g is used as scratch.
	Apply(x, g []float32, lo int, scale float32)
	// Local tells whether Apply may be called range by range as gradients arrive. When it is false (rules with
	// norms: LARS, LAMB, clipping) Apply must be called once, for the whole vector.
	Local() bool
	ckpt.Stateful
}

// Segmented is asked for at run time: a rule that is not Local, but needs no more than whole segments: Apply may be called for
// each run of them.
type Segmented interface{ Segmented() }

// Placed is asked for at run time, and every Local rule is it: the moments may lie anywhere.
type Placed interface {
	// ApplyAt updates x along scale*g, as Apply does, with moments m of the same elements, in the order of State. g is used as
	// scratch. Calls may overlap where their elements do not.
	ApplyAt(x, g []float32, m Moments, scale float32)
}

// Moments are the vectors that a rule keeps beside the parameters, as many as it has.
type Moments [3][]float32

func momentsOf(r rule) (m Moments) {
	for i, t := range r.state() {
		m[i] = vec.Floats(t.Data)
	}
	return m
}

// cut is elements lo to hi of each.
func (m Moments) cut(lo, hi int) Moments {
	for i, v := range m {
		if v != nil {
			m[i] = v[lo:hi]
		}
	}
	return m
}

// Costed is asked for at run time: a rule that knows what it costs.
type Costed interface {
	// Bytes is how many bytes of memory the update of one parameter reads and writes: four for each vector read and each
	// written, for every pass over memory. What is in cache from the pass before does not count.
	Bytes() int
}

// BytesOf is what o says of itself, or, of a rule that does not know, what sgd would.
func BytesOf(o Optimizer) int {
	if c, ok := o.(Costed); ok {
		return c.Bytes()
	}
	return 3 * touch
}

// Choice is a name that a job can give, and a line of help.
type Choice struct{ Name, Help string }

// A rule updates runs of neighbouring elements.
type rule interface {
	begin(t int, rate float32)
	// update works on x and scale*g, and on the same elements of the moments.
	update(x, g []float32, m Moments, scale float32)
	// state names the moments, in the order of Moments.
	state() []ckpt.Tensor
	// bytes is Bytes.
	bytes() int
}

// touch is what reading or writing one element of a vector takes of an update's bytes.
const touch = 4

var rules = []struct {
	Choice
	make func(p *params, l model.Layout) Optimizer
}{
	{Choice{"sgd", "x -= rate*g; momentum=0, nesterov=false, dampening=0"}, func(p *params, l model.Layout) Optimizer { return newSGD(p, l, 0, false) }},
	{Choice{"momentum", "sgd with momentum=0.9 (or momentum:0.8)"}, func(p *params, l model.Layout) Optimizer { return newSGD(p, l, 0.9, false) }},
	{Choice{"nesterov", "sgd with momentum=0.9 and a look ahead (or nesterov:0.8)"}, func(p *params, l model.Layout) Optimizer { return newSGD(p, l, 0.9, true) }},
	{Choice{"adagrad", "rates fall with the sum of squares; lr_decay=0, eps=1e-10, initial_accumulator_value=0"}, newAdagrad},
	{Choice{"rmsprop", "rates follow a running mean of squares; alpha=0.99, eps=1e-8, momentum=0, centered=false"}, newRMSProp},
	{Choice{"adam", "running means of g and g*g; beta1=0.9, beta2=0.999, eps=1e-8, amsgrad=false"}, func(p *params, l model.Layout) Optimizer { return newAdam(p, l, 0, false) }},
	{Choice{"adamw", "adam with decoupled weight_decay=0.01"}, func(p *params, l model.Layout) Optimizer { return newAdam(p, l, 0.01, true) }},
	{Choice{"ftrl", "FTRL-proximal, for sparse linear models: weights that are exactly 0 where l1 says so; beta=1, l1=0, l2=0"}, newFTRL},
	{Choice{"lars", "momentum with a rate for each layer, for large batches; momentum=0.9, trust=0.001, weight_decay=0.0005"}, newLARS},
	{Choice{"lamb", "adam with a rate for each layer, for large batches; beta1=0.9, beta2=0.999, eps=1e-6, weight_decay=0.01"}, newLAMB},
}

// Names lists the rules. Every one also takes clip=, the largest global norm of the gradient (no limit when it is not
// given), and every one but ftrl weight_decay= (0 where the help says nothing); the rules other than ftrl, lars and lamb
// take decoupled=, which tells whether weight decay shrinks x itself (true: adamw's default) or joins the gradient (false).
func Names() []Choice {
	out := make([]Choice, len(rules))
	for i, r := range rules {
		out[i] = r.Choice
	}
	return out
}

// New makes the rule that s names for vectors with layout l. s is not changed and may be used again. An unknown name
// or parameter, or a value out of range, is an error that says what is valid.
func New(s *spec.Spec, l model.Layout) (Optimizer, error) {
	names := make([]string, len(rules))
	for i, r := range rules {
		names[i] = r.Name
		if r.Name != s.Name {
			continue
		}
		p := read(s)
		if r.Name == "momentum" || r.Name == "nesterov" {
			p.nameFirst("momentum")
		}
		if len(p.Args) > 0 {
			return nil, fmt.Errorf("%s: %q has no name: parameters are written name=value (%s), and the rate is given apart", s.Name, p.Args[0], r.Help)
		}
		o := r.make(p, l)
		if clip := p.positive("clip", math.Inf(1)); !math.IsInf(clip, 1) {
			o = Clip(o, l, clip)
		}
		if err := p.done(); err != nil {
			return nil, err
		}
		return o, nil
	}
	return nil, spec.OneOf("optimizer", s.Name, names...)
}

// params takes parameters from a Spec and keeps the first value that is out of range.
type params struct {
	*spec.Spec
	err error
}

// read copies s, so that the taking leaves no trace in it.
func read(s *spec.Spec) *params {
	return &params{Spec: &spec.Spec{Name: s.Name, Args: slices.Clone(s.Args), Opts: maps.Clone(s.Opts)}}
}

// nameFirst takes the first value without a name for the named one, unless that is given too.
func (p *params) nameFirst(key string) {
	if len(p.Args) == 0 || p.Given(key) {
		return
	}
	if p.Opts == nil {
		p.Opts = map[string]string{}
	}
	p.Opts[key] = p.Args[0]
	p.Args = p.Args[1:]
}

func (p *params) done() error {
	if err := p.Spec.Done(); err != nil {
		return err
	}
	return p.err
}

func (p *params) check(ok bool, key string, v any, want string) {
	if !ok && p.err == nil {
		p.err = fmt.Errorf("%s: %s is %v, expected %s", p.Name, key, v, want)
	}
}

// fraction takes a number from 0 to below 1, also once it is rounded to float32.
func (p *params) fraction(key string, def float64) float64 {
	v := p.Float(key, def)
	p.check(v >= 0 && float32(v) < 1, key, v, "a number from 0 to below 1")
	return v
}

func (p *params) notNegative(key string, def float64) float64 {
	v := p.Float(key, def)
	p.check(v >= 0 && v <= math.MaxFloat32, key, v, "a number from 0 on")
	return v
}

// positive takes a number that float32 tells from 0. A default that is infinite stands for none.
func (p *params) positive(key string, def float64) float64 {
	v := p.Float(key, def)
	p.check(float32(v) > 0 && (v <= math.MaxFloat32 || !p.Given(key)), key, v, "a number above 0")
	return v
}

// run is elements lo to hi of the flat vector, all of them parameters.
type run struct{ lo, hi int }

// segments are the layout's parameter segments.
func segments(l model.Layout) []run {
	var out []run
	for _, s := range l {
		if s.Kind == model.Parameter && s.Len > 0 {
			out = append(out, run{s.Off, s.Off + s.Len})
		}
	}
	return out
}

// merged joins segments that touch.
func merged(l model.Layout) []run {
	var out []run
	for _, r := range segments(l) {
		if n := len(out); n > 0 && out[n-1].hi == r.lo {
			out[n-1].hi = r.hi
			continue
		}
		out = append(out, r)
	}
	return out
}

// elementwise is the Optimizer of a rule that treats each element alone.
type elementwise struct {
	rule
	m         Moments
	runs      []run
	n         int
	decay     float64 // weight decay
	decoupled bool
	join      float32 // decay when it joins the gradient, else 0
	keep      float32 // what decoupled decay leaves of x at this update: 1 - rate*decay
}

func newElementwise(p *params, l model.Layout, r rule, decay float64, decoupled bool) Optimizer {
	e := &elementwise{rule: r, m: momentsOf(r), runs: merged(l), n: l.Len(), keep: 1}
	e.decay = p.notNegative("weight_decay", decay)
	e.decoupled = p.Bool("decoupled", decoupled)
	if !e.decoupled {
		e.join = float32(e.decay)
	}
	return e
}

func (e *elementwise) Begin(t int, rate float32) {
	checkBegin(t)
	if e.decoupled {
		e.keep = float32(1 - float64(float64(rate)*e.decay))
	}
	e.begin(t, rate)
}

func (e *elementwise) Apply(x, g []float32, lo int, scale float32) {
	hi := checkApply(x, g, lo, e.n)
	for _, r := range e.runs {
		a, b := max(lo, r.lo), min(hi, r.hi)
		if a >= b {
			continue
		}
		e.ApplyAt(x[a:b], g[a-lo:b-lo], e.m.cut(a, b), scale)
	}
}

// block is how many elements pass through weight decay and the rule at a time, so that they stay in the first-level
// cache between the two and memory is passed over once.
const block = 1024

// ApplyAt implements Placed.
func (e *elementwise) ApplyAt(x, g []float32, m Moments, scale float32) {
	if e.keep == 1 && e.join == 0 {
		e.update(x, g, m, scale)
		return
	}
	for a := 0; a < len(x); a += block {
		end := min(a+block, len(x))
		e.decayed(x[a:end], g[a:end], m.cut(a, end), scale)
	}
}

// decayed is update with weight decay.
func (e *elementwise) decayed(x, g []float32, m Moments, scale float32) {
	if e.keep != 1 {
		vec.Scale(e.keep, x)
	}
	if e.join != 0 {
		if scale != 1 {
			vec.Scale(scale, g)
			scale = 1
		}
		vec.Axpy(e.join, x, g)
	}
	e.update(x, g, m, scale)
}

// Bytes implements Costed. Weight decay finds x and g in cache.
func (e *elementwise) Bytes() int { return e.bytes() }

func (e *elementwise) Local() bool                 { return true }
func (e *elementwise) State() []ckpt.Tensor        { return e.state() }
func (e *elementwise) Load(ts []ckpt.Tensor) error { return ckpt.Restore(ts, e.state()) }

func checkBegin(t int) {
	if t < 1 {
		panic(fmt.Sprintf("optim: Begin(%d): updates count from 1", t))
	}
}

// checkApply returns the end of the range.
func checkApply(x, g []float32, lo, n int) (hi int) {
	if len(x) != n || lo < 0 || lo > n || len(g) > n-lo {
		panic(fmt.Sprintf("optim: Apply of %d elements, from %d on, to a vector of %d, the layout has %d", len(g), lo, len(x), n))
	}
	return lo + len(g)
}

// power is b^n by squaring, in this fixed order of float64 products, so that every processor gets the same bits (which
// math.Pow does not promise).
func power(b float64, n int) float64 {
	r := 1.0
	for ; n > 0; n >>= 1 {
		if n&1 == 1 {
			r = float64(r * b)
		}
		b = float64(b * b)
	}
	return r
}

// root is the correctly rounded square root.
func root(x float32) float32 { return float32(math.Sqrt(float64(x))) }
