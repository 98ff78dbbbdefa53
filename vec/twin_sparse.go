package vec

// The portable twins of the sparse kernels.

func csrMatVecTwin(y []float32, row []int, col []int32, val, w []float32) {
	for i := range y {
		var s float32
		for p := row[i]; p < row[i+1]; p++ {
			s = FMA(val[p], w[col[p]], s)
		}
		y[i] = s
	}
}

func csrTMatVecTwin(g []float32, row []int, col []int32, val, a []float32) {
	for i, ai := range a {
		for p := row[i]; p < row[i+1]; p++ {
			g[col[p]] = FMA(val[p], ai, g[col[p]])
		}
	}
}

func csrRowMulTwin(c []float32, col []int32, val, b []float32) {
	n := len(c)
	clear(c)
	for p, v := range val {
		j := int(col[p]) * n
		axpyTwin(v, b[j:j+n], c)
	}
}

func csrRowAddTwin(g []float32, col []int32, val, a []float32) {
	n := len(a)
	for p, v := range val {
		j := int(col[p]) * n
		axpyTwin(v, a, g[j:j+n])
	}
}

func maxColumnTwin(col []int32) uint32 {
	var m uint32
	for _, c := range col {
		m = max(m, uint32(c))
	}
	return m
}

func csrMarginsTwin(z []float64, row []int, col []int32, val []float32, w []float64) {
	for i := range z {
		z[i] = csrDot64(col, val, row[i], row[i+1], w)
	}
}

func csrAddGradTwin(g []float64, row []int, col []int32, val []float32, r []float64) {
	for i, ri := range r {
		csrScatter64(g, col, val, row[i], row[i+1], ri)
	}
}

func csrAddHessTwin(g []float64, row []int, col []int32, val []float32, d, v []float64) {
	for i, di := range d {
		lo, hi := row[i], row[i+1]
		csrScatter64(g, col, val, lo, hi, float64(di*csrDot64(col, val, lo, hi, v)))
	}
}

func csrAddGramTwin(a []float64, row []int, col []int32, val []float32, d []float64) {
	for i, di := range d {
		lo, hi := row[i], row[i+1]
		for p := lo; p < hi; p++ {
			r, w := int(col[p]), di
			if val != nil {
				w = float64(float64(val[p]) * di)
			}
			csrScatter64(a[r*(r+1)/2:], col, val, lo, p+1, w)
		}
	}
}

func csrDot64(col []int32, val []float32, lo, hi int, w []float64) float64 {
	var s0, s1, s2, s3 float64
	c := col[lo:hi]
	if val == nil {
		for len(c) >= 4 {
			s0 += w[uint32(c[0])]
			s1 += w[uint32(c[1])]
			s2 += w[uint32(c[2])]
			s3 += w[uint32(c[3])]
			c = c[4:]
		}
		switch len(c) {
		case 3:
			s2 += w[uint32(c[2])]
			fallthrough
		case 2:
			s1 += w[uint32(c[1])]
			fallthrough
		case 1:
			s0 += w[uint32(c[0])]
		}
		return (s0 + s2) + (s1 + s3)
	}
	v := val[lo:hi]
	v = v[:len(c)]
	for len(c) >= 4 && len(v) >= 4 {
		s0 += float64(float64(v[0]) * w[uint32(c[0])])
		s1 += float64(float64(v[1]) * w[uint32(c[1])])
		s2 += float64(float64(v[2]) * w[uint32(c[2])])
		s3 += float64(float64(v[3]) * w[uint32(c[3])])
		c, v = c[4:], v[4:]
	}
	switch len(c) {
	case 3:
		s2 += float64(float64(v[2]) * w[uint32(c[2])])
		fallthrough
	case 2:
		s1 += float64(float64(v[1]) * w[uint32(c[1])])
		fallthrough
	case 1:
		s0 += float64(float64(v[0]) * w[uint32(c[0])])
	}
	return (s0 + s2) + (s1 + s3)
}

func csrScatter64(g []float64, col []int32, val []float32, lo, hi int, r float64) {
	c := col[lo:hi]
	if val == nil {
		for _, j := range c {
			g[uint32(j)] += r
		}
		return
	}
	v := val[lo:hi]
	v = v[:len(c)]
	for p, j := range c {
		g[uint32(j)] += float64(float64(v[p]) * r)
	}
}
