package vec

import "math"

// The steps of optimizers, fused into one pass over parameters x, gradients and state. They follow PyTorch's
// formulas; every fma below is an FMA and every other operation rounds by itself, in the order written. The g in the
// formulas is scale times the g that is given, rounded to float32: a sum of gradients becomes their mean on the way, and
// what is given is left as it is. A scale of 1 changes nothing.

// SGD is one step of gradient descent:
//
//	x = fma(-lr, g, x)
func SGD(x, g []float32, scale, lr float32) {
	same("SGD", len(x), len(g))
	sgd(x, g, scale, -lr)
}

// Momentum is one step of SGD with momentum:
//
//	v = fma(mu, v, (1-damp)*g)
//	x = fma(-lr, v, x), or with nesterov x = fma(-lr, fma(mu, v, g), x)
//
// PyTorch starts v at the first gradient whatever damp is: pass damp 0 with v zero at the first step.
func Momentum(x, g, v []float32, scale, lr, mu, damp float32, nesterov bool) {
	same("Momentum", len(x), len(g))
	same("Momentum", len(x), len(v))
	momentum(x, g, v, scale, -lr, mu, 1-damp, nesterov)
}

// Adam is one step of Adam (Kingma and Ba, arXiv:1412.6980, algorithm 1, with the biases applied as in the last
// paragraph of its section 2, but eps outside of them), for bias1 = 1-b1^t and bias2 = 1-b2^t:
//
//	m = fma(1-b1, g-m, m)
//	v = fma((1-b2)*g, g, b2*v)
//	x = fma(-lr/bias1, m/fma(sqrt(v), 1/sqrt(bias2), eps), x)
//
// 1-b1, 1-b2 and -lr/bias1 are rounded to float32 once, and so is 1/sqrt(bias2), computed in float64. For AdamW
// scale x by 1 - lr*decay before (Loshchilov and Hutter, arXiv:1711.05101, algorithm 2).
func Adam(x, g, m, v []float32, scale, lr, b1, b2, eps, bias1, bias2 float32) {
	same("Adam", len(x), len(g))
	same("Adam", len(x), len(m))
	same("Adam", len(x), len(v))
	p := adamConst{scale: scale, step: -lr / bias1, c1: 1 - b1, b2: b2, c2: 1 - b2, rs: invSqrt(bias2), eps: eps}
	adam(x, g, m, v, &p)
}

// AdamDirection updates m and v as Adam does, and writes the direction without the learning rate,
//
//	d = (1/bias1) * (m / fma(sqrt(v), 1/sqrt(bias2), eps)),
//
// which LAMB (You et al., arXiv:1904.00962, algorithm 2) scales by a trust ratio. d may be g.
func AdamDirection(d, g, m, v []float32, scale, b1, b2, eps, bias1, bias2 float32) {
	same("AdamDirection", len(d), len(g))
	same("AdamDirection", len(d), len(m))
	same("AdamDirection", len(d), len(v))
	p := adamConst{scale: scale, step: 1 / bias1, c1: 1 - b1, b2: b2, c2: 1 - b2, rs: invSqrt(bias2), eps: eps}
	adamDir(d, g, m, v, &p)
}

// RMSProp is one step of RMSProp, neither centred nor with momentum:
//
//	v = fma((1-alpha)*g, g, alpha*v)
//	x = fma(-lr, g/(sqrt(v)+eps), x)
func RMSProp(x, g, v []float32, scale, lr, alpha, eps float32) {
	same("RMSProp", len(x), len(g))
	same("RMSProp", len(x), len(v))
	rmsprop(x, g, v, scale, -lr, alpha, 1-alpha, eps)
}

// Adagrad is one step of Adagrad (Duchi, Hazan and Singer, JMLR 12, 2011, diagonal form):
//
//	s = fma(g, g, s)
//	x = fma(-lr, g/(sqrt(s)+eps), x)
func Adagrad(x, g, s []float32, scale, lr, eps float32) {
	same("Adagrad", len(x), len(g))
	same("Adagrad", len(x), len(s))
	rmsprop(x, g, s, scale, -lr, 1, 1, eps)
}

func invSqrt(x float32) float32 { return float32(1 / math.Sqrt(float64(x))) }

// adamConst is what a step of Adam does not compute anew for each element.
type adamConst struct{ scale, step, c1, b2, c2, rs, eps float32 }
