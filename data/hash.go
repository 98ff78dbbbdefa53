package data

import (
	"fmt"
	"math"
	"math/bits"
	"sort"

	"github.com/covey-ml/covey/rng"
)

// Feature hashing, the hashing trick (Shi et al., Hash kernels for structured data, JMLR 10, 2009; Weinberger et al., Feature
// hashing for large scale multitask learning, ICML 2009): a feature's number is a hash of what it is, so that no dictionary
// is kept and memory does not grow with the different texts of a file. Features whose hashes are equal are one.
//
// Of a table each column has features of its own, an equal part of them all, so that a sample has at most one in each and
// only texts of one column can meet. Of LIBSVM, whose columns are features already, the index is hashed, and the values of
// indices that meet in a sample are added up. There are no random signs, which Weinberger et al. add so that what meets
// cancels in the mean: indicators stay 0 or 1.
//
// The hash of a text is 64-bit FNV-1a begun at a number that the seed and the column's name give, mixed by SplitMix64's
// finalizer. It is the same on every machine and in every version: trained models depend on it.

// maxHash bounds Options.Hash: columns are int32, and who describes data keeps some bytes for each.
const maxHash = 28

// maxSlots bounds the features of one column of a table, whose numbers a float32 keeps.
const maxSlots = 1 << 24

// Hashing is how features were hashed.
type Hashing struct {
	Bits int    `json:"bits"` // as Options.Hash
	Seed uint64 `json:"seed"`
}

// hasher numbers the features of one column.
type hasher struct{ basis, slots uint64 }

func (h *Hashing) column(name string, slots int) hasher {
	return hasher{rng.Key(h.Seed, "data/hash "+name), uint64(slots)}
}

// slot brings a hash down to a number below slots.
func (h hasher) slot(hash uint64) int {
	hi, _ := bits.Mul64(rng.Mix(hash), h.slots)
	return int(hi)
}

func (h hasher) text(s string) int {
	const prime = 1099511628211
	sum := h.basis
	for i := 0; i < len(s); i++ {
		sum = (sum ^ uint64(s[i])) * prime
	}
	return h.slot(sum)
}

func (h hasher) number(n uint64) int { return h.slot(h.basis ^ rng.Mix(n)) }

// halfOctave numbers a float32's sign, exponent and first bit of mantissa: 0, 1, 2, 3, 4 to below 6, 6 to below 8, 8 to below
// 12 and so on have numbers of their own.
func halfOctave(v float64) uint64 {
	if v == 0 {
		return 0 // whatever its sign
	}
	return uint64(math.Float32bits(float32(v)) >> 22)
}

// hashing is how data is to be hashed, nil for not at all.
func (o *Options) hashing() *Hashing {
	switch {
	case o.Like != nil:
		return o.Like.Hash
	case o.Hash > 0:
		return &Hashing{o.Hash, o.Seed}
	}
	return nil
}

// slotsOf is how many features each of so many columns has.
func (h *Hashing) slotsOf(file string, columns int) (int, error) {
	slots := min(1<<h.Bits/columns, maxSlots)
	if slots < 2 {
		return 0, bad(file, "%d columns are too many for 2^%d hashed features: set hash to at least %d", columns, h.Bits, bits.Len(uint(columns-1))+1)
	}
	return slots, nil
}

// noHash refuses to hash data that has none to hash.
func (o *Options) noHash(name string) error {
	if o.Hash > 0 {
		return fmt.Errorf("%s: has no features to hash, as CSV and LIBSVM have: leave hash out", name)
	}
	return nil
}

// hashed is what becomes of a number.
func (c *column) hashed(v float64) float64 {
	if c.hash.slots > 0 && c.number == numbersByLog {
		return float64(c.hash.number(halfOctave(v)))
	}
	return v
}

// pairs sorts a sample's values by column.
type pairs struct {
	col []int32
	val []float32
}

func (p pairs) Len() int           { return len(p.col) }
func (p pairs) Less(i, j int) bool { return p.col[i] < p.col[j] }
func (p pairs) Swap(i, j int) {
	p.col[i], p.col[j] = p.col[j], p.col[i]
	p.val[i], p.val[j] = p.val[j], p.val[i]
}

// fold brings hashed columns into order, adds up the values of those that are equal, in the order they came, and returns how
// many are left.
func fold(col []int32, val []float32) int {
	sort.Stable(pairs{col, val})
	n := 0
	for i := 0; i < len(col); {
		c, sum := col[i], val[i]
		for i++; i < len(col) && col[i] == c; i++ {
			sum += val[i]
		}
		if sum != 0 {
			col[n], val[n] = c, sum
			n++
		}
	}
	return n
}
