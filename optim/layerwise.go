package optim

import (
	"fmt"
	"math"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/vec"
)

// Norms are Euclidean and summed in float64 over blocks of vec.SquareBlock elements, in tree order. A segment is cut into
// blocks from its own start, and a norm over several segments adds the segments' sums in tree order, so a norm does not
// depend on who owns which range.

func norm(x []float32) float64 { return math.Sqrt(vec.SumSquares(x)) }

// layerwise is the Optimizer of a rule that gives each segment its own rate, from norms.
type layerwise struct {
	rule
	m    Moments
	runs []run
	n    int
}

func newLayerwise(l model.Layout, r rule, runs []run) Optimizer {
	return &layerwise{rule: r, m: momentsOf(r), runs: runs, n: l.Len()}
}

func (o *layerwise) Begin(t int, rate float32) {
	checkBegin(t)
	o.begin(t, rate)
}

func (o *layerwise) Apply(x, g []float32, lo int, scale float32) {
	hi := checkApply(x, g, lo, o.n)
	for _, r := range o.runs {
		if r.hi <= lo || r.lo >= hi {
			continue
		}
		if r.lo < lo || r.hi > hi {
			panic(fmt.Sprintf("optim: Apply to elements %d to %d: this rule needs norms of the whole segment from %d to %d", lo, hi, r.lo, r.hi))
		}
		o.update(x[r.lo:r.hi], g[r.lo-lo:r.hi-lo], o.m.cut(r.lo, r.hi), scale)
	}
}

// Bytes implements Costed.
func (o *layerwise) Bytes() int { return o.bytes() }

func (o *layerwise) Local() bool { return false }

// Segmented implements Segmented.
func (o *layerwise) Segmented() {}

func (o *layerwise) State() []ckpt.Tensor        { return o.state() }
func (o *layerwise) Load(ts []ckpt.Tensor) error { return ckpt.Restore(ts, o.state()) }

func checkWhole(x, g []float32, lo, n int) {
	if hi := checkApply(x, g, lo, n); lo != 0 || hi != n {
		panic(fmt.Sprintf("optim: Apply to elements %d to %d of %d: this rule needs norms of the whole vector", lo, hi, n))
	}
}

// lars is layer-wise adaptive rate scaling (You, Gitman and Ginsburg 2017, arXiv 1708.03888, algorithm 1). For each
// segment w:
//
//	local = trust * |w| / (|g| + decay*|w|)
//	v = mu*v + rate*local*(g + decay*w)
//	w = w - v
//
// Where the paper leaves local at 0 or undefined, because w or the divisor is 0, local is 1: a bias that starts at 0 could
// never leave it otherwise.
type lars struct {
	mu, trust, decay float64
	v                []float32
	rate             float32
}

func newLARS(p *params, l model.Layout) Optimizer {
	runs := segments(l)
	r := &lars{mu: p.fraction("momentum", 0.9), trust: p.positive("trust", 0.001), decay: p.notNegative("weight_decay", 0.0005), v: make([]float32, l.Len())}
	return newLayerwise(l, r, runs)
}

func (r *lars) begin(_ int, rate float32) { r.rate = rate }

func (r *lars) update(w, g []float32, m Moments, scale float32) {
	if scale != 1 {
		vec.Scale(scale, g)
	}
	wn, gn := norm(w), norm(g)
	local := 1.0
	if d := float64(r.decay*wn) + gn; wn != 0 && d != 0 {
		local = float64(r.trust*wn) / d
	}
	if r.decay != 0 {
		vec.Axpy(float32(r.decay), w, g)
	}
	vec.Momentum(w, g, m[0], float32(float64(r.rate)*local), 1, float32(r.mu), 0, false)
}

// bytes: g is scaled, both norms are taken, decay joins g, and then it is momentum.
func (r *lars) bytes() int { return (2 + 2 + 3 + 5) * touch }

func (r *lars) state() []ckpt.Tensor {
	return []ckpt.Tensor{ckpt.Float32s("lars.momentum", nil, r.v)}
}

// lamb is You et al. 2019 (arXiv 1904.00962), algorithm 2 as of version 5, with the identity for its function phi. For
// each segment w:
//
//	m = beta1*m + (1-beta1)*g
//	v = beta2*v + (1-beta2)*g*g
//	u = (m/(1-beta1^t)) / (sqrt(v/(1-beta2^t)) + eps) + decay*w
//	w = w - rate * |w|/|u| * u
//
// Bias correction is version 5's: it is applied to what the update uses, and the means themselves are kept
// uncorrected, as in Adam. Where w or u is 0 the ratio of norms is 1.
type lamb struct {
	moments
	eps, decay float32
	rate       float32
}

func newLAMB(p *params, l model.Layout) Optimizer {
	runs := segments(l)
	r := &lamb{moments: newMoments(p, l.Len()), eps: float32(p.positive("eps", 1e-6)),
		decay: float32(p.notNegative("weight_decay", 0.01))}
	return newLayerwise(l, r, runs)
}

func (r *lamb) begin(t int, rate float32) {
	r.moments.begin(t)
	r.rate = rate
}

func (r *lamb) update(w, g []float32, m Moments, scale float32) {
	vec.AdamDirection(g, g, m[0], m[1], scale, r.b1, r.b2, r.eps, r.bias1, r.bias2)
	if r.decay != 0 {
		vec.Axpy(r.decay, w, g)
	}
	ratio := 1.0
	if wn, un := norm(w), norm(g); wn != 0 && un != 0 {
		ratio = wn / un
	}
	vec.Axpy(-float32(float64(r.rate)*ratio), g, w)
}

// bytes: the direction takes g's place, decay joins it, both norms are taken, and x moves.
func (r *lamb) bytes() int { return (6 + 3 + 2 + 3) * touch }

func (r *lamb) state() []ckpt.Tensor {
	return []ckpt.Tensor{ckpt.Float32s("lamb.m", nil, r.m), ckpt.Float32s("lamb.v", nil, r.v)}
}

// Clip returns o with gradients whose Euclidean norm over all parameters exceeds most scaled down to it, as PyTorch's
// clip_grad_norm_ does: by min(1, most/(norm+1e-6)), before o adds any weight decay. l is o's layout. A norm that is
// not a number makes every parameter so, rather than hide it.
func Clip(o Optimizer, l model.Layout, most float64) Optimizer {
	runs := segments(l)
	return &clip{Optimizer: o, most: most, runs: runs, n: l.Len(), sums: make([]float64, len(runs))}
}

type clip struct {
	Optimizer
	most float64
	runs []run
	n    int
	sums []float64 // of squares, by run
}

func (c *clip) Local() bool { return false }

// Bytes implements Costed: g is scaled, and its norm is taken, before the rule's own pass.
func (c *clip) Bytes() int { return 3*touch + BytesOf(c.Optimizer) }

func (c *clip) Apply(x, g []float32, lo int, scale float32) {
	checkWhole(x, g, lo, c.n)
	for i, r := range c.runs {
		if scale != 1 {
			vec.Scale(scale, g[r.lo:r.hi])
		}
		c.sums[i] = vec.SumSquares(g[r.lo:r.hi])
	}
	shrink := c.most / (math.Sqrt(vec.TreeSum(c.sums)) + 1e-6)
	if shrink >= 1 { // so that NaN goes on
		shrink = 1
	}
	c.Optimizer.Apply(x, g, 0, float32(shrink))
}
