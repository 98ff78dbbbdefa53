package nn

import (
	"fmt"
	"math"

	"github.com/covey-ml/covey/rng"
	"github.com/covey-ml/covey/vec"
)

// Dense is y = x W' + b, with W of shape [out, in] as torch.nn.Linear keeps it. As the first layer it takes sparse
// batches too.
type Dense struct {
	Out    int  // width that comes out; at least 1
	NoBias bool // leave b out
}

// String prints "dense 128".
func (d Dense) String() string {
	if d.NoBias {
		return fmt.Sprintf("dense %d without bias", d.Out)
	}
	return fmt.Sprintf("dense %d", d.Out)
}

func (d Dense) wire(in int) (int, []param, error) {
	if d.Out < 1 {
		return 0, nil, fmt.Errorf("width %d: at least 1 is needed", d.Out)
	}
	bound := 1 / math.Sqrt(float64(in))
	ps := []param{{"weight", []int{d.Out, in}, bound}}
	if !d.NoBias {
		ps = append(ps, param{"bias", []int{d.Out}, bound})
	}
	return d.Out, ps, nil
}

func (d Dense) forward(p *pass) {
	w, bias := p.w[0], p.w[1] // nil without bias
	switch {
	case p.x != nil:
		vec.Dense(p.y, p.x, w, bias, p.n, p.out, p.in, p.relu)
		return
	case p.out == 1:
		vec.CSRMatVec(p.y, p.b.Row, p.b.Col, p.b.Val, w)
	default:
		// A sparse row meets whole rows of a table that is [in, out]; the transposition costs what clearing the
		// gradient costs.
		p.ws.table = resize(p.ws.table, len(w))
		transpose(p.ws.table, w, p.out, p.in)
		vec.CSRMatMul(p.y, p.b.Row, p.b.Col, p.b.Val, p.ws.table, p.out)
	}
	if bias != nil {
		vec.AddBias(p.y, bias, p.n)
	}
	if p.relu {
		vec.ReLU(p.y, p.y)
	}
}

func (d Dense) backward(p *pass) {
	if !d.NoBias {
		vec.SumRows(p.g[1], p.dy, p.n, false)
		p.final(1)
	}
	switch {
	case p.x != nil:
		vec.MatMulTN(p.g[0], p.dy, p.x, p.out, p.in, p.n, false)
	case p.out == 1:
		clear(p.g[0])
		vec.CSRTMatMul(p.g[0], p.b.Row, p.b.Col, p.b.Val, p.dy, 1)
	default:
		p.ws.table = resize(p.ws.table, len(p.g[0]))
		clear(p.ws.table)
		vec.CSRTMatMul(p.ws.table, p.b.Row, p.b.Col, p.b.Val, p.dy, p.out)
		transpose(p.g[0], p.ws.table, p.in, p.out)
	}
	if p.dx != nil {
		vec.MatMul(p.dx, p.dy, p.w[0], p.n, p.in, p.out, false)
	}
	p.final(0) // now nobody reads the weight any more
}

func (d Dense) flops(in, out int, lowest bool) (forward int64, backward [maxParams]int64) {
	product := 2 * int64(in) * int64(out)
	forward, backward[0] = product, product // y, and dW
	if !lowest {
		backward[0] += product // dx, before which W is not final
	}
	if !d.NoBias {
		forward += int64(out)
		backward[1] = int64(out)
	}
	return forward, backward
}

// elementwise is the cost of a layer that makes one pass over the width each way.
func elementwise(width int) (forward int64, backward [maxParams]int64) {
	return int64(width), [maxParams]int64{int64(width)}
}

// transpose writes the rows x cols matrix src to dst as cols x rows, block by block to stay in cache.
func transpose(dst, src []float32, rows, cols int) {
	const block = 16
	for r0 := 0; r0 < rows; r0 += block {
		r1 := min(r0+block, rows)
		for c0 := 0; c0 < cols; c0 += block {
			for c := c0; c < min(c0+block, cols); c++ {
				for r := r0; r < r1; r++ {
					dst[c*rows+r] = src[r*cols+c]
				}
			}
		}
	}
}

// ReLU is max(x, 0), with gradient 0 at 0. After a Dense it is part of the Dense's product.
type ReLU struct{}

// String prints "relu".
func (ReLU) String() string                    { return "relu" }
func (ReLU) wire(in int) (int, []param, error) { return in, nil, nil }

func (ReLU) forward(p *pass) {
	if p.relu {
		p.y = p.x
		return
	}
	vec.ReLU(p.y, p.x)
}

func (ReLU) backward(p *pass) { vec.ReLUGrad(p.dx, p.dy, p.y) }

func (ReLU) flops(in, _ int, _ bool) (int64, [maxParams]int64) { return elementwise(in) }

// Tanh is the hyperbolic tangent.
type Tanh struct{}

// String prints "tanh".
func (Tanh) String() string                    { return "tanh" }
func (Tanh) wire(in int) (int, []param, error) { return in, nil, nil }
func (Tanh) forward(p *pass)                   { vec.Tanh(p.y, p.x) }
func (Tanh) backward(p *pass)                  { vec.TanhGrad(p.dx, p.dy, p.y) }

func (Tanh) flops(in, _ int, _ bool) (int64, [maxParams]int64) { return elementwise(in) }

// GELU is x Phi(x) with Phi the normal distribution function, torch.nn.GELU's default form (Hendrycks and Gimpel,
// arXiv:1606.08415), not its tanh approximation.
type GELU struct{}

// String prints "gelu".
func (GELU) String() string                    { return "gelu" }
func (GELU) wire(in int) (int, []param, error) { return in, nil, nil }
func (GELU) forward(p *pass)                   { vec.GELU(p.y, p.x) }
func (GELU) backward(p *pass)                  { vec.GELUGrad(p.dx, p.dy, p.x) }

func (GELU) flops(in, _ int, _ bool) (int64, [maxParams]int64) { return elementwise(in) }

// Dropout zeroes each value with probability P while training and divides the rest by 1-P ("inverted"), so that
// evaluation needs no scaling and applies none (Srivastava et al., JMLR 15, 2014, section 10).
//
// Whether value j of a sample is kept is a hash of (Batch.Seed, the layer's number, the sample's number, j):
// whoever has the sample, in whatever batch of that step, draws the same mask. A sample that is in a batch twice has
// one mask.
type Dropout struct {
	P float64 // probability of zero, at least 0 and below 1; held to a multiple of 2^-32
}

// String prints "dropout 0.1".
func (d Dropout) String() string { return fmt.Sprintf("dropout %g", d.P) }

func (d Dropout) wire(in int) (int, []param, error) {
	if !(d.P >= 0 && d.P < 1) {
		return 0, nil, fmt.Errorf("probability %g: at least 0 and below 1 is needed", d.P)
	}
	return in, nil, nil
}

func (d Dropout) forward(p *pass) {
	if !p.train || d.P == 0 {
		p.y = p.x
		return
	}
	d.mask(p, p.y, p.x)
}

func (d Dropout) backward(p *pass) {
	if d.P == 0 {
		copy(p.dx, p.dy)
		return
	}
	d.mask(p, p.dx, p.dy)
}

func (Dropout) flops(in, _ int, _ bool) (int64, [maxParams]int64) { return elementwise(in) }

// mask writes src to dst with the dropped values zero and the others scaled. Forward and backward draw the same mask
// twice rather than keep it.
func (d Dropout) mask(p *pass, dst, src []float32) {
	drop := uint32(min(math.Floor(d.P*(1<<32)), 1<<32-1))
	scale := float32(1 / (1 - d.P))
	layer := rng.Key(p.b.Seed, "dropout", uint64(p.index))
	for i := range p.n {
		// The same number as rng.Key(Seed, "dropout", layer, sample).
		key := rng.Mix(layer ^ rng.Mix(uint64(p.b.ID[i])))
		s, t := src[i*p.in:(i+1)*p.in], dst[i*p.in:(i+1)*p.in]
		var bits uint64 // of two values
		for j, v := range s {
			if j&1 == 0 {
				bits = rng.Mix(key + uint64(j))
			} else {
				bits >>= 32
			}
			if uint32(bits) < drop {
				t[j] = 0
			} else {
				t[j] = v * scale
			}
		}
	}
}
