//go:build !noasm

package tcp

import (
	"hash/crc32"
	"os"

	"golang.org/x/sys/cpu"
)

var (
	folds = cpu.X86.HasAVX512F && cpu.X86.HasAVX512VPCLMULQDQ && os.Getenv("COVEY_NOASM") != "1"
	// foldBy moves 16 bytes foldBytes ahead: its halves are multiplied by these powers of x, modulo the polynomial.
	foldBy = [2]uint64{power(8*foldBytes + 32), power(8*foldBytes - 32)}
)

// power is x^n modulo the Castagnoli polynomial, its bits in reverse, as CRC32C has them, and moved by the one bit that a
// product of reversed numbers is short.
func power(n int) uint64 {
	v := uint32(1) << 31
	for range n {
		v = v>>1 ^ -(v&1)&crc32.Castagnoli
	}
	return uint64(v) << 1
}

// fold makes of blocks times foldBytes at p, with state, a CRC so far, added to the first four, as many bytes as one
// block, of the same remainder (Gopal et al., Fast CRC computation for generic polynomials using PCLMULQDQ, Intel, 2009).
//
//go:noescape
func fold(out *remainder, p *byte, blocks int, state uint32, k *[2]uint64)

// update adds p to a CRC32C. It does what crc32.Update does, at several times the speed where processors multiply
// polynomials 64 bytes at a time. It writes to rest.
func update(sum uint32, p []byte, rest *remainder) uint32 {
	if blocks := len(p) / foldBytes; folds && blocks >= 4 {
		fold(rest, &p[0], blocks, ^sum, &foldBy)
		sum = crc32.Update(^uint32(0), castagnoli, rest[:]) // from a state of 0: the true one is in rest
		p = p[blocks*foldBytes:]
	}
	return crc32.Update(sum, castagnoli, p)
}
