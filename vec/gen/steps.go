package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/reg"
)

func steps() {
	text("sgd", "func(x, g []float32, scale, nlr float32)", "is a step of gradient descent.")
	scale, nlr := broadcast("scale"), broadcast("nlr")
	walk(4, []stream{inout("x"), in("g")}, func(v []VecVirtual) {
		VMULPS(scale, v[1], v[1])
		VFMADD231PS(nlr, v[1], v[0])
	})

	for _, nesterov := range []bool{false, true} {
		name, doc := "momentum", "is a step of momentum."
		if nesterov {
			name, doc = "nesterov", "is a step of Nesterov's momentum."
		}
		TEXT(name+"AVX2", NOSPLIT, "func(x, g, v []float32, scale, nlr, mu, c float32)")
		Pragma("noescape")
		Doc(name+"AVX2 "+doc, "See momentumTwin for the contract.")
		scale, nlr, mu, c := broadcast("scale"), broadcast("nlr"), broadcast("mu"), broadcast("c")
		walk(1, []stream{inout("x"), in("g"), inout("v")}, func(v []VecVirtual) {
			x, g, d := v[0], v[1], v[2]
			s := YMM()
			VMULPS(scale, g, g)
			VMULPS(c, g, s)
			VFMADD213PS(s, mu, d) // d = mu*v + s
			if !nesterov {
				VFMADD231PS(nlr, d, x)
				return
			}
			VFMADD231PS(mu, d, g) // g = mu*d + g
			VFMADD231PS(nlr, g, x)
		})
	}

	text("adam", "func(x, g, m, v []float32, scale, step, c1, b2, c2, rs, eps float32)", "is a step of Adam.")
	k := loadAdam()
	walk(1, []stream{inout("x"), in("g"), inout("m"), inout("v")}, func(v []VecVirtual) {
		r := k.ratio(v[1], v[2], v[3])
		VFMADD231PS(k.step, r, v[0])
	})

	text("adamDir", "func(d, g, m, v []float32, scale, step, c1, b2, c2, rs, eps float32)", "is the direction of a step of Adam.")
	k = loadAdam()
	walk(1, []stream{out("d"), in("g"), inout("m"), inout("v")}, func(v []VecVirtual) {
		r := k.ratio(v[1], v[2], v[3])
		VMULPS(k.step, r, r)
		v[0] = r
	})

	text("rmsprop", "func(x, g, v []float32, scale, nlr, alpha, c, eps float32)", "is a step of RMSProp or Adagrad.")
	scale, nlr = broadcast("scale"), broadcast("nlr")
	alpha, c, eps := broadcast("alpha"), broadcast("c"), broadcast("eps")
	walk(1, []stream{inout("x"), in("g"), inout("v")}, func(v []VecVirtual) {
		x, g, s := v[0], v[1], v[2]
		u := YMM()
		VMULPS(scale, g, g)
		VMULPS(alpha, s, s)
		VMULPS(c, g, u)
		VFMADD231PS(u, g, s)
		VSQRTPS(s, u)
		VADDPS(eps, u, u)
		VDIVPS(u, g, u)
		VFMADD231PS(nlr, u, x)
	})
}

// adamK is vec.adamConst, broadcast.
type adamK struct{ scale, step, c1, b2, c2, rs, eps VecVirtual }

func loadAdam() adamK {
	return adamK{broadcast("scale"), broadcast("step"), broadcast("c1"), broadcast("b2"), broadcast("c2"), broadcast("rs"), broadcast("eps")}
}

// ratio updates m and v in place and gives m / fma(sqrt(v), rs, eps).
func (k adamK) ratio(g, m, v VecVirtual) VecVirtual {
	t := YMM()
	VMULPS(k.scale, g, g)
	VSUBPS(m, g, t)
	VFMADD231PS(k.c1, t, m) // m = c1*(g-m) + m
	VMULPS(k.c2, g, t)
	VMULPS(k.b2, v, v)
	VFMADD231PS(t, g, v) // v = (c2*g)*g + b2*v
	VSQRTPS(v, t)
	VFMADD213PS(k.eps, k.rs, t) // t = rs*t + eps
	VDIVPS(t, m, t)
	return t
}
