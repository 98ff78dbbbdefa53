package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"

	"github.com/covey-ml/covey/vec/internal/coef"
)

// The elementary functions work in float64, four lanes at a time, without FMA, as the twins in vec/scalar.go do.

func functions() {
	unary := func(name, doc string, f func(x VecVirtual) VecVirtual) {
		text(name, "func(y, x []float32)", doc)
		walk(1, []stream{out("y"), in("x")}, func(v []VecVirtual) {
			v[0] = inDouble(func(d []VecVirtual) VecVirtual { return f(d[0]) }, v[1])
		})
	}
	unary("tanh", "is y = tanh(x).", tanh)
	unary("gelu", "is y = x Phi(x).", gelu)
	unary("sigmoid", "is y = 1/(1+exp(-x)).", sigmoid)

	text("tanhGrad", "func(dx, dy, y []float32)", "is dx = dy (1 - y^2).")
	walk(1, []stream{out("dx"), in("dy"), in("y")}, func(v []VecVirtual) {
		v[0] = inDouble(func(d []VecVirtual) VecVirtual {
			s := YMM()
			VMOVUPD(double(1), s)
			VMULPD(d[1], d[1], d[1])
			VSUBPD(d[1], s, s)
			VMULPD(d[0], s, s)
			return s
		}, v[1], v[2])
	})

	text("geluGrad", "func(dx, dy, x []float32)", "is dx = dy (Phi(x) + x phi(x)).")
	walk(1, []stream{out("dx"), in("dy"), in("x")}, func(v []VecVirtual) {
		v[0] = inDouble(func(d []VecVirtual) VecVirtual {
			x := d[1]
			atLeast(-coef.TailMax, x)
			atMost(coef.TailMax, x)
			phi, e := normal(x)
			VMULPD(double(coef.InvSqrt2Pi), e, e)
			VMULPD(e, x, x)
			VADDPD(phi, x, x)
			VMULPD(d[0], x, x)
			return x
		}, v[1], v[2])
	})

	logLoss()

	softmaxRow()
	unscale()
}

// softmaxRow takes the largest of a row, then four exponentials a turn, which it adds to the four lanes of the sum.
func softmaxRow() {
	for _, store := range []bool{true, false} {
		if store {
			text("softmaxRow", "func(e, x []float32) (s, m float64)", "is e = exp(x - m), m being the largest of x, and their sum.")
		} else {
			text("softmaxSum", "func(x []float32) (s, m float64)", "is the sum of exp(x - m), m being the largest of x.")
		}
		x, n := base("x"), length("x")
		top, nan, first := YMM(), YMM(), YMM()
		VMOVUPS(long(0xff800000), top)
		VXORPS(nan, nan, nan)
		p, left := GP64(), GP64()
		MOVQ(x, p)
		MOVQ(n, left)
		larger := func(v VecVirtual) {
			u := YMM()
			VCMPPS(Imm(3), v, v, u) // NaN
			VORPS(u, nan, nan)
			VMAXPS(v, top, top)
		}
		Label("max")
		CMPQ(left, Imm(8))
		JLT(LabelRef("max_rest"))
		v := YMM()
		VMOVUPS(Mem{Base: p}, v)
		larger(v)
		ADDQ(Imm(32), p)
		SUBQ(Imm(8), left)
		JMP(LabelRef("max"))
		Label("max_rest")
		TESTQ(left, left)
		JE(LabelRef("max_done"))
		mask := tailMask(left, 0)
		VMASKMOVPS(Mem{Base: p}, mask, v)
		VMOVUPS(long(0xff800000), first)
		VBLENDVPS(mask, v, first, v)
		larger(v)
		Label("max_done")
		h := YMM()
		VEXTRACTF128(Imm(1), top, h.AsX())
		VMAXPS(h.AsX(), top.AsX(), top.AsX())
		VPERMILPS(Imm(0xee), top.AsX(), h.AsX())
		VMAXPS(h.AsX(), top.AsX(), top.AsX())
		VPERMILPS(Imm(0x55), top.AsX(), h.AsX())
		VMAXPS(h.AsX(), top.AsX(), top.AsX())
		m := YMM()
		VBROADCASTSS(top.AsX(), m)
		VPTEST(nan, nan)
		JE(LabelRef("number"))
		VPCMPEQD(m, m, m) // all ones are a NaN
		Label("number")
		VCVTPS2PD(m.AsX(), m)

		var e GPVirtual
		if store {
			e = base("e")
		}
		acc := YMM()
		VXORPD(acc, acc, acc)
		unit := func(i int, mask *VecVirtual) {
			d, f := YMM(), YMM()
			if mask != nil {
				VMASKMOVPS(Mem{Base: x}, (*mask).AsX(), d.AsX())
				VCVTPS2PD(d.AsX(), d)
			} else {
				VCVTPS2PD(Mem{Base: x, Disp: 16 * i}, d)
			}
			VSUBPD(m, d, d)
			atLeast(-coef.ExpMax, d)
			atMost(coef.ExpMax, d)
			y := exp(d)
			VCVTPD2PSY(y, f.AsX())
			if mask != nil {
				VANDPS((*mask).AsX(), f.AsX(), f.AsX()) // what is not there adds 0
			}
			if store && mask != nil {
				VMASKMOVPS(f.AsX(), (*mask).AsX(), Mem{Base: e})
			} else if store {
				VMOVUPS(f.AsX(), Mem{Base: e, Disp: 16 * i})
			}
			VCVTPS2PD(f.AsX(), f)
			VADDPD(f, acc, acc)
		}
		for _, turn := range []struct {
			name  string
			units int
		}{{"eight", 2}, {"four", 1}} {
			Label(turn.name)
			CMPQ(n, Imm(uint64(4*turn.units)))
			JLT(LabelRef(turn.name + "_end"))
			for i := range turn.units {
				unit(i, nil)
			}
			ADDQ(Imm(uint64(16*turn.units)), x)
			if store {
				ADDQ(Imm(uint64(16*turn.units)), e)
			}
			SUBQ(Imm(uint64(4*turn.units)), n)
			JMP(LabelRef(turn.name))
			Label(turn.name + "_end")
		}
		TESTQ(n, n)
		JE(LabelRef("fold"))
		mask = tailMask(n, 0)
		unit(0, &mask)
		Label("fold")
		VEXTRACTF128(Imm(1), acc, h.AsX())
		VADDPD(h.AsX(), acc.AsX(), acc.AsX())
		VPERMILPD(Imm(1), acc.AsX(), h.AsX())
		VADDSD(h.AsX(), acc.AsX(), acc.AsX())
		VZEROUPPER()
		Store(acc.AsX(), ReturnIndex(0))
		Store(m.AsX(), ReturnIndex(1))
		RET()
	}
}

func unscale() {
	text("scaleDouble", "func(x []float32, a float64)", "is x *= a in float64.")
	a, err := Param("a").Resolve()
	if err != nil {
		panic(err)
	}
	f := YMM()
	VBROADCASTSD(a.Addr, f)
	walk(1, []stream{inout("x")}, func(v []VecVirtual) {
		v[0] = inDouble(func(d []VecVirtual) VecVirtual {
			VMULPD(f, d[0], d[0])
			return d[0]
		}, v[0])
	})
}

// logLoss takes four samples a turn, as many as there are whole turns of; its twin does the rest.
func logLoss() {
	text("logLoss", "func(lanes *[4]float64, r, d, z []float64, class []int32)", "adds losses to four lanes and writes their derivatives.")
	lanes := Load(Param("lanes"), GP64())
	r, d, z, class, n := base("r"), base("d"), base("z"), base("class"), length("z")
	second := length("d")
	acc, one := YMM(), YMM()
	VMOVUPD(Mem{Base: lanes}, acc)
	VMOVUPD(double(1), one)
	Label("loop")
	CMPQ(n, Imm(4))
	JLT(LabelRef("done"))
	sign, m := YMM(), YMM()
	VPMOVSXDQ(Mem{Base: class}, sign)
	VPCMPEQQ(quad(1), sign, sign)
	VPANDN(quad(signBit), sign, sign) // the sign bit where the class is not 1
	VXORPD(Mem{Base: z}, sign, m)

	a, u := YMM(), YMM()
	VORPD(quad(signBit), m, a) // -|m|
	atLeast(-coef.ExpMax, a)
	e := expBy(a, coef.Expm1Long[:])
	VADDPD(one, e, u)
	q, p := YMM(), YMM()
	VDIVPD(u, one, q)
	VMULPD(q, e, p)

	// log(1+e), as log1pUnit.
	big, f, t := YMM(), YMM(), YMM()
	VCMPPD(Imm(13), double(coef.Sqrt2Less1), e, big) // GE, false for NaN
	VMULPD(double(0.5), e, f)
	VSUBPD(double(0.5), f, f)
	VBLENDVPD(big, f, e, f)
	VADDPD(double(2), f, t)
	VDIVPD(t, f, f) // s
	VMULPD(f, f, t)
	h := horner(coef.AtanhLong[:], t)
	VADDPD(f, f, f)
	VMULPD(h, f, f)
	VANDPD(double(coef.Ln2), big, big)
	VADDPD(big, f, f)

	// |m| where m is negative.
	up := YMM()
	VXORPD(up, up, up)
	VANDPD(quad(signBit-1), m, t)
	VBLENDVPD(m, t, up, up)
	VADDPD(up, f, f)
	VADDPD(f, acc, acc)

	VBLENDVPD(m, q, p, t)
	VXORPD(sign, t, t)
	VXORPD(quad(signBit), t, t)
	VMOVUPD(t, Mem{Base: r})
	TESTQ(second, second)
	JE(LabelRef("next"))
	VMULPD(q, p, p)
	VMOVUPD(p, Mem{Base: d})
	ADDQ(Imm(32), d)
	Label("next")
	for _, x := range []GPVirtual{r, z} {
		ADDQ(Imm(32), x)
	}
	ADDQ(Imm(16), class)
	SUBQ(Imm(4), n)
	JMP(LabelRef("loop"))
	Label("done")
	VMOVUPD(acc, Mem{Base: lanes})
	VZEROUPPER()
	RET()
}

// inDouble applies f to the two halves of eight float32 each, widened, and narrows the results.
func inDouble(f func(d []VecVirtual) VecVirtual, v ...VecVirtual) VecVirtual {
	high := make([]VecVirtual, len(v))
	low := make([]VecVirtual, len(v))
	for i := range v {
		low[i] = YMM()
		VCVTPS2PD(v[i].AsX(), low[i])
	}
	l := f(low)
	VCVTPD2PSY(l, l.AsX())
	for i := range v {
		high[i] = YMM()
		VEXTRACTF128(Imm(1), v[i], high[i].AsX())
		VCVTPS2PD(high[i].AsX(), high[i])
	}
	h := f(high)
	VCVTPD2PSY(h, h.AsX())
	VINSERTF128(Imm(1), h.AsX(), l, l)
	return l
}

// atLeast is x = lo > x ? lo : x, which keeps NaN.
func atLeast(lo float64, x VecVirtual) {
	t := YMM()
	VMOVUPD(double(lo), t)
	VMAXPD(x, t, x)
}

// atMost is x = hi < x ? hi : x, which keeps NaN.
func atMost(hi float64, x VecVirtual) {
	t := YMM()
	VMOVUPD(double(hi), t)
	VMINPD(x, t, x)
}

func horner(c []float64, x VecVirtual) VecVirtual {
	p := YMM()
	VMOVUPD(double(c[len(c)-1]), p)
	for i := len(c) - 2; i >= 0; i-- {
		VMULPD(x, p, p)
		VADDPD(double(c[i]), p, p)
	}
	return p
}

// expCore gives q and scale with e^x = scale + scale*q, for x that needs no clamping. It uses x up.
func expCore(x VecVirtual, expm1 []float64) (q, scale VecVirtual) {
	kd, t := YMM(), YMM()
	VMULPD(double(coef.InvLn2), x, kd)
	VADDPD(double(coef.Round), kd, kd)
	VSUBPD(double(coef.Round), kd, t)
	VMULPD(double(coef.Ln2), t, t)
	VSUBPD(t, x, x)
	p := horner(expm1, x)
	VMULPD(x, p, p)
	VPADDQ(quad(1023), kd, kd)
	VPSLLQ(Imm(52), kd, kd)
	return p, kd
}

func exp(x VecVirtual) VecVirtual { return expBy(x, coef.Expm1[:]) }

func expBy(x VecVirtual, expm1 []float64) VecVirtual {
	q, scale := expCore(x, expm1)
	VMULPD(scale, q, q)
	VADDPD(scale, q, q)
	return q
}

const signBit = 1 << 63

func tanh(x VecVirtual) VecVirtual {
	a := YMM()
	VANDPD(quad(signBit-1), x, a)
	VADDPD(a, a, a)
	atMost(coef.TanhMax, a)
	m, scale := expCore(a, coef.Expm1[:])
	VMULPD(scale, m, m)
	VSUBPD(double(1), scale, scale)
	VADDPD(scale, m, m)
	VADDPD(double(2), m, scale)
	VDIVPD(scale, m, m)
	VANDPD(quad(signBit), x, x)
	VORPD(x, m, m)
	return m
}

func sigmoid(x VecVirtual) VecVirtual {
	VXORPD(quad(signBit), x, x)
	atLeast(-coef.ExpMax, x)
	atMost(coef.ExpMax, x)
	e := exp(x)
	VADDPD(double(1), e, e)
	one := YMM()
	VMOVUPD(double(1), one)
	VDIVPD(e, one, e)
	return e
}

func gelu(x VecVirtual) VecVirtual {
	atLeast(-coef.TailMax, x)
	phi, _ := normal(x)
	VMULPD(x, phi, phi)
	return phi
}

// normal gives Phi(x) and exp(-x^2/2), and leaves x.
func normal(x VecVirtual) (phi, e VecVirtual) {
	a, ex := YMM(), YMM()
	VANDPD(quad(signBit-1), x, a)
	atMost(coef.TailMax, a)
	VMULPD(a, a, ex)
	VMULPD(double(-0.5), ex, ex)
	t, one := YMM(), YMM()
	VMOVUPD(double(1), one)
	VMULPD(double(coef.TailScale), a, t)
	VADDPD(one, t, t)
	VDIVPD(t, one, t)
	w := horner(coef.Tail[:], t)
	VMULPD(t, w, w)
	e = exp(ex)
	VMULPD(e, w, w)
	VSUBPD(w, one, one)
	phi = YMM()
	VBLENDVPD(x, w, one, phi) // w where the sign of x is set
	return phi, e
}
