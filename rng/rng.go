// Package rng makes every random draw a function of what it is for.
//
// A draw is keyed by the job's seed, a purpose and the numbers that tell one draw from another (epoch,
// step, sample, rank). Two goroutines never share a generator, so the order in which they run cannot
// change a result, and a resumed run draws what the undisturbed run drew.
//
// Bits are the same on every platform: the generator is PCG from math/rand/v2, whose output is fixed, and
// only methods of rand.Rand that use integers (Uint64, IntN, Perm, Shuffle, Float32, Float64) are safe to
// call. NormFloat64 and ExpFloat64 go through package math, whose bits differ by processor: do not use them.
package rng

import "math/rand/v2"

// New returns the generator of one purpose. It is not safe for concurrent use.
func New(seed uint64, purpose string, keys ...uint64) *rand.Rand {
	k := Key(seed, purpose, keys...)
	return rand.New(rand.NewPCG(k, Mix(k)))
}

// Key folds a seed, a purpose and its keys into one number, as New does. The purpose must not be empty: it is what keeps
// the seed and the first key apart.
func Key(seed uint64, purpose string, keys ...uint64) uint64 {
	if purpose == "" {
		panic("rng: a draw without a purpose")
	}
	h := Mix(seed)
	for _, c := range []byte(purpose) {
		h = Mix(h ^ uint64(c))
	}
	for _, k := range keys {
		h = With(h, k)
	}
	return h
}

// With is what Key makes of one more key: Key(seed, purpose, k) is With(Key(seed, purpose), k).
func With(key, k uint64) uint64 { return Mix(key ^ Mix(k)) }

// Mix is the finalizer of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014, figure 15) after its increment:
// a bijection of 64 bits in which every input bit moves about half of the output bits.
func Mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
