package vec

// Add is dst[i] += x[i].
func Add(dst, x []float32) {
	same("Add", len(dst), len(x))
	add(dst, x)
}

// AddTo is dst[i] = a[i] + b[i]; dst may be a or b.
func AddTo(dst, a, b []float32) {
	same("AddTo", len(dst), len(a))
	same("AddTo", len(dst), len(b))
	addTo(dst, a, b)
}

// AddBoth is dst[i] = also[i] = a[i] + b[i]; a and b may be dst and also, in either order.
func AddBoth(dst, also, a, b []float32) {
	same("AddBoth", len(dst), len(also))
	same("AddBoth", len(dst), len(a))
	same("AddBoth", len(dst), len(b))
	addBoth(dst, also, a, b)
}

// AddFour makes all four vectors (a[i] + b[i]) + (c[i] + d[i]).
func AddFour(a, b, c, d []float32) {
	same("AddFour", len(a), len(b))
	same("AddFour", len(a), len(c))
	same("AddFour", len(a), len(d))
	addFour(a, b, c, d)
}

// Scale is x[i] *= a.
func Scale(a float32, x []float32) { scale(a, x) }

// Axpy is y[i] = FMA(a, x[i], y[i]).
func Axpy(a float32, x, y []float32) {
	same("Axpy", len(x), len(y))
	axpy(a, x, y)
}

// ArgMax is the index of the first largest element. A NaN counts as larger than every number, so that it does
// not hide: the index is then that of the first NaN. It is -1 for an empty x.
func ArgMax(x []float32) int {
	if len(x) == 0 {
		return -1
	}
	best := 0
	for i, v := range x {
		if v != v {
			return i
		}
		if v > x[best] {
			best = i
		}
	}
	return best
}

// Finite reports whether x holds no NaN and no infinity.
func Finite(x []float32) bool { return finite(x) }
