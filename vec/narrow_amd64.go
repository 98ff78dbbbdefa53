//go:build !noasm

package vec

// These kernels, too, take whole blocks of elements, but for signSums; the twins do the rest.

func uniform(u []float32, k0, k1, c uint32) {
	n := 0
	if useAVX2 {
		n = len(u) &^ 31
		uniformAVX2(u, k0, k1, c)
	}
	uniformTwin(u[n:], k0, k1, c+uint32(n))
}

func quantize16(level []int16, x, u []float32, inv, top float32) {
	n := 0
	if useAVX2 {
		n = len(x) &^ 31
		quantize16AVX2(level, x, u, inv, top)
	}
	quantize16Twin(level[n:], x[n:], u[n:], inv, top)
}

func quantize16Near(level []int16, x []float32, inv, top float32) {
	n := 0
	if useAVX2 {
		n = len(x) &^ 31
		quantize16NearAVX2(level, x, inv, top)
	}
	quantize16NearTwin(level[n:], x[n:], inv, top)
}

func dequantize16(x []float32, level []int16, step float32) {
	n := 0
	if useAVX2 {
		n = len(x) &^ 31
		dequantize16AVX2(x, level, step)
	}
	dequantize16Twin(x[n:], level[n:], step)
}

func roundPowers(code []uint8, x, u []float32) {
	n := 0
	if useAVX2 {
		n = len(x) &^ 31
		roundPowersAVX2(code, x, u)
	}
	roundPowersTwin(code[n:], x[n:], u[n:])
}

func fromPowers(x []float32, code []uint8, signs []byte) {
	n := 0
	if useAVX2 {
		n = len(x) &^ 31
		fromPowersAVX2(x, code, signs)
	}
	fromPowersTwin(x[n:], code[n:], signs[n/8:])
}

func toMiniNear(code []uint8, x []float32, m *miniConst) {
	n := 0
	if useAVX2 {
		n = len(x) &^ 31
		toMiniNearAVX2(code, x, m.inv, m.top, m.small, m.units, m.magic, 1<<(m.shift-1)-1, m.bias,
			uint32(m.shift), uint32(24-m.shift), uint32(m.sign))
	}
	toMiniNearTwin(code[n:], x[n:], m)
}

func toMini(code []uint8, x, u []float32, m *miniConst) {
	n := 0
	if useAVX2 {
		n = len(x) &^ 31
		toMiniAVX2(code, x, u, m.inv, m.top, m.small, m.units, m.magic, 1<<(m.shift-1)-1, m.bias,
			uint32(m.shift), uint32(24-m.shift), uint32(m.sign))
	}
	toMiniTwin(code[n:], x[n:], u[n:], m)
}

func signSums(x []float32) (above, below float64) {
	if useAVX2 {
		return signSumsAVX2(x)
	}
	return signSumsTwin(x)
}

func unpackPair(x []float32, src []byte, off, on float32) {
	n := 0
	if useAVX2 {
		n = len(x) &^ 31
		unpackPairAVX2(x, src, off, on)
	}
	unpackPairTwin(x[n:], src[n/8:], off, on)
}

func maxCode(code []uint8) uint32 {
	n, m := 0, uint32(0)
	if useAVX2 {
		n = len(code) &^ 31
		m = maxCodeAVX2(code)
	}
	return max(m, maxCodeTwin(code[n:]))
}

func floorSteps(level []int16, x []float32, step float32) {
	n := 0
	if useAVX2 {
		n = len(x) &^ 31
		floorStepsAVX2(level, x, step)
	}
	floorStepsTwin(level[n:], x[n:], step)
}

func shiftDown(dst, code []uint8, by uint32) {
	n := 0
	if useAVX2 {
		n = len(code) &^ 31
		shiftDownAVX2(dst, code, by, 0x01010101*(0xff>>by))
	}
	shiftDownTwin(dst[n:], code[n:], by)
}

func mixUp(code, part []uint8, by uint32) {
	n := 0
	if useAVX2 {
		n = len(code) &^ 31
		mixUpAVX2(code, part, by, 0x01010101*(0xff<<by&0xff))
	}
	mixUpTwin(code[n:], part[n:], by)
}
