package train

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"

	"github.com/covey-ml/covey/ckpt"
)

// sampleBooks are a worker's part of the sample ledger: what it used of the epoch under way. What is handed out in a step is
// booked when the step is done; a step that fails has used nothing.
type sampleBooks struct {
	epoch int        // of what is booked
	base  *sampleSet // used before this group was formed, the same on every worker; nil: nothing was
	ahead *sampleSet // the same of the epoch to come; nil: nothing was
	own   *sampleSet // by this worker since
	all   *sampleSet // on rank 0, what all had used when they last told each other; nil elsewhere
	ids   []int      // handed out in the step under way
	runs  [][2]int   // the same, from and to

	sliced bool // runs have been handed out
}

func newSampleBooks(n int) *sampleBooks { return &sampleBooks{own: newSampleSet(n)} }

// use notes samples that a step uses.
func (b *sampleBooks) use(ids []int) { b.ids = append(b.ids, ids...) }

// useRun notes the samples lo to hi-1.
func (b *sampleBooks) useRun(lo, hi int) { b.runs, b.sliced = append(b.runs, [2]int{lo, hi}), true }

// commit books what was handed out in a step of an epoch, that is done. The first step of an epoch closes the books of the one
// before.
func (b *sampleBooks) commit(epoch int) {
	if epoch != b.epoch {
		b.begin(epoch)
	}
	b.own.use(b.ids)
	for _, r := range b.runs {
		b.own.useRun(r[0], r[1])
	}
	b.drop()
}

// drop forgets what was handed out in a step that is not going to be done.
func (b *sampleBooks) drop() { b.ids, b.runs = b.ids[:0], b.runs[:0] }

// begin opens the books of an epoch.
func (b *sampleBooks) begin(epoch int) {
	b.epoch, b.base, b.ahead = epoch, b.ahead, nil
	b.own.clear()
}

// collect makes all of what the workers used in this generation and what had been used before.
func (b *sampleBooks) collect(now *sampleSet) {
	b.all = now
	if b.base != nil {
		b.all.add(b.base)
	}
}

// tensors view what all have used, or on who does not know it what it used itself; their Data aliases it.
func (b *sampleBooks) tensors() []ckpt.Tensor {
	if b.all != nil {
		return b.all.tensors()
	}
	return b.own.tensors()
}

// sampleSet records which samples were used, and which more than once.
type sampleSet struct {
	n     int
	once  []uint64 // bit i: sample i was used
	twice []uint64 // bit i: sample i was used more than once
}

func newSampleSet(n int) *sampleSet {
	words := (n + 63) / 64
	return &sampleSet{n: n, once: make([]uint64, words), twice: make([]uint64, words)}
}

func (b *sampleSet) use(ids []int) {
	for _, id := range ids {
		w, bit := id/64, uint64(1)<<(id%64)
		b.twice[w] |= b.once[w] & bit
		b.once[w] |= bit
	}
}

// useRun books the samples lo to hi-1.
func (b *sampleSet) useRun(lo, hi int) {
	for lo < hi {
		w := lo / 64
		end := min(hi, 64*(w+1))
		run := (^uint64(0) >> (64 - (end - lo))) << (lo % 64)
		b.twice[w] |= b.once[w] & run
		b.once[w] |= run
		lo = end
	}
}

func (b *sampleSet) clear() {
	clear(b.once)
	clear(b.twice)
}

// add books what o holds.
func (b *sampleSet) add(o *sampleSet) {
	for w := range b.once {
		b.twice[w] |= o.twice[w] | b.once[w]&o.once[w]
		b.once[w] |= o.once[w]
	}
}

func (b *sampleSet) clone() *sampleSet {
	return &sampleSet{b.n, slices.Clone(b.once), slices.Clone(b.twice)}
}

// tensors view the set; their Data aliases it.
func (b *sampleSet) tensors() []ckpt.Tensor {
	return []ckpt.Tensor{ckpt.Uint64s("once", nil, b.once), ckpt.Uint64s("twice", nil, b.twice)}
}

// encode writes both bit sets, little-endian.
func (b *sampleSet) encode() []byte {
	out := make([]byte, 0, 16*len(b.once))
	for _, w := range b.once {
		out = binary.LittleEndian.AppendUint64(out, w)
	}
	for _, w := range b.twice {
		out = binary.LittleEndian.AppendUint64(out, w)
	}
	return out
}

// merge adds what another set of the same epoch, encoded, holds.
func (b *sampleSet) merge(p []byte) error {
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
func (b *sampleSet) audit() (exactly bool, missing, repeated []int) {
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
