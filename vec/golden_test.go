package vec

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"os"
	"testing"
)

// golden is what every kernel gives on seeded inputs: on amd64 with assembly, on its twins, and on every other
// processor. A change of it is a change of every job's weights, and belongs in the changelog.
const golden = "f4da5e6f4b4175c6043d68ecdc463c8e4e10f779e3af98ec1bd9ece8a568e046"

func TestGolden(t *testing.T) {
	h := sha256.New()
	var buf [4]byte
	for c, k := range kernelCases {
		for _, n := range []int{0, 1, 2, 7, 8, 9, 31, 33, 64, 70, 257} {
			for kind := range numKinds {
				s := newSource(1, kind, uint64(c), uint64(n))
				for _, v := range k.run(s, n) {
					b := math.Float32bits(v)
					if v != v {
						b = 0x7fc00000
					}
					binary.LittleEndian.PutUint32(buf[:], b)
					h.Write(buf[:])
				}
			}
		}
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != golden {
		t.Errorf("the kernels (%s) give %s, want %s", Kernels(), got, golden)
	}
}

func TestKernelsFollowEnvironment(t *testing.T) {
	if os.Getenv("COVEY_NOASM") == "1" && Kernels() != "portable" {
		t.Errorf("COVEY_NOASM=1, yet the kernels are %s", Kernels())
	}
}
