package vec

import "github.com/covey-ml/covey/rng"

// Uniform draws numbers uniform in [0, 1), multiples of 2^-24: u[i] is a function of key and at+i alone, so that a vector
// can be drawn in pieces, in any order. Draws of different keys have nothing to do with each other.
//
// It hashes a counter. The two halves of a word that rng.Mix makes of the key and of the counter's upper half go into a
// mixer of 32 bits with two multiplications, whose constants are from C. Wellons' search for such mixers (hash-prospector);
// the second half is added between them. The hash is a bijection of the counter's lower half: of 2^32 draws no two have the
// same 32 bits, of which a number has the first 24.
func Uniform(u []float32, key, at uint64) {
	for len(u) > 0 {
		n := int(min(uint64(len(u)), 1<<32-at&(1<<32-1)))
		k := rng.Mix(key ^ rng.Mix(at>>32))
		uniform(u[:n], uint32(k), uint32(k>>32), uint32(at))
		u, at = u[n:], at+uint64(n)
	}
}

// hash32 is counter c's word.
func hash32(k0, k1, c uint32) uint32 {
	x := c ^ k0
	x ^= x >> 16
	x *= 0x21f0aaad
	x ^= x >> 15
	x += k1
	x *= 0xd35a2d97
	return x ^ x>>15
}

func uniformTwin(u []float32, k0, k1, c uint32) {
	for i := range u {
		u[i] = float32(hash32(k0, k1, c+uint32(i))>>8) * 0x1p-24
	}
}
