package train

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/covey-ml/covey/ckpt"
)

// sampleBooks record which samples of an epoch were used, and how often: the sample ledger. Each worker books what it
// uses; merge adds the others'.
type sampleBooks struct {
	n     int
	once  []uint64 // bit i: sample i was used
	twice []uint64 // bit i: sample i was used more than once
}

func newSampleBooks(n int) *sampleBooks {
	words := (n + 63) / 64
	return &sampleBooks{n: n, once: make([]uint64, words), twice: make([]uint64, words)}
}

func (b *sampleBooks) use(ids []int) {
	for _, id := range ids {
		w, bit := id/64, uint64(1)<<(id%64)
		b.twice[w] |= b.once[w] & bit
		b.once[w] |= bit
	}
}

// useRun books the samples lo to hi-1.
func (b *sampleBooks) useRun(lo, hi int) {
	for lo < hi {
		w := lo / 64
		end := min(hi, 64*(w+1))
		run := (^uint64(0) >> (64 - (end - lo))) << (lo % 64)
		b.twice[w] |= b.once[w] & run
		b.once[w] |= run
		lo = end
	}
}

func (b *sampleBooks) clear() {
	clear(b.once)
	clear(b.twice)
}

// tensors view the books; their Data aliases them.
func (b *sampleBooks) tensors() []ckpt.Tensor {
	return []ckpt.Tensor{ckpt.Uint64s("once", nil, b.once), ckpt.Uint64s("twice", nil, b.twice)}
}

// encode writes both bit sets, little-endian.
func (b *sampleBooks) encode() []byte {
	out := make([]byte, 0, 16*len(b.once))
	for _, w := range b.once {
		out = binary.LittleEndian.AppendUint64(out, w)
	}
	for _, w := range b.twice {
		out = binary.LittleEndian.AppendUint64(out, w)
	}
	return out
}

// merge adds what another worker's books of the same epoch, encoded, hold.
func (b *sampleBooks) merge(p []byte) error {
	if len(p) != 16*len(b.once) {
		return fmt.Errorf("train: sample books of %d bytes, expected %d", len(p), 16*len(b.once))
	}
	for w := range b.once {
		once := binary.LittleEndian.Uint64(p[8*w:])
		twice := binary.LittleEndian.Uint64(p[8*(len(b.once)+w):])
		b.twice[w] |= twice | b.once[w]&once
		b.once[w] |= once
	}
	return nil
}

// exceptionsListed bounds the lists of exceptions: they are for people.
const exceptionsListed = 20

// audit tells whether each sample was used exactly once, and lists the first exceptions.
func (b *sampleBooks) audit() (exactly bool, missing, repeated []int) {
	used := 0
	for w, o := range b.once {
		used += bits.OnesCount64(o)
		for t := b.twice[w]; t != 0; t &= t - 1 {
			repeated = first(repeated, 64*w+bits.TrailingZeros64(t))
		}
	}
	if used < b.n {
		for i := range b.n {
			if b.once[i/64]&(1<<(i%64)) == 0 {
				missing = first(missing, i)
			}
		}
	}
	return missing == nil && repeated == nil, missing, repeated
}

func first(list []int, i int) []int {
	if len(list) < exceptionsListed {
		list = append(list, i)
	}
	return list
}
