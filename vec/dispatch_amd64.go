//go:build !noasm

package vec

import (
	"os"

	"golang.org/x/sys/cpu"
)

// useAVX2 is read everywhere and written at start (and by tests, which train both ways).
var useAVX2 = cpu.X86.HasAVX2 && cpu.X86.HasFMA && cpu.X86.HasF16C && os.Getenv("COVEY_NOASM") != "1"

func add(dst, x []float32) {
	if useAVX2 {
		addAVX2(dst, x)
		return
	}
	addTwin(dst, x)
}

func addTo(dst, a, b []float32) {
	if useAVX2 {
		addToAVX2(dst, a, b)
		return
	}
	addToTwin(dst, a, b)
}

func addBoth(dst, also, a, b []float32) {
	if useAVX2 {
		addBothAVX2(dst, also, a, b)
		return
	}
	addBothTwin(dst, also, a, b)
}

func addFour(a, b, c, d []float32) {
	if useAVX2 {
		addFourAVX2(a, b, c, d)
		return
	}
	addFourTwin(a, b, c, d)
}

func scale(a float32, x []float32) {
	if useAVX2 {
		scaleAVX2(a, x)
		return
	}
	scaleTwin(a, x)
}

func axpy(a float32, x, y []float32) {
	if useAVX2 {
		axpyAVX2(a, x, y)
		return
	}
	axpyTwin(a, x, y)
}

func finite(x []float32) bool {
	if useAVX2 {
		return finiteAVX2(x)
	}
	return finiteTwin(x)
}

func dot(x, y []float32) float32 {
	if useAVX2 {
		return dotAVX2(x, y)
	}
	return dotTwin(x, y)
}

func squares(x []float32) float64 {
	if useAVX2 {
		return squaresAVX2(x)
	}
	return squaresTwin(x)
}

func sumRows(db, dy []float32, rows int, acc bool) {
	if useAVX2 {
		sumRowsAVX2(db, dy, rows, acc)
		return
	}
	sumRowsTwin(db, dy, rows, acc)
}

func relu(y, x []float32) {
	if useAVX2 {
		reluAVX2(y, x)
		return
	}
	reluTwin(y, x)
}

func reluGrad(dx, dy, y []float32) {
	if useAVX2 {
		reluGradAVX2(dx, dy, y)
		return
	}
	reluGradTwin(dx, dy, y)
}

func tanh(y, x []float32) {
	if useAVX2 {
		tanhAVX2(y, x)
		return
	}
	tanhTwin(y, x)
}

func tanhGrad(dx, dy, y []float32) {
	if useAVX2 {
		tanhGradAVX2(dx, dy, y)
		return
	}
	tanhGradTwin(dx, dy, y)
}

func gelu(y, x []float32) {
	if useAVX2 {
		geluAVX2(y, x)
		return
	}
	geluTwin(y, x)
}

func geluGrad(dx, dy, x []float32) {
	if useAVX2 {
		geluGradAVX2(dx, dy, x)
		return
	}
	geluGradTwin(dx, dy, x)
}

func sigmoid(y, x []float32) {
	if useAVX2 {
		sigmoidAVX2(y, x)
		return
	}
	sigmoidTwin(y, x)
}

func softmaxRow(e, x []float32) (s, m float64) {
	if useAVX2 {
		return softmaxRowAVX2(e, x)
	}
	return softmaxRowTwin(e, x)
}

func softmaxSum(x []float32) (s, m float64) {
	if useAVX2 {
		return softmaxSumAVX2(x)
	}
	return softmaxSumTwin(x)
}

func scaleDouble(x []float32, a float64) {
	if useAVX2 {
		scaleDoubleAVX2(x, a)
		return
	}
	scaleDoubleTwin(x, a)
}

func adam(x, g, m, v []float32, p *adamConst) {
	if useAVX2 {
		adamAVX2(x, g, m, v, p.scale, p.step, p.c1, p.b2, p.c2, p.rs, p.eps)
		return
	}
	adamTwin(x, g, m, v, p)
}

func adamDir(d, g, m, v []float32, p *adamConst) {
	if useAVX2 {
		adamDirAVX2(d, g, m, v, p.scale, p.step, p.c1, p.b2, p.c2, p.rs, p.eps)
		return
	}
	adamDirTwin(d, g, m, v, p)
}

func rmsprop(x, g, v []float32, scale, nlr, alpha, c, eps float32) {
	if useAVX2 {
		rmspropAVX2(x, g, v, scale, nlr, alpha, c, eps)
		return
	}
	rmspropTwin(x, g, v, scale, nlr, alpha, c, eps)
}

func sgd(x, g []float32, scale, nlr float32) {
	if useAVX2 {
		sgdAVX2(x, g, scale, nlr)
		return
	}
	sgdTwin(x, g, scale, nlr)
}

func momentum(x, g, v []float32, scale, nlr, mu, c float32, nest bool) {
	switch {
	case !useAVX2:
		momentumTwin(x, g, v, scale, nlr, mu, c, nest)
	case nest:
		nesterovAVX2(x, g, v, scale, nlr, mu, c)
	default:
		momentumAVX2(x, g, v, scale, nlr, mu, c)
	}
}
