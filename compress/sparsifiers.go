package compress

// sparsifiers keep some elements and drop the others.
var sparsifiers = []maker{
	{Choice{"topk", "the largest 1 % (or topk:0.001, topk:k=500), indices delta-coded; values=f32, fp16 or bf16"}, newTopK},
	{Choice{"randomk", "1 % at random (or randomk:0.001, randomk:k=500); rescale=true makes it unbiased"}, newRandomK},
	{Choice{"bernoulli", "each element with probability 0.01 (or bernoulli:0.001), divided by it: unbiased"}, newBernoulli},
	{Choice{"threshold", "the elements of a magnitude of at least this, as in threshold:0.001; values=f32, fp16 or bf16"}, newThreshold},
	{Choice{"adaptive", "the fewest elements with this part of the sum of squares (energy=0.9), or the most that fit (bytes=64KiB); values=f32, fp16 or bf16"}, newAdaptive},
}
