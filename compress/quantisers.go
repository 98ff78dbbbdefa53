package compress

// quantisers keep every element, in fewer bits.
var quantisers = []maker{
	{Choice{"uniform", "the nearest of evenly spaced levels (bits=8, bucket=512), or the one below at a step that you give (delta=)"}, newUniform},
	{Choice{"random", "one of the two next of evenly spaced levels, unbiased (bits=8, bucket=512, or delta=)"}, newRandom},
	{Choice{"qsgd", "QSGD: random levels of a bucket's 2-norm, unbiased (levels=127, bucket=512, code=packed or elias)"}, newQSGD},
	{Choice{"terngrad", "TernGrad: -1, 0 or 1 times the largest, 2 bits, unbiased (bucket=; clip=2.5 is not)"}, newTernGrad},
	{Choice{"onebit", "1-bit SGD: signs, and the means of both kinds in a bucket of 128 (bucket=)"}, newOneBit},
	{Choice{"sign", "signs times the mean magnitude (bucket=)"}, newSign},
	{Choice{"natural", "natural compression: a power of two next to each, unbiased, 9 bits"}, newNatural},
	{Choice{"fp16", "IEEE binary16, times a power of two for all"}, newHalf},
	{Choice{"bf16", "bfloat16"}, newBfloat},
	{Choice{"float", "floats of at most 8 bits (exponent=4, mantissa=3, stochastic=false, bucket=)"}, newFloat},
}
