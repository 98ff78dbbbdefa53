//go:build !amd64 || noasm

package vec

func toHalf(h []uint16, x []float32)                     { toHalfTwin(h, x) }
func fromHalf(x []float32, h []uint16)                   { fromHalfTwin(x, h) }
func toBfloat(h []uint16, x []float32)                   { toBfloatTwin(h, x) }
func fromBfloat(x []float32, h []uint16)                 { fromBfloatTwin(x, h) }
func pack1(dst []byte, code []uint8)                     { packTwin(dst, code, 1) }
func pack2(dst []byte, code []uint8)                     { packTwin(dst, code, 2) }
func pack4(dst []byte, code []uint8)                     { packTwin(dst, code, 4) }
func unpack1(code []uint8, src []byte)                   { unpackTwin(code, src, 1) }
func unpack2(code []uint8, src []byte)                   { unpackTwin(code, src, 2) }
func unpack4(code []uint8, src []byte)                   { unpackTwin(code, src, 4) }
func packSigns(dst []byte, x []float32)                  { packSignsTwin(dst, x) }
func unpackSigns(x []float32, src []byte, scale float32) { unpackSignsTwin(x, src, scale) }
func quantize(code []uint8, x, u []float32, lo, inv, first, last float32, zero int) {
	quantizeTwin(code, x, u, lo, inv, first, last, zero)
}
func quantizeNear(code []uint8, x []float32, lo, inv, first, last float32, zero int) {
	quantizeNearTwin(code, x, lo, inv, first, last, zero)
}
func dequantize(x []float32, code []uint8, lo, step float32, zero int) {
	dequantizeTwin(x, code, lo, step, zero)
}
func maxAbs(x []float32) uint32         { return maxAbsTwin(x) }
func minMax(x []float32) (lo, hi int32) { return minMaxTwin(x) }
func magnitudes(x []float32) float64    { return magnitudesTwin(x) }

// aboveBlocks leaves everything to its caller.
func aboveBlocks([]int32, []float32, []float32, int32) (found, read int) { return 0, 0 }

func images(x []float32, pix, _ []uint8, mean, deviation float32) {
	imagesTwin(x, pix, mean, deviation)
}
