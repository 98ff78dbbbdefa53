// Package vec computes over []float32: elementwise operations, sums, matrix products, the layers of a network,
// the steps of optimizers, and the elementary functions they need.
//
// # Use
//
// Matrices are row-major slices with their sizes beside them: MatMul(c, a, b, m, n, k, false) is c = a b for an
// m by k matrix a and a k by n matrix b. Lengths must match exactly; a mismatch is a bug of the caller and
// panics with the numbers in it. Outputs are written in place and nothing is kept. Slices that a function reads
// may be the very slice that it writes where the comment says so, and always for the elementwise functions;
// slices that overlap otherwise give undefined results. All functions may be called from any goroutine.
//
// # Same bits everywhere
//
// Every function is a fixed sequence of IEEE 754 operations for each output element: it gives the same bits
// on every processor, for every number of threads and wherever an element stands in its slice. Where the order
// of a sum or the use of a fused multiply-add (FMA, one rounding) is a choice, the comment states it, and it is
// part of the contract: changing one changes the weights that a job ends with. Elementary functions work in
// float64, with polynomials good to 2^-33 or better (see internal/coef), and round once to float32 at the end; that
// is what their error bounds, in units in the last place (ulp), add up to for every float32 argument.
//
// One thing is left open: which NaN. A result that is a NaN is a NaN everywhere, but its sign and payload
// differ between processors.
//
// # Kernels and twins
//
// On amd64 with AVX2, FMA and F16C the work is done by assembly that vec/gen writes (go generate ./vec;
// vec/gen/check.sh tells whether the committed files are what the generator writes). Matrix products have kernels for AVX-512 and, on
// arm64, for NEON too. Each kernel has a portable twin in Go, used on every other processor, when the environment
// variable COVEY_NOASM is 1 at start, and in builds with the tag noasm; COVEY_NOASM=avx512 leaves out AVX-512 alone.
// Kernels reports which are in use. The twins of matrix products pay for FMA in software: 1.5 GFLOP/s a thread on a
// processor whose kernels reach 100. The other twins are 5 to 100 times slower.
package vec

//go:generate go -C gen run . -out ../kernels_amd64.s -stubs ../kernels_amd64.go -pkg vec
//go:generate go -C gen run . -products -out ../products_amd64.s -stubs ../products_amd64.go -pkg vec
//go:generate go -C gen run . -neon ../products_arm64.s

// Kernels says what does the work: "avx512" (matrix products, and avx2 for the rest), "avx2", "neon" (matrix products,
// and Go for the rest) or "portable".
func Kernels() string { return kernels() }
