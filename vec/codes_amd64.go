//go:build !noasm

package vec

// These kernels take whole blocks of elements; the twins do the rest.

func toHalf(h []uint16, x []float32) {
	n := 0
	if useAVX2 {
		n = len(x) &^ 31
		toHalfAVX2(h, x)
	}
	toHalfTwin(h[n:], x[n:])
}

func fromHalf(x []float32, h []uint16) {
	n := 0
	if useAVX2 {
		n = len(x) &^ 31
		fromHalfAVX2(x, h)
	}
	fromHalfTwin(x[n:], h[n:])
}

func toBfloat(h []uint16, x []float32) {
	n := 0
	if useAVX2 {
		n = len(x) &^ 31
		toBfloatAVX2(h, x)
	}
	toBfloatTwin(h[n:], x[n:])
}

func fromBfloat(x []float32, h []uint16) {
	n := 0
	if useAVX2 {
		n = len(x) &^ 31
		fromBfloatAVX2(x, h)
	}
	fromBfloatTwin(x[n:], h[n:])
}

func pack1(dst []byte, code []uint8) {
	n := 0
	if useAVX2 {
		n = len(code) &^ 31
		pack1AVX2(dst, code)
	}
	packTwin(dst[n/8:], code[n:], 1)
}

func pack2(dst []byte, code []uint8) {
	n := 0
	if useAVX2 {
		n = len(code) &^ 31
		pack2AVX2(dst, code)
	}
	packTwin(dst[n/4:], code[n:], 2)
}

func pack4(dst []byte, code []uint8) {
	n := 0
	if useAVX2 {
		n = len(code) &^ 31
		pack4AVX2(dst, code)
	}
	packTwin(dst[n/2:], code[n:], 4)
}

func unpack1(code []uint8, src []byte) {
	n := 0
	if useAVX2 {
		n = len(code) &^ 31
		unpack1AVX2(code, src)
	}
	unpackTwin(code[n:], src[n/8:], 1)
}

func unpack2(code []uint8, src []byte) {
	n := 0
	if useAVX2 {
		n = len(code) &^ 31
		unpack2AVX2(code, src)
	}
	unpackTwin(code[n:], src[n/4:], 2)
}

func unpack4(code []uint8, src []byte) {
	n := 0
	if useAVX2 {
		n = len(code) &^ 31
		unpack4AVX2(code, src)
	}
	unpackTwin(code[n:], src[n/2:], 4)
}

func packSigns(dst []byte, x []float32) {
	n := 0
	if useAVX2 {
		n = len(x) &^ 31
		packSignsAVX2(dst, x)
	}
	packSignsTwin(dst[n/8:], x[n:])
}

func unpackSigns(x []float32, src []byte, scale float32) {
	n := 0
	if useAVX2 {
		n = len(x) &^ 31
		unpackSignsAVX2(x, src, scale)
	}
	unpackSignsTwin(x[n:], src[n/8:], scale)
}

func quantize(code []uint8, x, u []float32, lo, inv, first, last float32, zero int) {
	n := 0
	if useAVX2 {
		n = len(x) &^ 31
		quantizeAVX2(code, x, u, lo, inv, first, last, zero)
	}
	quantizeTwin(code[n:], x[n:], u[n:], lo, inv, first, last, zero)
}

func quantizeNear(code []uint8, x []float32, lo, inv, first, last float32, zero int) {
	n := 0
	if useAVX2 {
		n = len(x) &^ 31
		quantizeNearAVX2(code, x, lo, inv, first, last, zero)
	}
	quantizeNearTwin(code[n:], x[n:], lo, inv, first, last, zero)
}

func dequantize(x []float32, code []uint8, lo, step float32, zero int) {
	n := 0
	if useAVX2 {
		n = len(x) &^ 31
		dequantizeAVX2(x, code, lo, step, zero)
	}
	dequantizeTwin(x[n:], code[n:], lo, step, zero)
}

func maxAbs(x []float32) uint32 {
	n, m := 0, uint32(0)
	if useAVX2 {
		n = len(x) &^ 31
		m = maxAbsAVX2(x)
	}
	return max(m, maxAbsTwin(x[n:]))
}

func minMax(x []float32) (lo, hi int32) {
	if !useAVX2 {
		return minMaxTwin(x)
	}
	lo, hi = minMaxAVX2(x)
	l, h := minMaxTwin(x[len(x)&^31:])
	return min(lo, l), max(hi, h)
}

func magnitudes(x []float32) float64 {
	if useAVX2 {
		return magnitudesAVX2(x)
	}
	return magnitudesTwin(x)
}

func aboveBlocks(idx []int32, val, x []float32, below int32) (found, read int) {
	if useAVX2 {
		return aboveBlocksAVX2(idx, val, x, below)
	}
	return 0, 0
}

// images takes next only to fetch it.
func images(x []float32, pix, next []uint8, mean, deviation float32) {
	n := 0
	if useAVX2 {
		n = len(x) &^ 31
		imagesAVX2(x, pix, next, mean, deviation)
	}
	imagesTwin(x[n:], pix[n:], mean, deviation)
}
