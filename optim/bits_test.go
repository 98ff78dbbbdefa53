package optim

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"testing"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/rng"
)

// TestBits pins every rule and every schedule to the bits they had when this was written, on every processor and with
// every kernel. A change here breaks the resuming of runs: it needs a reason and a line in the changelog.
func TestBits(t *testing.T) {
	const want = "0f3f753758509afcb2da3a98e7cfe7c09cd3aa1aa7e028093d63bc81cc8319de"
	h := sha256.New()
	for _, rule := range every {
		l := layers()
		r := rng.New(9, "test "+rule)
		x := random(r, l.Len())
		o := make1(t, rule, l)
		for step := 1; step <= 5; step++ {
			o.Begin(step, 0.01)
			o.Apply(x, random(r, l.Len()), 0, 1)
		}
		h.Write([]byte(ckpt.WeightsHash(append(o.State(), ckpt.Float32s("x", nil, x)))))
	}
	for _, s := range []string{"constant:warmup=7", "step:every=9,gamma=0.7", "cosine:final=0.01,warmup=3", "linear:scale=sqrt,base=7", "invt:decay=0.3"} {
		sc := schedule(t, s, 0.1, 100, 64)
		for step := 1; step <= 100; step++ {
			if err := binary.Write(h, binary.LittleEndian, sc.Rate(step)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		t.Errorf("the hash is %s, want %s", got, want)
	}
}
