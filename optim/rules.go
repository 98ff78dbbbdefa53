package optim

import (
	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/vec"
)

// sgd is stochastic gradient descent with momentum as PyTorch writes it:
//
//	v = g                    at the first update
//	v = mu*v + (1-damp)*g    later
//	x = x - rate*v           or, with Nesterov's look ahead, x - rate*(g + mu*v)
type sgd struct {
	mu, damp float32
	nesterov bool
	v        []float32 // nil without momentum
	t        int
	rate     float32
}

func newSGD(p *params, l model.Layout, mu float64, nesterov bool) Optimizer {
	r := &sgd{mu: float32(p.fraction("momentum", mu)), damp: float32(p.fraction("dampening", 0)), nesterov: p.Bool("nesterov", nesterov)}
	p.check(!r.nesterov || r.mu > 0 && r.damp == 0, "nesterov", true, "momentum above 0 and dampening 0 with it")
	if r.mu != 0 {
		r.v = make([]float32, l.Len())
	}
	return newElementwise(p, l, r, 0, false)
}

func (r *sgd) begin(t int, rate float32) { r.t, r.rate = t, rate }

func (r *sgd) update(x, g []float32, m Moments, scale float32) {
	if r.v == nil {
		vec.SGD(x, g, scale, r.rate)
		return
	}
	damp := r.damp
	if r.t == 1 { // v is 0: this makes it g
		damp = 0
	}
	vec.Momentum(x, g, m[0], scale, r.rate, r.mu, damp, r.nesterov)
}

func (r *sgd) bytes() int {
	if r.v == nil {
		return 3 * touch // x both ways, g
	}
	return 5 * touch
}

func (r *sgd) state() []ckpt.Tensor {
	if r.v == nil {
		return nil
	}
	return []ckpt.Tensor{ckpt.Float32s("sgd.momentum", nil, r.v)}
}

// adagrad (Duchi, Hazan and Singer 2011, JMLR 12, figure 1 with diagonal matrices; lr_decay is PyTorch's):
//
//	s = s + g*g
//	x = x - rate/(1+(t-1)*lr_decay) * g / (sqrt(s)+eps)
type adagrad struct {
	lrDecay float64
	eps     float32
	s       []float32
	rate    float32
}

func newAdagrad(p *params, l model.Layout) Optimizer {
	r := &adagrad{lrDecay: p.notNegative("lr_decay", 0), eps: float32(p.positive("eps", 1e-10)), s: make([]float32, l.Len())}
	if start := float32(p.notNegative("initial_accumulator_value", 0)); start != 0 {
		for i := range r.s {
			r.s[i] = start
		}
	}
	return newElementwise(p, l, r, 0, false)
}

func (r *adagrad) begin(t int, rate float32) {
	r.rate = float32(float64(rate) / (1 + float64(float64(t-1)*r.lrDecay)))
}

func (r *adagrad) update(x, g []float32, m Moments, scale float32) {
	vec.Adagrad(x, g, m[0], scale, r.rate, r.eps)
}

func (r *adagrad) bytes() int { return 5 * touch }

func (r *adagrad) state() []ckpt.Tensor {
	return []ckpt.Tensor{ckpt.Float32s("adagrad.sum", nil, r.s)}
}

// rmsprop (Hinton, Neural networks for machine learning, lecture 6e; centered: Graves 2013, arXiv 1308.0850,
// equations 38 to 45), as PyTorch writes it:
//
//	s = alpha*s + (1-alpha)*g*g
//	a = alpha*a + (1-alpha)*g, s' = s - a*a    centered; otherwise s' = s
//	u = g / (sqrt(s')+eps)
//	v = mu*v + u, x = x - rate*v               with momentum; otherwise x = x - rate*u
//
// s' is held at 0 from below, where rounding could take it.
type rmsprop struct {
	alpha, eps, mu float32
	s              []float32
	a              []float32 // nil unless centered
	v              []float32 // nil without momentum
	rate           float32
}

func newRMSProp(p *params, l model.Layout) Optimizer {
	r := &rmsprop{alpha: float32(p.fraction("alpha", 0.99)), eps: float32(p.positive("eps", 1e-8)),
		mu: float32(p.fraction("momentum", 0)), s: make([]float32, l.Len())}
	if p.Bool("centered", false) {
		r.a = make([]float32, l.Len())
	}
	if r.mu != 0 {
		r.v = make([]float32, l.Len())
	}
	return newElementwise(p, l, r, 0, false)
}

func (r *rmsprop) begin(_ int, rate float32) { r.rate = rate }

func (r *rmsprop) update(x, g []float32, m Moments, scale float32) {
	s, mean, v := m[0], m[1], m[2]
	if r.a == nil {
		mean, v = nil, m[1]
	}
	if r.a == nil && r.v == nil {
		vec.RMSProp(x, g, s, scale, r.rate, r.alpha, r.eps)
		return
	}
	g = g[:len(x)]
	rest := 1 - r.alpha
	for i := range x {
		gi := float32(scale * g[i])
		s[i] = float32(r.alpha*s[i]) + float32(rest*float32(gi*gi))
		d := s[i]
		if mean != nil {
			a := float32(r.alpha*mean[i]) + float32(rest*gi)
			mean[i] = a
			d = max(d-float32(a*a), 0)
		}
		u := float32(gi / (root(d) + r.eps))
		if r.v != nil {
			u += float32(r.mu * v[i])
			v[i] = u
		}
		x[i] -= float32(r.rate * u)
	}
}

func (r *rmsprop) bytes() int { return (3 + 2*len(r.state())) * touch }

func (r *rmsprop) state() []ckpt.Tensor {
	ts := []ckpt.Tensor{ckpt.Float32s("rmsprop.square", nil, r.s)}
	if r.a != nil {
		ts = append(ts, ckpt.Float32s("rmsprop.mean", nil, r.a))
	}
	if r.v != nil {
		ts = append(ts, ckpt.Float32s("rmsprop.momentum", nil, r.v))
	}
	return ts
}

// adam (Kingma and Ba 2015, arXiv 1412.6980, algorithm 1, with eps outside of the corrected root as PyTorch has it;
// amsgrad: Reddi, Kale and Kumar 2018; decoupled decay: Loshchilov and Hutter 2019, arXiv 1711.05101, algorithm 2):
//
//	m = beta1*m + (1-beta1)*g
//	v = beta2*v + (1-beta2)*g*g
//	x = x - rate/(1-beta1^t) * m / (sqrt(v/(1-beta2^t)) + eps)
//
// With amsgrad the largest v so far takes v's place in the last line.
type adam struct {
	moments
	eps  float32
	top  []float32 // the largest v, nil without amsgrad
	rate float32
}

// moments are the running means that Adam and LAMB share, with their bias corrections. The betas are rounded to float32
// first, so that the corrections are those of the means that are really made.
type moments struct {
	b1, b2       float32
	bias1, bias2 float32 // 1-b^t
	m, v         []float32
}

func newMoments(p *params, n int) moments {
	return moments{b1: float32(p.fraction("beta1", 0.9)), b2: float32(p.fraction("beta2", 0.999)),
		m: make([]float32, n), v: make([]float32, n)}
}

func (k *moments) begin(t int) {
	k.bias1 = float32(1 - power(float64(k.b1), t))
	k.bias2 = float32(1 - power(float64(k.b2), t))
}

func newAdam(p *params, l model.Layout, decay float64, decoupled bool) Optimizer {
	r := &adam{moments: newMoments(p, l.Len()), eps: float32(p.positive("eps", 1e-8))}
	if p.Bool("amsgrad", false) {
		r.top = make([]float32, l.Len())
	}
	return newElementwise(p, l, r, decay, decoupled)
}

func (r *adam) begin(t int, rate float32) {
	r.moments.begin(t)
	r.rate = rate
}

func (r *adam) update(x, g []float32, m Moments, scale float32) {
	mean, v, top := m[0], m[1], m[2]
	if r.top == nil {
		vec.Adam(x, g, mean, v, scale, r.rate, r.b1, r.b2, r.eps, r.bias1, r.bias2)
		return
	}
	for i, gi := range g[:len(x)] {
		gi = float32(scale * gi)
		mean[i] = float32(r.b1*mean[i]) + float32((1-r.b1)*gi)
		v[i] = float32(r.b2*v[i]) + float32((1-r.b2)*float32(gi*gi))
		top[i] = max(top[i], v[i])
		x[i] -= float32(r.rate * float32(float32(mean[i]/r.bias1)/(root(float32(top[i]/r.bias2))+r.eps)))
	}
}

func (r *adam) bytes() int {
	if r.top == nil {
		return 7 * touch
	}
	return 9 * touch
}

func (r *adam) state() []ckpt.Tensor {
	ts := []ckpt.Tensor{ckpt.Float32s("adam.m", nil, r.m), ckpt.Float32s("adam.v", nil, r.v)}
	if r.top != nil {
		ts = append(ts, ckpt.Float32s("adam.vmax", nil, r.top))
	}
	return ts
}

// ftrl is FTRL-Proximal, whose formulas are vec.FTRL's: alpha is the rate. It has the paper's own regularisers, l1, which
// makes weights exactly 0, and l2, in place of weight decay. They stand against the sum over updates of the gradient, which
// here is a batch's mean, where the paper's is a sample's: the same l1 shrinks more.
type ftrl struct {
	beta, l1, l2, rate float32
	z, n               []float32
}

func newFTRL(p *params, l model.Layout) Optimizer {
	r := &ftrl{beta: float32(p.positive("beta", 1)), l1: float32(p.notNegative("l1", 0)), l2: float32(p.notNegative("l2", 0)),
		z: make([]float32, l.Len()), n: make([]float32, l.Len())}
	return &elementwise{rule: r, m: momentsOf(r), runs: merged(l), n: l.Len(), keep: 1}
}

func (r *ftrl) begin(_ int, rate float32) { r.rate = rate }

func (r *ftrl) update(x, g []float32, m Moments, scale float32) {
	vec.FTRL(x, g, m[0], m[1], scale, r.rate, r.beta, r.l1, r.l2)
}

func (r *ftrl) bytes() int { return 7 * touch }

func (r *ftrl) state() []ckpt.Tensor {
	return []ckpt.Tensor{ckpt.Float32s("ftrl.z", nil, r.z), ckpt.Float32s("ftrl.n", nil, r.n)}
}
