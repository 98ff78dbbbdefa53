//go:build !amd64 || noasm

package vec

func uniform(u []float32, k0, k1, c uint32) { uniformTwin(u, k0, k1, c) }
func quantize16(level []int16, x, u []float32, inv, top float32) {
	quantize16Twin(level, x, u, inv, top)
}
func quantize16Near(level []int16, x []float32, inv, top float32) {
	quantize16NearTwin(level, x, inv, top)
}
func dequantize16(x []float32, level []int16, step float32) { dequantize16Twin(x, level, step) }
func roundPowers(code []uint8, x, u []float32)              { roundPowersTwin(code, x, u) }
func fromPowers(x []float32, code []uint8, signs []byte)    { fromPowersTwin(x, code, signs) }
func toMiniNear(code []uint8, x []float32, m *miniConst)    { toMiniNearTwin(code, x, m) }
func toMini(code []uint8, x, u []float32, m *miniConst)     { toMiniTwin(code, x, u, m) }
func signSums(x []float32) (above, below float64)           { return signSumsTwin(x) }
func unpackPair(x []float32, src []byte, off, on float32)   { unpackPairTwin(x, src, off, on) }
func maxCode(code []uint8) uint32                           { return maxCodeTwin(code) }
func floorSteps(level []int16, x []float32, step float32)   { floorStepsTwin(level, x, step) }
func shiftDown(dst, code []uint8, by uint32)                { shiftDownTwin(dst, code, by) }
func mixUp(code, part []uint8, by uint32)                   { mixUpTwin(code, part, by) }
