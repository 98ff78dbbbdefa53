//go:build !noasm

package vec

import (
	"os"
	"unsafe"

	"golang.org/x/sys/cpu"
)

// useAVX512 is read by the matrix products and written at start, and by tests.
var useAVX512 = useAVX2 && hasAVX512 && os.Getenv("COVEY_NOASM") != "avx512"

var hasAVX512 = cpu.X86.HasAVX512F && cpu.X86.HasBMI2

func kernels() string {
	switch {
	case !useAVX2:
		return "portable"
	case useAVX512:
		return "avx512"
	}
	return "avx2"
}

// shape says what the micro-kernel in use can do.
func shape() tileShape {
	switch {
	case !useAVX2:
		return tileShape{rows: 6, cols: 16, narrow: true}
	case useAVX512:
		return tileShape{rows: 14, cols: 32, narrow: true, wide: true}
	}
	return tileShape{rows: 6, cols: 16, narrow: true, wide: true, padded: true}
}

func tiles(c []float32, ldc int, a []float32, ai, ap int, b []float32, bp, step, count, rows, cols, kc int, add bool, bias []float32, relu bool) {
	switch {
	case !useAVX2:
		tilesTwin(c, ldc, a, ai, ap, b, bp, step, count, rows, cols, kc, add, bias, relu)
	case useAVX512:
		tilesAVX512(&c[0], ldc, &a[0], ai, ap, &b[0], bp, step, count, rows, cols, kc, add, unsafe.SliceData(bias), relu)
	default:
		tilesAVX2(&c[0], ldc, &a[0], ai, ap, &b[0], bp, step, count, rows, cols, kc, add, unsafe.SliceData(bias), relu)
	}
}

// transposes says whether there is a transpose8.
func transposes() bool { return useAVX2 }

// transpose8 is dst[p*dp+i] = src[i*si+p] for i below 8 and p below kc, a multiple of 8.
func transpose8(dst []float32, dp int, src []float32, si, kc int) {
	transpose8AVX2(&dst[0], dp, &src[0], si, kc)
}

// sides is dst[p*dp+i] = src[p*sp+i] for i below w and p below kc, at least 1.
func sides(dst []float32, dp int, src []float32, sp, w, kc int) {
	switch {
	case useAVX2 && useAVX512:
		for i := 0; i < w; i += 32 {
			sidesAVX512(&dst[i], dp, &src[i], sp, min(32, w-i), kc)
		}
	case useAVX2 && (w == 6 || w == 8 || w == 16):
		sidesAVX2(&dst[0], dp, &src[0], sp, w, kc)
	default:
		sidesTwin(dst, dp, src, sp, w, kc)
	}
}
