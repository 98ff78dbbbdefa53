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

	text("expShift", "func(e, x []float32, m float64)", "is e = exp(x - m).")
	a, err := Param("m").Resolve()
	if err != nil {
		panic(err)
	}
	m := YMM()
	VBROADCASTSD(a.Addr, m)
	walk(1, []stream{out("e"), in("x")}, func(v []VecVirtual) {
		v[0] = inDouble(func(d []VecVirtual) VecVirtual {
			VSUBPD(m, d[0], d[0])
			atLeast(-coef.ExpMax, d[0])
			atMost(coef.ExpMax, d[0])
			return exp(d[0])
		}, v[1])
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
	e := exp(a)
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
	h := horner(coef.Atanh[:], t)
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
func expCore(x VecVirtual) (q, scale VecVirtual) {
	kd, t := YMM(), YMM()
	VMULPD(double(coef.InvLn2), x, kd)
	VADDPD(double(coef.Round), kd, kd)
	VSUBPD(double(coef.Round), kd, t)
	VMULPD(double(coef.Ln2), t, t)
	VSUBPD(t, x, x)
	p := horner(coef.Expm1[:], x)
	VMULPD(x, p, p)
	VPADDQ(quad(1023), kd, kd)
	VPSLLQ(Imm(52), kd, kd)
	return p, kd
}

func exp(x VecVirtual) VecVirtual {
	q, scale := expCore(x)
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
	m, scale := expCore(a)
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
