// Package coef holds the numbers that vec's elementary functions are made of. The portable twins and the
// generator of the assembly both read them here, so that the two cannot drift apart.
//
// Every polynomial was fitted at Chebyshev nodes in 40-digit arithmetic; the relative error named at each is
// the largest over 2001 points of its interval. Coefficients ascend.
package coef

// Ln2 and its inverse, and 1/sqrt(2 pi).
const (
	Ln2        = 0.6931471805599453
	InvLn2     = 1.4426950408889634
	InvSqrt2Pi = 0.3989422804014327
)

// Sqrt2Less1 is sqrt(2) - 1.
const Sqrt2Less1 = 0.41421356237309503

// Round is 1.5 * 2^52: adding it to a float64 below 2^51 in magnitude rounds that to an integer, which the low
// bits of the sum then hold in two's complement.
const Round = 6755399441055744.0

// ExpMax bounds the argument of exp: beyond it, every float32 result is 0 or infinite already.
const ExpMax = 700.0

// TanhMax bounds 2|x| for tanh: beyond it, the float32 result is 1.
const TanhMax = 30.0

// Expm1 is (e^r - 1)/r for |r| <= ln(2)/2, within 2^-37.
var Expm1 = [...]float64{
	0.9999999999955084, 0.499999999999551, 0.16666666786321874, 0.04166666678627901,
	0.008333283535021089, 0.001388883910688638, 0.00019907571766911045, 2.4867872634522084e-05,
}

// Atanh is atanh(s)/s in s^2, for |s| <= 3 - 2 sqrt(2), within 2^-45.
var Atanh = [...]float64{
	0.9999999999999736, 0.33333333339792903, 0.19999997444874992, 0.14286083186247328,
	0.11087120001882952, 0.09804122652852038,
}

// Expm1Long is (e^r - 1)/r for |r| <= ln(2)/2, its Taylor series to r^12, whose rest is below 2^-56.
var Expm1Long = [...]float64{
	1, 1. / 2, 1. / 6, 1. / 24, 1. / 120, 1. / 720, 1. / 5040, 1. / 40320, 1. / 362880, 1. / 3628800, 1. / 39916800,
	1. / 479001600, 1. / 6227020800,
}

// AtanhLong is atanh(s)/s in s^2, for |s| <= 3 - 2 sqrt(2), its Taylor series to s^18, whose rest is below 2^-55.
var AtanhLong = [...]float64{1, 1. / 3, 1. / 5, 1. / 7, 1. / 9, 1. / 11, 1. / 13, 1. / 15, 1. / 17, 1. / 19}

// TailMax and TailScale say where Tail holds: 0 <= a <= TailMax, with t = 1/(1 + TailScale*a).
const (
	TailMax   = 16.0
	TailScale = 0.2
)

// Tail is Q in Phi(-a) = exp(-a^2/2) t Q(t), the lower tail of the normal distribution, within 2^-33. The
// variable t is Shepherd and Laframboise's (Mathematics of Computation 36, 1981, section 2) up to a linear map.
var Tail = [...]float64{
	0.07978673937595736, 0.07983672801826416, 0.07598830617468522, 0.07475920273650483,
	0.03865298942734443, 0.12607328404618606, -0.14670050951974037, 0.3415354026564202,
	-0.36177159206876214, 0.30399920981254575, -0.13503454296018935, 0.02287478233734522,
}
